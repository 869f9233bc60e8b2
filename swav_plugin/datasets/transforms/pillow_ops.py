"""Operations on one view with Pillow: the reference for the other two.

The same operations have the same names in three modules:

- `pillow_ops` (this one) has the bytes of torchvision's functional operations
  on Pillow images. The transforms of single images are made of it, and so is
  `MultiCrop` where there is no numba.
- `cpu_ops` (numba) gives the same bytes, with Pillow 13 or newer.
- `device_ops` (torch) differs by 0.15 of 255 on average.

An image or view is (h, w, 3) uint8 RGB and never written to. V: views.
"""

from collections.abc import Callable

import numpy as np
import torchvision.transforms.functional as F
from PIL import Image, ImageFilter

from .view_params import (
    AMOUNT,
    FLIP,
    GRAYSCALE,
    HEIGHT,
    LEFT,
    NOTHING,
    ORDER,
    SIGMA,
    SIZE,
    TOP,
    WIDTH,
)


def cut_views(img: np.ndarray, params: np.ndarray) -> list[np.ndarray]:
    """Cut V views, (size, size, 3) each, out of (H, W, 3).

    Args:
        img: (H, W, 3).
        params: (V, NUM_PARAMS), see `view_params`.
    """
    views = []
    for row in params.tolist():
        top, left, height, width, size = (
            int(row[column]) for column in (TOP, LEFT, HEIGHT, WIDTH, SIZE)
        )
        view = crop_and_resize(img, top, left, height, width, size)
        if row[FLIP]:
            view = flip(view)
        view = jitter_colours(view, row)
        if row[GRAYSCALE]:
            view = to_grayscale(view)
        if row[SIGMA]:
            view = gaussian_blur(view, row[SIGMA])
        views.append(view)
    return views


def crop_and_resize(
    img: np.ndarray, top: int, left: int, height: int, width: int, size: int
) -> np.ndarray:
    """Cut a box out of (H, W, 3) and resize it to (size, size, 3).

    Bilinear with antialiasing.
    """
    # Sliced before Pillow sees it: only the box is copied.
    box = Image.fromarray(img[top : top + height, left : left + width])
    return np.asarray(box.resize((size, size), Image.Resampling.BILINEAR))


def flip(img: np.ndarray) -> np.ndarray:
    """Mirror left to right."""
    return img[:, ::-1]


def jitter_colours(img: np.ndarray, row: list[float]) -> np.ndarray:
    """Make the colour adjustments of a row of parameters, in its order."""
    for adjustment in row[ORDER : ORDER + 4]:
        if adjustment != NOTHING:
            adjust = ADJUST[int(adjustment)]
            img = adjust(img, row[AMOUNT + int(adjustment)])
    return img


def adjust_brightness(img: np.ndarray, factor: float) -> np.ndarray:
    """Move all values away from black (factor > 1) or towards it."""
    return np.asarray(F.adjust_brightness(Image.fromarray(img), factor))


def adjust_contrast(img: np.ndarray, factor: float) -> np.ndarray:
    """Move all values away from the mean luma (factor > 1) or towards it."""
    return np.asarray(F.adjust_contrast(Image.fromarray(img), factor))


def adjust_saturation(img: np.ndarray, factor: float) -> np.ndarray:
    """Move every pixel away from its own luma (factor > 1) or towards it."""
    return np.asarray(F.adjust_saturation(Image.fromarray(img), factor))


def adjust_hue(img: np.ndarray, turns: float) -> np.ndarray:
    """Turn the colour circle, by -0.5 to 0.5 turns."""
    return np.asarray(F.adjust_hue(Image.fromarray(img), turns))


# At the index that `view_params` gives each adjustment.
ADJUST: tuple[Callable[[np.ndarray, float], np.ndarray], ...] = (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    adjust_hue,
)


def to_grayscale(img: np.ndarray) -> np.ndarray:
    """Set all three channels to the luma of ITU-R 601-2, rounded."""
    luma = np.asarray(Image.fromarray(img).convert('L'))
    return np.repeat(luma[..., None], 3, axis=2)


def gaussian_blur(img: np.ndarray, sigma: float) -> np.ndarray:
    """Blur with a standard deviation in pixels, by three box filters."""
    blur = ImageFilter.GaussianBlur(radius=sigma)
    return np.asarray(Image.fromarray(img).filter(blur))
