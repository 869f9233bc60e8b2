"""Compiled operations: the bytes of torchvision's functional ones on Pillow.

The references are Pillow's and torchvision's own functions, not the
transforms of this package.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision.transforms.functional as F
from PIL import Image, ImageFilter

from swav_plugin.compat import jit
from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.transforms import MultiCrop, read_rgb
from swav_plugin.datasets.transforms.cpu_ops import (
    _cut_views,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    crop_and_resize,
    cut_views,
    gaussian_blur,
    to_grayscale,
)
from swav_plugin.datasets.transforms.cpu_resize import resize_weights
from swav_plugin.datasets.transforms.view_params import (
    draw_view_params,
)

from ..conftest import resized_crop, torchvision_view

pytestmark = pytest.mark.skipif(
    jit.NO_NUMBA is not None, reason=f'no numba: {jit.NO_NUMBA}'
)

RNG = np.random.default_rng(0)
FACTORS = [
    0.0,
    1e-6,
    0.2,
    0.5,
    0.999,
    1.0,
    1.001,
    1.8,
    3.7,
    1e6,
    *RNG.uniform(0, 3, 8).tolist(),
]
ADJUST: list[Callable] = [
    F.adjust_brightness,
    F.adjust_contrast,
    F.adjust_saturation,
    F.adjust_hue,
]


def noise(height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8, anything."""
    return RNG.integers(256, size=(height, width, 3), dtype=np.uint8)


def images(size: int) -> list[np.ndarray]:
    """Noise, a smooth picture, grays, black and white of (size, size, 3)."""
    smooth = Image.fromarray(noise(3, 3)).resize((size, size))
    return [
        noise(size, size),
        np.asarray(smooth),
        np.repeat(noise(size, size)[..., :1], 3, axis=2),
        np.zeros((size, size, 3), np.uint8),
        np.full((size, size, 3), 255, np.uint8),
    ]


def planar(img: np.ndarray) -> np.ndarray:
    """(size, size, 3) -> a copy of (3, size, size)."""
    return img.transpose(2, 0, 1).copy()


def check_resize(
    img: np.ndarray,
    box: tuple[int, int, int, int],
    size: int,
    is_flipped: bool = False,
) -> None:
    """Compare with torchvision."""
    view = np.full((3, size, size), 77, np.uint8)
    crop_and_resize(img, *box, is_flipped, view)
    ours = view.transpose(1, 2, 0)[:, :: -1 if is_flipped else 1]
    np.testing.assert_array_equal(ours, resized_crop(img, box, size))


@pytest.mark.parametrize('size', [1, 2, 7, 18, 64, 90, 96, 224])
def test_resize(size: int) -> None:
    img = noise(150, 180)
    for number in range(40):
        height, width = RNG.integers(1, [151, 181]).tolist()
        if number % 4 == 0:  # about where the order of the directions changes
            height = int(
                np.clip(
                    size + 2 * (width - size) + RNG.integers(-1, 2), 1, 150
                )
            )
        elif number % 4 == 1:  # tiny, or one direction stays
            height, width = RNG.permutation(
                [min(size, 150), RNG.integers(1, 9)]
            ).tolist()
        top, left = RNG.integers([151 - height, 181 - width]).tolist()
        check_resize(img, (top, left, height, width), size, number % 2 == 1)


@pytest.mark.parametrize(
    'height, width',
    [
        (1, 1),
        (1, 700),
        (700, 1),
        (2, 3),
        (96, 96),
        (12000, 9),
        (9, 12000),
        (3000, 4000),
    ],
)
def test_resize_whole_images_of_any_shape(height: int, width: int) -> None:
    check_resize(noise(height, width), (0, 0, height, width), 96)


@pytest.mark.parametrize('new', [1, 2, 3, 7, 96])
def test_white_is_never_exceeded(new: int) -> None:
    # Rounded weights do not add up to one: a byte of 256 would be black.
    for old in [*range(1, 3000, 7), 12000, 65535]:
        _, _, weights = resize_weights(old, new, False)
        assert (weights.sum(axis=1) * 255 + 2**21 < 2**30).all()


