"""From an image file to the views of it that the model takes.

`MultiCrop` makes the views of SwAV's recipe, `MultiView` those of any other
transforms. The operations that both are made of exist three times, with the
same names: in `pillow_ops`, the reference; compiled, in `cpu_ops`; and for a
batch on a GPU, in `device_ops`.
"""

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
