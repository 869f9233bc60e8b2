"""Everything that happens around the model while it trains."""

from .atomic_backend import AtomicBackend
from .cpu import CPUAmpOptimWrapper, CPUDistributedDataParallel
from .lars import LARS
from .log_processor import SwAVLogProcessor
from .pictures_hook import PicturesHook
from .pretrained_hook import PretrainedHook
from .probe_optim import ProbeOptimConstructor
from .results_hook import ResultsHook
from .runtime_info_hook import DeferredRuntimeInfoHook, ScalarHistory
from .skipped_images_hook import SkippedImagesHook
from .swav_hook import SwAVHook

__all__ = [
    'LARS',
    'AtomicBackend',
    'CPUAmpOptimWrapper',
    'CPUDistributedDataParallel',
    'DeferredRuntimeInfoHook',
    'PicturesHook',
    'PretrainedHook',
    'ProbeOptimConstructor',
    'ResultsHook',
    'ScalarHistory',
    'SkippedImagesHook',
    'SwAVHook',
    'SwAVLogProcessor',
]
