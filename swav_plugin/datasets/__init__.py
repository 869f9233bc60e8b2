"""Image folders, list files and the random views of their images."""
from . import transforms
from .image_folder import ImageFolder
from .sampler import KeyedSampler, SampleKey

__all__ = ['ImageFolder', 'KeyedSampler', 'SampleKey', 'transforms']
