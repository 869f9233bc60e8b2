"""Models: SwAV, its parts, and what evaluation puts on a backbone."""

from .data_preprocessor import MultiViewPreprocessor
from .feature_queue import FeatureQueue
from .linear_probe import LinearProbe
from .multi_linear_head import MultiLinearHead
from .res_layer_extra_norm import ResLayerExtraNorm
from .resnet import ResNetWithStem
from .swav import SwAV
from .swav_head import SwAVHead
from .swav_neck import SwAVNeck

__all__ = [
    'FeatureQueue',
    'LinearProbe',
    'MultiLinearHead',
    'MultiViewPreprocessor',
    'ResLayerExtraNorm',
    'ResNetWithStem',
    'SwAV',
    'SwAVHead',
    'SwAVNeck',
]
