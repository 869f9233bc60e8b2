"""MultiCrop: the views of the separate transforms, of a key and no other."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swav_plugin.compat import jit
from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.transforms import (
    ColorJitter,
    MultiCrop,
    MultiView,
    PackViews,
    multi_crop,
)
from swav_plugin.datasets.transforms.view_params import (
    FLIP,
    GRAYSCALE,
    NUM_PARAMS,
    ORDER,
    SIGMA,
)
from swav_plugin.registry import TRANSFORMS

KEY = SampleKey(7, epoch=2, seed=31)


def swav_crops(**arguments: object) -> MultiCrop:
    """SwAV's recipe with changes, built by name."""
    recipe = dict(
        type='MultiCrop',
        num_views=[2, 6],
        sizes=[224, 96],
        crop_ratio_ranges=[(0.14, 1.0), (0.05, 0.14)],
    )
    return TRANSFORMS.build(dict(recipe, **arguments))


def photo(height: int = 120, width: int = 160) -> np.ndarray:
    """(height, width, 3) uint8 noise."""
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(height, width, 3), dtype=np.uint8)


def views_of(
    transform: MultiCrop, img: np.ndarray, key: SampleKey = KEY
) -> list[np.ndarray]:
    """Cut the views of a sample."""
    return transform(dict(img=img, sample_idx=key))['img']


