"""Hooks: when something happens during training or evaluation."""

from .checkpoint import CheckpointHook
from .finite import FiniteHook
from .health import HealthHook
from .pictures import PicturesHook
from .pretrained import PretrainedHook
from .results import ResultsHook
from .runtime_info import DeferredRuntimeInfoHook, ScalarHistory
from .skipped_images import SkippedImagesHook
from .swav import SwAVHook

__all__ = [
    'CheckpointHook',
    'DeferredRuntimeInfoHook',
    'FiniteHook',
    'HealthHook',
    'PicturesHook',
    'PretrainedHook',
    'ResultsHook',
    'ScalarHistory',
    'SkippedImagesHook',
    'SwAVHook',
]
