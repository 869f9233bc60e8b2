"""Color and blur: torchvision's and Pillow's pixels and distributions."""

from collections import Counter
from itertools import permutations
from unittest import mock

import mmcv
import numpy as np
import pytest
import torchvision.transforms.functional as F
from PIL import Image, ImageEnhance, ImageFilter
from scipy import stats

from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.transforms import (
    ColorJitter,
    GaussianBlur,
    Lighting,
    RandomGrayscale,
    RandomTransform,
)

MIN_P = 1e-3  # with fixed seeds; see test_crop.py

# Pillow's own operations, not the ones that ColorJitter goes through.
REFERENCE = dict(
    brightness=lambda img, by: ImageEnhance.Brightness(img).enhance(by),
    contrast=lambda img, by: ImageEnhance.Contrast(img).enhance(by),
    saturation=lambda img, by: ImageEnhance.Color(img).enhance(by),
    hue=F.adjust_hue,
)


def swav_jitter() -> ColorJitter:
    """The jitter of SwAV's recipe."""
    return ColorJitter(0.8, 0.8, 0.8, 0.2, prob=0.8)


@pytest.mark.parametrize(
    'adjustment, factors',
    [
        ('brightness', (0.2, 1.8)),
        ('contrast', (0.2, 1.8)),
        ('saturation', (0.2, 1.8)),
        ('hue', (-0.2, 0.2)),
    ],
)
def test_each_adjustment_equals_pillows(
    photos: list[np.ndarray], adjustment: str, factors: tuple[float, ...]
) -> None:
    for img in photos[:4]:
        for factor in factors:
            ours = swav_jitter().apply(img, [(adjustment, factor)])
            expected = REFERENCE[adjustment](Image.fromarray(img), factor)
            np.testing.assert_array_equal(ours, expected)