@pytest.mark.parametrize(
    'arguments',
    [
        {},
        dict(
            jitter_prob=1.0, grayscale_prob=1.0, blur_prob=1.0, flip_prob=1.0
        ),
        dict(
            jitter_prob=0.0, grayscale_prob=0.0, blur_prob=0.0, flip_prob=0.0
        ),
        dict(brightness=0.0, hue=0.5, jitter_prob=1.0),
        dict(
            contrast=3.0,
            saturation=3.0,
            sigma_range=(0.0, 10.0),
            blur_prob=1.0,
        ),
        dict(
            aspect_ratio_range=(0.1, 10.0), crop_ratio_ranges=[(1.0, 1.0)] * 2
        ),
    ],
)
def test_views_with_and_without_numba_are_equal(
    photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, arguments: dict
) -> None:
    transform = swav_crops(**arguments)
    for index, img in enumerate([*photos[:4], photo(1, 1), photo(3, 400)]):
        key = SampleKey(index, epoch=0, seed=31)
        views = views_of(transform, img, key)
        with monkeypatch.context() as patch:
            patch.setattr(jit, 'NO_NUMBA', 'not installed')
            expected = views_of(transform, img, key)
        assert [view.shape for view in views] == (
            [(224, 224, 3)] * 2 + [(96, 96, 3)] * 6
        )
        for ours, theirs in zip(views, expected):
            np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the log lines of MultiCrop, including those logged once."""
    messages: list[str] = []
    monkeypatch.setattr(
        multi_crop, 'print_log', lambda message, **_: messages.append(message)
    )
    multi_crop._warn_once.cache_clear()
    return messages


def test_without_numba_it_says_so_once(
    monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    monkeypatch.setattr(jit, 'NO_NUMBA', "No module named 'numba'")
    swav_crops()
    swav_crops()
    (message,) = logged
    assert "(No module named 'numba')" in message
    assert 'pip install numba' in message


@pytest.mark.skipif(jit.NO_NUMBA is not None, reason='nothing is compiled')
def test_code_that_cannot_be_kept_is_told(
    monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    monkeypatch.setattr(jit, 'NO_CACHE', 'no locator available')
    swav_crops()
    swav_crops()
    (message,) = logged
    assert 'no locator available' in message
    assert 'NUMBA_CACHE_DIR' in message


def test_views_depend_on_the_key_and_the_view() -> None:
    transform, img = swav_crops(), photo()
    first, again = (views_of(transform, img) for _ in range(2))
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    for key in (SampleKey(8, 2, 31), SampleKey(7, 3, 31), SampleKey(7, 2, 32)):
        for a, b in zip(first, views_of(transform, img, key)):
            assert not np.array_equal(a, b)
    assert len({view.tobytes() for view in first}) == 8


def test_views_own_their_memory_and_are_not_copied_again() -> None:
    img = photo(8, 8)
    # The whole image, at its size, untouched: the view could be the image.
    transform = MultiCrop(
        [2],
        [8],
        [(1.0, 1.0)],
        (1.0, 1.0),
        flip_prob=0.0,
        jitter_prob=0.0,
        grayscale_prob=0.0,
        blur_prob=0.0,
    )
    views = views_of(transform, img)
    for view in views:
        np.testing.assert_array_equal(view, img)
        assert not np.shares_memory(view, img)
    assert not np.shares_memory(*views)
    packed = PackViews()(dict(img=views))['inputs']
    for tensor, view in zip(packed, views):
        assert tensor.is_contiguous()
        if jit.NO_NUMBA is None:
            assert np.shares_memory(tensor.numpy(), view)


def test_one_pixel_of_the_image_is_not_shared() -> None:
    # A (1, 1, 3) array is planar, whoever owns it.
    img = photo(1, 1)
    packed = PackViews()(dict(img=img))['inputs']
    packed[:] = 0
    read_only = img.view()
    read_only.flags.writeable = False
    (packed,) = PackViews()(dict(img=[read_only]))['inputs']
    packed[:] = 0
    np.testing.assert_array_equal(img, photo(1, 1))


def test_on_device_leaves_the_image_and_adds_the_rows() -> None:
    img = photo()
    transform = swav_crops(on_device=True)
    results = transform(dict(img=img, sample_idx=KEY))
    assert results['img'] is img
    assert results['view_params'].shape == (8, NUM_PARAMS)
    views = swav_crops().cut(img, results['view_params'])
    for a, b in zip(views, views_of(swav_crops(), img)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    'strengths, probs',
    [
        ((0.8, 0.8, 0.8, 0.2), (0.5, 0.8, 0.2, 0.5)),
        ((0.8, 0.0, 0.4, 0.5), (0.0, 1.0, 0.5, 1.0)),
    ],
)
def test_views_are_those_of_the_separate_transforms(
    photos: list[np.ndarray],
    strengths: tuple[float, ...],
    probs: tuple[float, ...],
) -> None:
    ratios = [(0.14, 1.0), (0.05, 0.14)]
    fast = MultiCrop(
        [2, 6], [224, 96], ratios, (3 / 4, 4 / 3), probs[0], *strengths,
        *probs[1:3], blur_prob=probs[3],
    )  # fmt: skip
    slow = MultiView(
        [2, 6],
        [
            [
                dict(type='RandomResizedCrop', size=s, crop_ratio_range=ratio),
                dict(type='RandomFlip', prob=probs[0]),
                ColorJitter(*strengths, probs[1]),
                dict(type='RandomGrayscale', prob=probs[2]),
                dict(type='GaussianBlur', prob=probs[3]),
            ]
            for s, ratio in zip((224, 96), ratios)
        ],
    )
    for index, img in enumerate([*photos, photo(1, 1), photo(3, 400)]):
        results = dict(img=img, sample_idx=SampleKey(index, 3, 31))
        views, others = (
            transform(dict(results))['img'] for transform in (fast, slow)
        )
        assert len(views) == len(others) == 8
        for a, b in zip(views, others):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('prob', [0, 1])
def test_every_probability_reaches_its_column(prob: int) -> None:
    names = ('flip_prob', 'jitter_prob', 'grayscale_prob', 'blur_prob')
    columns = (FLIP, ORDER, GRAYSCALE, SIGMA)
    for name in names:
        transform = swav_crops(
            on_device=True,
            **{other: 1 - prob for other in names if other != name},
            **{name: prob},
        )
        rows = transform(dict(img=photo(), sample_idx=KEY))['view_params']
        for other, column in zip(names, columns):
            done = (
                rows[:, column] >= 0
                if column == ORDER
                else (rows[:, column] > 0)
            )
            assert (done == (prob if other == name else 1 - prob)).all()


def test_old_name_of_sizes() -> None:
    # A config of the last version, and one that changes a recipe of ours.
    with pytest.warns(FutureWarning, match=r'scales=...\) is now sizes='):
        alone = MultiCrop(
            num_views=[2, 6],
            scales=[224, 96],
            crop_ratio_ranges=[(0.14, 1.0), (0.05, 0.14)],
        )
    with pytest.warns(FutureWarning):
        changed = swav_crops(sizes=[64, 32], scales=[224, 96])
    for transform in (alone, changed):
        for a, b in zip(
            views_of(transform, photo()), views_of(swav_crops(), photo())
        ):
            np.testing.assert_array_equal(a, b)


def test_pickled_transform_cuts_the_same_views() -> None:
    transform, img = swav_crops(), photo()
    copied = pickle.loads(pickle.dumps(transform))
    for a, b in zip(views_of(transform, img), views_of(copied, img)):
        np.testing.assert_array_equal(a, b)


def test_threads_side_by_side_cut_the_same_views() -> None:
    transform, img = swav_crops(), photo()
    keys = [SampleKey(index, 0, 0) for index in range(64)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda key: views_of(transform, img, key), keys))
    for key, views in zip(keys, found):
        for a, b in zip(views, views_of(transform, img, key)):
            np.testing.assert_array_equal(a, b)


def test_no_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for img in (photo(), photo(1, 1), photo(1, 300)):
            views_of(swav_crops(jitter_prob=1.0, blur_prob=1.0), img)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (
            dict(sizes=[224]),
            r'sizes=\[224\] and .* one of each for each group',
        ),
        (dict(num_views=[]), r'num_views=\[\], .* one of each for each group'),
        (dict(num_views=8, sizes=224), 'num_views=8, sizes=224 and'),
        (dict(num_views=[2.0, 6.0]), r'num_views=\[2.0, 6.0\]; every group'),
        (dict(num_views=[2, 0]), 'every group needs at least one view'),
        (
            dict(num_views=[], sizes=[], crop_ratio_ranges=[]),
            'at least one view',
        ),
        (dict(sizes=[224, 0]), 'size=0'),
        (dict(sizes=[(224, 224), 96]), r'size=\(224, 224\)'),
        (dict(crop_ratio_ranges=[0.14, 1.0]), 'crop_ratio_range=0.14'),
        (
            dict(crop_ratio_ranges=[(0.1, 0.2, 0.3), (0.0, 0.1)]),
            'least, largest',
        ),
        (dict(aspect_ratio_range=1.0), 'aspect_ratio_range=1.0'),
        (dict(brightness=(0.5, 1.5)), r'brightness=\(0.5, 1.5\)'),
        (dict(contrast=float('nan')), 'contrast=nan'),
        (dict(sigma_range=(0.1, float('inf'))), 'within .0, 1000.'),
        (dict(sigma_range=2.0), 'sigma_range=2.0'),
        (
            dict(crop_ratio_ranges=[(0.14, 1.0), (0.0, 0.1)]),
            'crop_ratio_range=',
        ),
        (dict(aspect_ratio_range=(2.0, 1.0)), 'width / height'),
        (dict(flip_prob=1.5), 'RandomFlip got prob=1.5'),
        (dict(hue=0.6), r'hue in \[0, .5\]'),
        (dict(sigma_range=(2.0, 0.1)), 'sigma_range='),
    ],
)
def test_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        swav_crops(**arguments)


@pytest.mark.parametrize(
    'img',
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        Image.new('RGB', (8, 8)),
        None,
    ],
)
def test_images_that_are_none(img: Any) -> None:
    with pytest.raises(ValueError, match=r'expected \(H, W, 3\) uint8 RGB'):
        views_of(swav_crops(), img)
