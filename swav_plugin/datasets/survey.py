"""Look at a folder of images: how many, how large, in which colors."""

import math
import os
from dataclasses import dataclass

import numpy as np

from .image_search import class_names, search_images
from .transforms.pillow_files import open_image, stored_shape

MAX_OPENED = 500
_GRAY_MODES = ('1', 'L', 'LA', 'La', 'I', 'F')


@dataclass(frozen=True)
class ImageSurvey:
    """What is known of the images in a folder.

    Args:
        num_images: How many there are, by extension.
        num_opened: Of how many the header was read, spread over the folder.
        num_unreadable: How many of those could not be opened.
        short_edge: Three of four images are at least as wide and high as
            this, in pixels.
        mean_pixels: Height times width, on average.
        is_gray: No image opened has colors.
        num_classes: Number of class folders; None if there is one at most, or
            some image is in none.
    """

    num_images: int
    num_opened: int
    num_unreadable: int
    short_edge: int
    mean_pixels: float
    is_gray: bool
    num_classes: int | None


def survey_images(root: str, max_opened: int = MAX_OPENED) -> ImageSurvey:
    """Count the images in a folder, and read the headers of some.

    Pixels are not decoded, so a gray picture that is stored as RGB counts as
    colored.

    Args:
        root: The folder; it is searched as `ImageFolder` does.
        max_opened: How many headers to read, evenly spread.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: There are no images, or none can be read.
    """
    found = search_images(root)
    step = max(1, math.ceil(len(found.files) / max_opened))
    shapes, is_gray = [], []
    chosen = found.files[::step]
    for file in chosen:
        try:
            with open_image(os.path.join(root, file)) as image:
                shapes.append(stored_shape(image))
                is_gray.append(image.mode.split(';')[0] in _GRAY_MODES)
        except Exception:  # whatever Pillow raises: counted
            continue
    if not shapes:
        raise ValueError(
            f'{root}: none of the {len(chosen)} images that were tried can be '
            'opened; check the data'
        )
    sizes = np.array(shapes)
    has_classes = all(os.sep in file for file in found.files)
    num_classes = len(class_names(root)) if has_classes else 0
    return ImageSurvey(
        num_images=len(found.files),
        num_opened=len(shapes),
        num_unreadable=len(chosen) - len(shapes),
        short_edge=int(np.percentile(sizes.min(axis=1), 25)),
        mean_pixels=float(sizes.prod(axis=1).mean()),
        is_gray=all(is_gray),
        num_classes=num_classes if num_classes > 1 else None,
    )
