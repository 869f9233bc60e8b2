"""Everything that happens around the model while it trains."""

from swav_plugin.checkpoints.atomic import AtomicBackend

from .cpu import CPUAmpOptimWrapper, CPUDistributedDataParallel
from .hooks import (
    CheckpointHook,
    DeferredRuntimeInfoHook,
    FiniteHook,
    HealthHook,
    PicturesHook,
    PretrainedHook,
    ResultsHook,
    ScalarHistory,
    SkippedImagesHook,
    SwAVHook,
)
from .lars import LARS
from .log_processor import SwAVLogProcessor
from .probe_optim import ProbeOptimConstructor

__all__ = [
    'LARS',
    'AtomicBackend',
    'CPUAmpOptimWrapper',
    'CPUDistributedDataParallel',
    'CheckpointHook',
    'DeferredRuntimeInfoHook',
    'FiniteHook',
    'HealthHook',
    'PicturesHook',
    'PretrainedHook',
    'ProbeOptimConstructor',
    'ResultsHook',
    'ScalarHistory',
    'SkippedImagesHook',
    'SwAVHook',
    'SwAVLogProcessor',
]