@pytest.mark.parametrize(
    'ours, theirs',
    [
        (adjust_brightness, F.adjust_brightness),
        (adjust_contrast, F.adjust_contrast),
        (adjust_saturation, F.adjust_saturation),
    ],
)
@pytest.mark.parametrize('size', [1, 2, 7, 96])
def test_factors(ours: Callable, theirs: Callable, size: int) -> None:
    for img in images(size):
        for factor in FACTORS:
            view = planar(img)
            ours(view, factor)
            np.testing.assert_array_equal(
                view.transpose(1, 2, 0), theirs(Image.fromarray(img), factor)
            )


@pytest.mark.parametrize(
    'turns',
    [
        -0.5,
        -0.2,
        -0.1234,
        -1 / 255,
        -0.001,
        0.0,
        0.001,
        1 / 255,
        0.0777,
        0.2,
        0.5,
    ],
)
def test_hue(turns: float) -> None:
    for img in images(96) + images(1):
        view = planar(img)
        adjust_hue(view, turns)
        np.testing.assert_array_equal(
            view.transpose(1, 2, 0), F.adjust_hue(Image.fromarray(img), turns)
        )


def test_hue_and_grayscale_of_all_colors() -> None:
    colors = (
        np.arange(2**24, dtype='<u4')
        .view(np.uint8)
        .reshape(4096, 4096, 4)[..., :3]
    )
    expected = F.adjust_hue(Image.fromarray(colors), 0.15)
    view = planar(colors)
    adjust_hue(view, 0.15)
    np.testing.assert_array_equal(view.transpose(1, 2, 0), expected)

    view = planar(colors)
    to_grayscale(view)
    for channel in view:
        np.testing.assert_array_equal(
            channel, Image.fromarray(colors).convert('L')
        )


@pytest.mark.parametrize(
    'sigma',
    [
        1e-8,
        1e-3,
        0.1,
        0.5,
        1.0,
        2**0.5,
        2.0,
        6**0.5,
        2.45,
        3.0,
        5.0,
        10.0,
        30.0,
        100.0,
    ],
)
def test_blur(sigma: float) -> None:
    for size in (1, 2, 3, 7, 96):
        for img in images(size)[:3]:
            view = planar(img)
            gaussian_blur(view, sigma)
            np.testing.assert_array_equal(
                view.transpose(1, 2, 0),
                Image.fromarray(img).filter(ImageFilter.GaussianBlur(sigma)),
            )


def test_blur_of_any_sigma() -> None:
    img = noise(20, 20)
    for sigma in RNG.uniform(0, 8, 500).tolist():
        view = planar(img)
        gaussian_blur(view, sigma)
        np.testing.assert_array_equal(
            view.transpose(1, 2, 0),
            Image.fromarray(img).filter(ImageFilter.GaussianBlur(sigma)),
        )


def test_photos_through_the_whole_chain(test_data: Path) -> None:
    multi_crop = MultiCrop([2, 6], [224, 96], [(0.14, 1.0), (0.05, 0.14)])
    paths = sorted((test_data / 'photos').iterdir())[:128]
    assert len(paths) * 8 >= 1000
    for number, path in enumerate(paths):
        img = read_rgb(path)
        params = draw_view_params(
            SampleKey(number, 0, 0), *img.shape[:2], multi_crop.recipe
        )
        for view, row in zip(multi_crop.cut(img, params), params.tolist()):
            np.testing.assert_array_equal(view, torchvision_view(img, row))


def test_one_type_of_image_is_compiled() -> None:
    multi_crop = MultiCrop([1], [8], [(0.5, 1.0)])
    num_compiled = len(_cut_views.signatures)  # type: ignore[attr-defined]
    img = noise(20, 30)
    img.flags.writeable = False
    for other in (img, img[:, ::-1], img[::2], np.asfortranarray(img)):
        params = draw_view_params(
            SampleKey(0, 0, 0), *other.shape[:2], multi_crop.recipe
        )
        (view,) = cut_views(other, params)
        np.testing.assert_array_equal(
            view, torchvision_view(other, params[0].tolist())
        )
    assert len(_cut_views.signatures) == (  # type: ignore[attr-defined]
        num_compiled
    )
