"""From an image file to the views of it that the model takes."""

from .crop import RandomCrop, RandomFlip, RandomResizedCrop, RandomRotation
from .formatting import PackViews
from .loading import LoadImage, UnreadableImage, read_rgb
from .multi_crop import MultiCrop
from .multi_view import MultiView
from .photometric import ColorJitter, GaussianBlur, Lighting, RandomGrayscale
from .randomness import RandomTransform, sample_rng

__all__ = [
    'ColorJitter',
    'GaussianBlur',
    'Lighting',
    'LoadImage',
    'MultiCrop',
    'MultiView',
    'PackViews',
    'RandomCrop',
    'RandomFlip',
    'RandomGrayscale',
    'RandomResizedCrop',
    'RandomRotation',
    'RandomTransform',
    'UnreadableImage',
    'read_rgb',
    'sample_rng',
]
