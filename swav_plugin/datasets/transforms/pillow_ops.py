"""Operations on one view with Pillow: the reference for the other two.

The same operations have the same names in three modules:

- `pillow_ops` (this one) has the bytes of torchvision's functional operations
  on images of Pillow 13, also with older versions. The transforms of single
  images are made of it, and so is `MultiCrop` where there is no numba.
- `cpu_ops` (numba) gives the same bytes.
- `device_ops` (torch) differs by 0.15 of 255 on average.

An image or view is (h, w, 3) uint8 RGB and never written to. The adjust_*
functions are torchvision's own, on Pillow images. V: views.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageFilter
from torchvision.transforms.functional import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
)

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

# At the index that `view_params` gives each adjustment.
_ADJUST = (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    adjust_hue,
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
        order = [int(i) for i in row[ORDER : ORDER + 4] if i != NOTHING]
        view = jitter_colors(view, [(i, row[AMOUNT + i]) for i in order])
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
    # Pillow resizes horizontally first, and since version 13 vertically first
    # where that leaves less to do. Values are rounded in between, so the older
    # versions are made to do the same.
    if height - size > max(0, 2 * (width - size)):
        box = box.resize((width, size), Image.Resampling.BILINEAR)
    return np.asarray(box.resize((size, size), Image.Resampling.BILINEAR))


def flip(img: np.ndarray) -> np.ndarray:
    """Mirror left to right."""
    return img[:, ::-1]


def jitter_colors(
    img: np.ndarray, adjustments: Iterable[tuple[int, float]]
) -> np.ndarray:
    """Make color adjustments, each with its amount, one after another."""
    pil_img = Image.fromarray(img)
    for adjustment, amount in adjustments:
        pil_img = _ADJUST[adjustment](pil_img, amount)
    return np.asarray(pil_img)


def to_grayscale(img: np.ndarray) -> np.ndarray:
    """Set all three channels to the luma of ITU-R 601-2, rounded."""
    luma = np.asarray(Image.fromarray(img).convert('L'))
    return np.repeat(luma[..., None], 3, axis=2)


def gaussian_blur(img: np.ndarray, sigma: float) -> np.ndarray:
    """Blur with a standard deviation in pixels, by three box filters."""
    blur = ImageFilter.GaussianBlur(radius=sigma)
    return np.asarray(Image.fromarray(img).filter(blur))
