"""Image folders, list files and the random views of their images."""

from . import transforms
from .collate import ImageBatch, collate_views
from .image_folder import ImageFolder
from .sampler import KeyedSampler, SampleKey
from .voc07 import VOC07

__all__ = [
    'VOC07',
    'ImageBatch',
    'ImageFolder',
    'KeyedSampler',
    'SampleKey',
    'collate_views',
    'transforms',
]
