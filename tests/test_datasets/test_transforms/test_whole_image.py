"""Whole images: as they are, or shrunk where no view can tell."""

import numpy as np
import pytest

from swav_plugin.datasets.transforms.view_params import (
    HEIGHT,
    LEFT,
    NUM_PARAMS,
    SIZE,
    TOP,
    WIDTH,
)
from swav_plugin.datasets.transforms.whole_image import whole_image


def rows(*boxes: tuple[float, ...]) -> np.ndarray:
    """Rows of (size, top, left, height, width), the rest is 7."""
    params = np.full((len(boxes), NUM_PARAMS), 7.0)
    params[:, [SIZE, TOP, LEFT, HEIGHT, WIDTH]] = boxes
    return params


def image(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(height, width, 3), dtype=np.uint8)


def test_pixels_are_means_and_boxes_follow() -> None:
    img = image(61, 90)
    params = rows((4, 10, 20, 30, 50), (5, 3, 0, 40, 30))
    # 30 / (2 * 4) = 3.75 and 30 / (2 * 5) = 3: three pixels become one.
    shrunk = whole_image(img, params)
    assert shrunk.pixels.shape == (21, 30, 3)
    means = img[:60].reshape(20, 3, 30, 3, 3).mean((1, 3))
    assert np.abs(shrunk.pixels[:20] - means).max() < 0.6
    expected = rows((4, 10 / 3, 20 / 3, 10, 50 / 3), (5, 1, 0, 40 / 3, 10))
    np.testing.assert_allclose(shrunk.params, expected, rtol=1e-12)
    # The caller's rows are as before.
    assert params[0, TOP] == 10


@pytest.mark.parametrize(
    'boxes',
    [
        [(4, 0, 0, 15, 60)],  # its height would be short of 2 * 4
        [(4, 0, 0, 40, 60), (8, 0, 0, 31, 31)],
        [(300, 0, 0, 40, 60)],
    ],
)
def test_no_view_goes_short_of_pixels(boxes: list[tuple]) -> None:
    img = image(40, 60)
    kept = whole_image(img, rows(*boxes))
    assert kept.pixels is img
    np.testing.assert_array_equal(kept.params, rows(*boxes))


def test_huge_image_becomes_small() -> None:
    # Boxes of 5 % and 14 % of 12,000x9,000 pixels, as SwAV's smallest.
    params = rows((96, 0, 0, 2012, 2683), (224, 0, 0, 3367, 4490))
    shrunk = whole_image(np.zeros((9000, 12000, 3), np.uint8), params)
    assert shrunk.pixels.shape == (1286, 1715, 3)
