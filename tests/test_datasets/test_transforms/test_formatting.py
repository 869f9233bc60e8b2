"""PackViews: views become tensors, the rest goes into the DataSample."""

import numpy as np
import pytest
import torch

from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.transforms import PackViews
from swav_plugin.datasets.transforms.formatting import whole_image
from swav_plugin.datasets.transforms.view_params import (
    HEIGHT,
    LEFT,
    NUM_PARAMS,
    SIZE,
    TOP,
    WIDTH,
)


def test_views_and_meta_information() -> None:
    rng = np.random.default_rng(0)
    views = [
        rng.integers(256, size=(size, size + 1, 3), dtype=np.uint8)
        for size in (8, 8, 4)
    ]
    views[1] = views[1][:, ::-1]  # as RandomFlip leaves it
    packed = PackViews()(
        dict(
            img=list(views),
            img_path='a.jpg',
            channel_order='rgb',
            gt_label=3,
            other=1,
            sample_idx=SampleKey(7, 2, 31),
            skipped=['b.jpg: empty'],
        )
    )
    assert set(packed) == {'inputs', 'data_samples'}
    assert [view.shape for view in packed['inputs']] == [
        (3, 8, 9),
        (3, 8, 9),
        (3, 4, 5),
    ]
    for tensor, view in zip(packed['inputs'], views):
        assert tensor.dtype == torch.uint8 and tensor.is_contiguous()
        for channel in range(3):
            np.testing.assert_array_equal(tensor[channel], view[..., channel])
    sample = packed['data_samples']
    assert sample.metainfo == dict(
        img_path='a.jpg', sample_idx=7, skipped=['b.jpg: empty']
    )
    assert sample.gt_label.tolist() == [3]


def test_one_image_without_label() -> None:
    img = np.zeros((4, 5, 3), np.uint8)
    img.flags.writeable = False
    results = dict(img=img, img_path='a.jpg', channel_order='rgb')
    packed = PackViews()(dict(results, sample_idx=0))
    assert packed['inputs'].shape == (3, 4, 5)
    packed['inputs'][:] = 1  # a tensor of its own
    assert not img.any()
    assert 'gt_label' not in packed['data_samples']
    assert packed['data_samples'].skipped == []


def test_label_zero_is_a_label() -> None:
    packed = PackViews()(dict(img=np.zeros((4, 5, 3), np.uint8), gt_label=0))
    assert packed['data_samples'].gt_label.tolist() == [0]


def test_whole_image_and_its_views_for_the_device() -> None:
    rng = np.random.default_rng(0)
    img = rng.integers(256, size=(40, 60, 3), dtype=np.uint8)
    img.flags.writeable = False
    params = rng.random((5, NUM_PARAMS))
    results = dict(img=img, img_path='a.jpg', channel_order='rgb')
    packed = PackViews()(dict(results, view_params=params))
    assert packed['inputs'].pixels is img
    np.testing.assert_array_equal(packed['inputs'].params, params)
    assert packed['data_samples'].img_path == 'a.jpg'


# Whole images: as they are, or shrunk where no view can tell


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