def test_adjustments_together_equal_pillows(photos: list[np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    jitter = swav_jitter()
    for img in photos:
        params = jitter.draw(rng, *img.shape[:2])
        expected = Image.fromarray(img)
        for adjustment, factor in params:
            expected = REFERENCE[adjustment](expected, factor)
        np.testing.assert_array_equal(jitter.apply(img, params), expected)


def test_factors_are_uniform() -> None:
    rng = np.random.default_rng(0)
    jitter = ColorJitter(0.8, 0.4, 1.5, 0.2)
    drawn = [dict(jitter.draw(rng, 8, 8)) for _ in range(3000)]
    for adjustment, low, high in (
        ('brightness', 0.2, 1.8),
        ('contrast', 0.6, 1.4),
        ('saturation', 0.0, 2.5),
        ('hue', -0.2, 0.2),
    ):
        values = [factors[adjustment] for factors in drawn]
        uniform = stats.uniform(low, high - low)
        assert stats.kstest(values, uniform.cdf).pvalue > MIN_P
    # The four are drawn independently of each other.
    columns = np.array(
        [[factors[name] for name in REFERENCE] for factors in drawn]
    )
    correlation = np.corrcoef(columns.T) - np.eye(4)
    assert abs(correlation).max() < 4 / np.sqrt(3000)


def test_all_orders_are_equally_likely() -> None:
    rng = np.random.default_rng(0)
    jitter = swav_jitter()
    orders = Counter(
        tuple(adjustment for adjustment, _ in jitter.draw(rng, 8, 8))
        for _ in range(4800)
    )
    assert set(orders) == set(permutations(REFERENCE))
    assert stats.chisquare(list(orders.values())).pvalue > MIN_P


def test_adjustment_of_strength_zero_is_left_out() -> None:
    jitter = ColorJitter(brightness=0.2)
    ((adjustment, factor),) = jitter.draw(np.random.default_rng(0), 8, 8)
    assert adjustment == 'brightness' and 0.8 <= factor <= 1.2
    assert ColorJitter().draw(np.random.default_rng(0), 8, 8) == []


@pytest.mark.parametrize(
    'transform, prob',
    [(swav_jitter(), 0.8), (RandomGrayscale(), 0.2), (GaussianBlur(), 0.5)],
)
def test_share_of_images_touched(
    transform: RandomTransform, prob: float
) -> None:
    img = np.array([[[250, 10, 20], [0, 200, 100]]], np.uint8).repeat(4, 0)
    touched = 0
    for index in range(2000):
        results = dict(img=img, sample_idx=SampleKey(index, 0, 0))
        touched += transform(results)['img'] is not img
    assert stats.binomtest(touched, 2000, prob).pvalue > MIN_P


@pytest.mark.parametrize('strengths', [(-0.1, 0, 0, 0), (0, 0, 0, 0.6)])
def test_jitter_strengths(strengths: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r'hue in \[0, .5\]'):
        ColorJitter(*strengths)


def test_grayscale_equals_torchvisions(photos: list[np.ndarray]) -> None:
    for img in photos:
        np.testing.assert_array_equal(
            RandomGrayscale().apply(img, None),
            F.rgb_to_grayscale(Image.fromarray(img), num_output_channels=3),
        )


@pytest.mark.parametrize('sigma', [0.1, 0.7, 2.0])
def test_blur_equals_pillows(photos: list[np.ndarray], sigma: float) -> None:
    for img in photos[:4]:
        np.testing.assert_array_equal(
            GaussianBlur().apply(img, sigma),
            Image.fromarray(img).filter(ImageFilter.GaussianBlur(sigma)),
        )


def test_sigma_is_a_standard_deviation_in_pixels() -> None:
    # Blur a bright line: its profile is the kernel.
    img = np.zeros((65, 65, 3), np.uint8)
    img[:, 32] = 255
    profile = GaussianBlur().apply(img, 4.0)[32, :, 0].astype(float)
    offsets = np.arange(65) - 32
    variance = (profile * offsets**2).sum() / profile.sum()
    assert variance**0.5 == pytest.approx(4.0, rel=0.05)  # three boxes, 8 bits


def test_sigma_is_uniform() -> None:
    rng = np.random.default_rng(0)
    blur = GaussianBlur()
    sigmas = [blur.draw(rng, 8, 8) for _ in range(3000)]
    assert stats.kstest(sigmas, stats.uniform(0.1, 1.9).cdf).pvalue > MIN_P


def test_sigma_range_in_order() -> None:
    with pytest.raises(ValueError, match=r'sigma_range=\(2.0, 0.1\)'):
        GaussianBlur(sigma_range=(2.0, 0.1))


def test_lighting_equals_mmcvs(photos: list[np.ndarray]) -> None:
    """With mmpretrain's table for ImageNet, whose order is B, G, R."""
    eigenvalues = np.array([55.4625, 4.7940, 1.1475])
    eigenvectors = np.array(
        [
            [-0.5836, -0.6948, 0.4203],
            [-0.5808, -0.0045, -0.8140],
            [-0.5675, 0.7192, 0.4009],
        ]
    )
    for seed, img in enumerate(photos):
        lighting = Lighting(alphastd=3.0)
        ours = lighting.apply(
            img, lighting.draw(np.random.default_rng(seed), 8, 8)
        )
        alphas = np.random.default_rng(seed).normal(0, 3.0, 3)
        with mock.patch('numpy.random.normal', lambda *_: alphas):
            theirs = mmcv.adjust_lighting(
                img[..., ::-1],
                eigenvalues,
                eigenvectors,
                alphastd=3.0,
                to_rgb=False,
            )[..., ::-1]
        assert abs(theirs - img).max() > 1
        np.testing.assert_allclose(ours, theirs.clip(0, 255), atol=0.501)


def test_lighting_is_the_covariance_of_imagenet() -> None:
    lighting = Lighting(alphastd=1.0)
    rng = np.random.default_rng(0)
    shifts = np.array([lighting.draw(rng, 8, 8) for _ in range(20000)]) / 255
    eigenvalues, eigenvectors = np.linalg.eigh(np.cov(shifts.T))
    np.testing.assert_allclose(
        np.sqrt(eigenvalues), [0.0045, 0.0188, 0.2175], rtol=0.03
    )
    # Brighter or darker as a whole, most of all.
    np.testing.assert_allclose(
        abs(eigenvectors[:, -1]), [0.5675, 0.5808, 0.5836], atol=0.01
    )
