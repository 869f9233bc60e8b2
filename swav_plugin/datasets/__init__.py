"""Image folders, list files and the random views of their images."""

from . import transforms
from .cifar import CIFAR10, CIFAR100
from .collate import ImageBatch, collate_views
from .image_folder import ImageFolder
from .sampler import KeyedSampler, SampleKey
from .voc07 import VOC07

__all__ = [
    'CIFAR10',
    'CIFAR100',
    'VOC07',
    'ImageBatch',
    'ImageFolder',
    'KeyedSampler',
    'SampleKey',
    'collate_views',
    'transforms',
]
