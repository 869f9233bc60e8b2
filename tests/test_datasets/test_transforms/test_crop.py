"""Crops, flips, rotations: torchvision's pixels and distributions."""

import math

import numpy as np
import pytest
import torch
import torchvision.transforms as T
import torchvision.transforms.functional as F
from PIL import Image
from scipy import stats

from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.transforms import (
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    RandomRotation,
)
from swav_plugin.registry import TRANSFORMS

from ..conftest import resized_crop

# Fixed seeds: a test below either always passes or never. If it was changed
# to other numbers from the right distribution, it fails once in 1,000 times.
MIN_P = 1e-3


@pytest.mark.parametrize(
    'size, ratios', [(224, (0.14, 1.0)), (96, (0.05, 0.14))]
)
def test_crop_pixels_equal_torchvisions(
    photos: list[np.ndarray], size: int, ratios: tuple[float, float]
) -> None:
    rng = np.random.default_rng(0)
    crop = RandomResizedCrop(size, ratios)
    for img in photos:
        box = crop.draw(rng, *img.shape[:2])
        expected = resized_crop(img, box, size)
        np.testing.assert_array_equal(crop.apply(img, box), expected)


@pytest.mark.parametrize(
    'height, width, ratios',
    [
        (375, 500, (0.14, 1.0)),
        (375, 500, (0.05, 0.14)),
        (500, 333, (0.08, 1.0)),
        (160, 160, (0.14, 1.0)),
        (120, 1000, (0.14, 1.0)),
        (5, 7, (0.14, 1.0)),
    ],
)
def test_boxes_are_distributed_as_torchvisions(
    height: int, width: int, ratios: tuple[float, float]
) -> None:
    num_draws = 3000
    rng = np.random.default_rng(0)
    crop = RandomResizedCrop(224, ratios)
    ours = np.array([crop.draw(rng, height, width) for _ in range(num_draws)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        canvas = torch.empty(3, height, width)
        theirs = np.array(
            [
                T.RandomResizedCrop.get_params(
                    canvas, list(ratios), [3 / 4, 4 / 3]
                )
                for _ in range(num_draws)
            ]
        )

    for one, other in zip(
        _box_statistics(ours, height, width),
        _box_statistics(theirs, height, width),
    ):
        assert stats.ks_2samp(one, other, method='asymp').pvalue > MIN_P


def _box_statistics(
    boxes: np.ndarray, height: int, width: int
) -> list[np.ndarray]:
    """Area, aspect, position and center of (N, 4) boxes."""
    top, left, crop_height, crop_width = boxes.T
    return [
        crop_height * crop_width,
        crop_width / crop_height,
        top,
        left,
        top + crop_height / 2,
        left + crop_width / 2,
    ]


def test_area_is_uniform_and_aspect_log_uniform() -> None:
    # Small boxes in a big image: all fit, and rounding does not show.
    rng = np.random.default_rng(0)
    crop = RandomResizedCrop(96, (0.05, 0.14))
    top, left, height, width = np.array(
        [crop.draw(rng, 3000, 4000) for _ in range(3000)]
    ).T
    for values, low, high in (
        (height * width / 12e6, 0.05, 0.14),
        (np.log(width / height), math.log(3 / 4), math.log(4 / 3)),
        (top / (3000 - height), 0, 1),
        (left / (4000 - width), 0, 1),
    ):
        uniform = stats.uniform(low, high - low)
        assert stats.kstest(values, uniform.cdf).pvalue > MIN_P


@pytest.mark.parametrize(
    'height, width',
    [(10, 1000), (1000, 10), (1, 50), (50, 1), (1, 1), (90, 121)],
)
def test_box_that_never_fits_is_the_central_one(
    height: int, width: int
) -> None:
    # More than the whole area: torchvision then falls back, too.
    expected = T.RandomResizedCrop.get_params(
        torch.empty(3, height, width), [4.0, 4.0], [3 / 4, 4 / 3]
    )
    crop = RandomResizedCrop(96, (1.0, 1.0), (3 / 4, 4 / 3))
    crop.crop_ratio_range = (4.0, 4.0)
    assert crop.draw(np.random.default_rng(0), height, width) == expected


def test_thin_image_has_at_least_one_pixel() -> None:
    crop = RandomResizedCrop(8, (0.5, 1.0), (3.0, 4.0))
    img = np.full((300, 1, 3), 7, np.uint8)
    box = crop.draw(np.random.default_rng(0), 300, 1)
    assert box == (149, 0, 1, 1)
    assert (crop.apply(img, box) == 7).all()


@pytest.mark.parametrize('size', [0, -1, 1.5])
def test_crop_size(size: int) -> None:
    with pytest.raises(ValueError, match=f'size={size}; give the size of the'):
        RandomResizedCrop(size)


def test_old_name_of_size() -> None:
    with pytest.warns(FutureWarning, match=r'Crop\(scale=...\) is now siz'):
        crop = TRANSFORMS.build(dict(type='RandomResizedCrop', scale=32))
    assert crop.size == 32


@pytest.mark.parametrize(
    'arguments, message',
    [
        (
            dict(crop_ratio_range=(0.14, 1.4)),
            r'crop_ratio_range=\(0.14, 1.4\)',
        ),
        (dict(crop_ratio_range=(1.0, 0.14)), 'within'),
        (dict(aspect_ratio_range=(2.0, 1.0)), 'width / height'),
    ],
)
def test_crop_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomResizedCrop(224, **arguments)


def test_flip_mirrors_left_to_right_half_of_the_time() -> None:
    img = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    flip = RandomFlip()
    num_flipped = 0
    for index in range(2000):
        flipped = flip(dict(img=img, sample_idx=SampleKey(index, 0, 0)))['img']
        if not np.array_equal(flipped, img):
            num_flipped += 1
            np.testing.assert_array_equal(flipped, img[:, [1, 0]])
    assert stats.binomtest(num_flipped, 2000, 0.5).pvalue > MIN_P


@pytest.mark.parametrize('fill', [0, 128])
def test_rotation_pixels_equal_torchvisions(
    photos: list[np.ndarray], fill: int
) -> None:
    rng = np.random.default_rng(0)
    rotate = RandomRotation(0.5, fill)
    for img in photos[:4]:
        angle = rotate.draw(rng, *img.shape[:2])
        expected = F.rotate(
            Image.fromarray(img),
            math.degrees(angle),
            T.InterpolationMode.BILINEAR,
            fill=[fill] * 3,
        )
        turned = rotate.apply(img, angle)
        assert turned.shape == img.shape
        np.testing.assert_array_equal(turned, expected)


def test_positive_angle_turns_counter_clockwise() -> None:
    img = np.zeros((5, 5, 3), np.uint8)
    img[2, 4] = 200  # right of the center
    turned = RandomRotation(2.0).apply(img, math.pi / 2)
    assert turned[0, 2, 0] == 200  # above the center


def test_angle_is_uniform() -> None:
    rng = np.random.default_rng(0)
    rotate = RandomRotation(0.2)
    angles = [rotate.draw(rng, 32, 32) for _ in range(3000)]
    assert stats.kstest(angles, stats.uniform(-0.2, 0.4).cdf).pvalue > MIN_P


@pytest.mark.parametrize('padding', [0, 4])
def test_random_crop_equals_torchvisions(
    photos: list[np.ndarray], padding: int
) -> None:
    crop = RandomCrop(32, padding)
    for img in photos:
        img = img[:40, :50]
        top, left = crop.draw(np.random.default_rng(1), *img.shape[:2])
        padded = F.pad(Image.fromarray(img), [padding] * 4)
        np.testing.assert_array_equal(
            crop.apply(img, (top, left)), F.crop(padded, top, left, 32, 32)
        )


def test_random_crops_reach_all_positions_equally() -> None:
    crop = RandomCrop(4, padding=1)
    rng = np.random.default_rng(0)
    drawn = np.array([crop.draw(rng, 5, 4) for _ in range(1200)])
    counts = np.zeros((4, 3))
    np.add.at(counts, tuple(drawn.T), 1)
    assert stats.chisquare(counts.reshape(-1)).pvalue > MIN_P


def test_a_random_crop_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match='out of 5x4 px with padding=1'):
        RandomCrop(7, padding=1)(dict(img=np.zeros((5, 4, 3), np.uint8)))
    with pytest.raises(ValueError, match='crop_size=0'):
        RandomCrop(0)
