"""PackViews: views become tensors, the rest goes into the DataSample."""

import numpy as np
import torch

from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.transforms import PackViews
from swav_plugin.datasets.transforms.view_params import NUM_PARAMS


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
    packed = PackViews()(dict(img=img, img_path='a.jpg', sample_idx=0))
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
    packed = PackViews()(dict(img=img, view_params=params, img_path='a.jpg'))
    assert packed['inputs'].pixels is img
    np.testing.assert_array_equal(packed['inputs'].params, params)
    assert packed['data_samples'].img_path == 'a.jpg'
