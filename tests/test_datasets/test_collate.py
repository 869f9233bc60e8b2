"""Batches: stacked views, or whole images one after another."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from swav_plugin.datasets import ImageBatch, ImageFolder, collate_views
from swav_plugin.datasets.transforms.formatting import whole_image
from swav_plugin.datasets.transforms.view_params import NUM_PARAMS, SIZE

from .conftest import write_image

SHAPES = [(40, 60), (30, 20), (1, 1)]


def params_of(sizes: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Rows of random numbers for views of these sizes."""
    params = np.random.default_rng(seed).random((len(sizes), NUM_PARAMS))
    params[:, SIZE] = sizes
    return params


def image_samples() -> list[dict[str, Any]]:
    """Whole images of several sizes, with views of 8 and 4 px."""
    rng = np.random.default_rng(0)
    return [
        dict(
            inputs=whole_image(
                rng.integers(256, size=(*shape, 3), dtype=np.uint8),
                params_of((8, 4), seed),
            ),
            data_samples=DataSample(metainfo=dict(skipped=[str(seed)])),
        )
        for seed, shape in enumerate(SHAPES)
    ]


def image_of(batch: ImageBatch, i: int) -> torch.Tensor:
    """Image i, where `layout` and `sizes` say it is."""
    first, pitch = batch.layout[i].tolist()
    height, width = batch.sizes[i]
    assert pitch == width
    return batch.pixels[first : first + height * width].view(height, width, 3)


def test_images_one_after_another() -> None:
    samples = image_samples()
    data = collate_views(samples)
    assert data['data_samples'] == [s['data_samples'] for s in samples]
    batch = data['inputs']
    assert batch.sizes == SHAPES and batch.view_sizes == [8, 4]
    assert len(batch.pixels) == 2400 + 600 + 1
    for i, sample in enumerate(samples):
        np.testing.assert_array_equal(
            image_of(batch, i), sample['inputs'].pixels
        )
        np.testing.assert_array_equal(
            batch.params[i], sample['inputs'].params.astype(np.float32)
        )


def test_views_are_collated_as_ever() -> None:
    rng = np.random.default_rng(0)
    samples = [
        dict(
            inputs=[
                torch.from_numpy(rng.integers(256, size=(3, s, s)))
                for s in (8, 4)
            ],
            data_samples=DataSample(),
        )
        for _ in range(3)
    ]
    data, expected = collate_views(samples), default_collate(samples)
    assert data.keys() == expected.keys()
    for view, other in zip(data['inputs'], expected['inputs']):
        assert torch.equal(view, other)
    assert list(data['data_samples']) == list(expected['data_samples'])


def test_sizes_of_views_must_agree() -> None:
    samples = image_samples()
    samples[1]['inputs'].params[1, SIZE] = 5
    with pytest.raises(ValueError, match=r'\[\[8, 4\], \[8, 5\]\] px'):
        collate_views(samples)


def test_other_collate_functions_refuse_whole_images() -> None:
    with pytest.raises(TypeError, match='WholeImage'):
        default_collate(image_samples())


def test_casting_and_pinning_keep_the_type() -> None:
    batch = collate_views(image_samples())['inputs']
    cast = BaseDataPreprocessor().cast_data(batch)
    # Without a device, pinning itself cannot be tried.
    pinned = pin_memory(batch) if torch.cuda.is_available() else batch
    for other in (cast, pinned, pickle.loads(pickle.dumps(batch))):
        assert isinstance(other, ImageBatch)
        assert (other.sizes, other.view_sizes) == (SHAPES, [8, 4])
        for i in range(3):
            assert torch.equal(image_of(other, i), image_of(batch, i))


class Samples:
    """The samples above as a dataset."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, Any]:
        return image_samples()[index]


def test_workers_share_the_pixels() -> None:
    expected = collate_views(image_samples())['inputs']
    loader = DataLoader(
        Samples(), batch_size=3, num_workers=1, collate_fn=checked_collate
    )
    (data,) = loader
    assert data['inputs'].pixels.is_shared()
    for found, other in zip(data['inputs'], expected):
        assert (
            torch.equal(found, other)
            if isinstance(found, torch.Tensor)
            else found == other
        )


def checked_collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Collate and see to it that sharing comes without a copy."""
    data = collate_views(samples)
    assert data['inputs'].pixels.is_shared()
    return data


def test_found_by_name(tmp_path: Path) -> None:
    write_image(tmp_path / '0.png', seed=0)
    with DefaultScope.overwrite_default_scope('swav_plugin'):
        loader = Runner.build_dataloader(
            dict(
                dataset=dict(
                    type='ImageFolder',
                    data_root=str(tmp_path),
                    pipeline=[dict(type='LoadImage'), dict(type='PackViews')],
                ),
                sampler=dict(type='KeyedSampler'),
                collate_fn=dict(type='collate_views'),
                batch_size=1,
            )
        )
    assert isinstance(loader.dataset, ImageFolder)
    assert next(iter(loader))['inputs'].shape == (1, 3, 40, 60)
