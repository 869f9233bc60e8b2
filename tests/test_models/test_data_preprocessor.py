"""MultiViewPreprocessor: normalization and what it refuses."""

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from swav_plugin.datasets import collate_views
from swav_plugin.datasets.transforms.formatting import WholeImage, whole_image
from swav_plugin.datasets.transforms.view_params import (
    HEIGHT,
    NUM_PARAMS,
    ORDER,
    SIZE,
    WIDTH,
)
from swav_plugin.models import MultiViewPreprocessor

MEAN, STD = [123.675, 116.28, 103.53], [58.14, 57.12, 57.375]


def test_it_normalizes_each_view_as_upstream_does() -> None:
    torch.manual_seed(0)
    views = [
        torch.randint(256, (2, 3, size, size), dtype=torch.uint8)
        for size in (8, 4)
    ]
    outputs = MultiViewPreprocessor(MEAN, STD)({'inputs': views})['inputs']
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.228, 0.224, 0.225]).view(3, 1, 1)
    for view, output in zip(views, outputs):
        expected = (view / 255 - mean) / std
        # Up to 2.7, each side rounded by 2**-24 of that two or three times.
        torch.testing.assert_close(output, expected, atol=2e-6, rtol=0)
        assert output.dtype == torch.float32


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float16, torch.float64])
def test_in_a_double_model_it_computes_in_float64(dtype: torch.dtype) -> None:
    view = torch.arange(48).view(1, 3, 4, 4).to(dtype)
    preprocessor = MultiViewPreprocessor([1] * 3, [3] * 3).double()
    (output,) = preprocessor({'inputs': [view]})['inputs']
    assert output.flatten().tolist() == [(x - 1) / 3 for x in range(48)]


def test_half_precision_views_are_normalized_in_float32() -> None:
    # Those that a GPU has cut are float16; the mean may be whole numbers.
    view = torch.arange(48).view(1, 3, 4, 4).half()
    preprocessor = MultiViewPreprocessor([1] * 3, [3] * 3)
    (output,) = preprocessor({'inputs': [view]})['inputs']
    assert torch.equal(output, (view.float() - 1) / 3)
    assert output.dtype == torch.float32


def test_a_single_tensor_and_the_rest_of_the_batch_pass() -> None:
    data = dict(inputs=torch.zeros(2, 3, 4, 4), data_samples=['a', 'b'])
    output = MultiViewPreprocessor(MEAN, STD)(data)
    assert output['data_samples'] == ['a', 'b']
    assert output['inputs'][0, 0, 0, 0].item() == pytest.approx(
        -0.485 / 0.228, abs=1e-6
    )


def test_labels_stay_where_they_are() -> None:
    preprocessor = MultiViewPreprocessor(MEAN, STD).to('meta')
    sample = DataSample().set_gt_label(3)
    output = preprocessor(
        dict(inputs=[torch.zeros(1, 3, 4, 4)], data_samples=[sample])
    )
    assert output['inputs'][0].device.type == 'meta'
    assert output['data_samples'][0].gt_label.device.type == 'cpu'


def test_whole_images_become_normalized_views() -> None:
    # One view of all of each image, as large as it is: nothing is changed.
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(2, 8, 8, 3), dtype=np.uint8)
    params = np.zeros((2, NUM_PARAMS))
    params[:, [SIZE, HEIGHT, WIDTH]] = 8
    params[:, ORDER : ORDER + 4] = -1
    data = collate_views(
        [
            dict(inputs=whole_image(img, params), data_samples=name)
            for img, name in zip(images, 'ab')
        ]
    )
    preprocessor = MultiViewPreprocessor(MEAN, STD)
    output = preprocessor(data)
    expected = preprocessor(
        dict(inputs=torch.from_numpy(images).permute(0, 3, 1, 2))
    )['inputs']
    assert len(output['inputs']) == 2
    for view in output['inputs']:
        assert view.dtype == torch.float32
        assert torch.equal(view, expected)
    assert output['data_samples'] == ['a', 'b']


@pytest.mark.parametrize(
    'inputs',
    [
        [torch.zeros(3, 4, 4)],
        [[torch.zeros(3, 4, 4)]],
        [WholeImage(np.zeros((4, 4, 3)), np.zeros((2, NUM_PARAMS)))],
    ],
)
def test_a_batch_that_was_not_stacked_names_the_remedy(inputs: list) -> None:
    with pytest.raises(ValueError, match='collate_views'):
        MultiViewPreprocessor(MEAN, STD)({'inputs': inputs})
