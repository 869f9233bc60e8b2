"""Images for the tests of datasets and transforms."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image, ImageFilter
from torchvision.transforms import functional as F

from swav_plugin.datasets.transforms import read_rgb
from swav_plugin.datasets.transforms.view_params import (
    ADJUSTMENTS,
    AMOUNT,
    FLIP,
    GRAYSCALE,
    NOTHING,
    ORDER,
    SIGMA,
    SIZE,
    TOP,
    WIDTH,
)


def write_image(
    path: Path, seed: int, height: int = 40, width: int = 60
) -> np.ndarray:
    """Write a colorful PNG or JPEG, making folders; gives its pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(256, size=(5, 7, 3), dtype=np.uint8)
    img = Image.fromarray(coarse).resize((width, height))
    path.parent.mkdir(parents=True, exist_ok=True)
    img.save(path)
    return np.asarray(img)


@pytest.fixture(scope='session')
def photos(test_data: Path) -> list[np.ndarray]:
    """A few real photographs, (H, W, 3) uint8 RGB."""
    paths = sorted((test_data / 'photos').iterdir())[::14]
    return [read_rgb(path) for path in paths]


def resized_crop(
    img: np.ndarray, box: tuple[int, int, int, int], size: int
) -> Image.Image:
    """Return torchvision's resized_crop on images of Pillow 13.

    Older versions resize horizontally first, always: values differ by one.
    """
    if int(PIL.__version__.split('.')[0]) >= 13:
        bilinear = F.InterpolationMode.BILINEAR
        return F.resized_crop(
            Image.fromarray(img), *box, [size, size], bilinear
        )
    top, left, height, width = box
    crop = Image.fromarray(img[top : top + height, left : left + width])
    is_vertical_first = height - size > max(0, 2 * (width - size))
    between = (width, size) if is_vertical_first else (size, height)
    for shape in (between, (size, size)):
        crop = crop.resize(shape, Image.Resampling.BILINEAR)
    return crop


def torchvision_view(img: np.ndarray, row: Sequence[float]) -> np.ndarray:
    """Cut one view, (size, size, 3), with torchvision's own operations.

    Args:
        img: (H, W, 3).
        row: (NUM_PARAMS,), see `view_params`.
    """
    top, left, height, width = map(int, row[TOP : WIDTH + 1])
    view = resized_crop(img, (top, left, height, width), int(row[SIZE]))
    if row[FLIP]:
        view = F.hflip(view)
    for adjustment in map(int, row[ORDER : ORDER + 4]):
        if adjustment != NOTHING:
            adjust = getattr(F, f'adjust_{ADJUSTMENTS[adjustment]}')
            view = adjust(view, float(row[AMOUNT + adjustment]))
    if row[GRAYSCALE]:
        view = F.rgb_to_grayscale(view, num_output_channels=3)
    if row[SIGMA]:
        view = view.filter(ImageFilter.GaussianBlur(float(row[SIGMA])))
    return np.asarray(view)
