"""Batches of images in memory: the views of single images, bit for bit."""

import pickle
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import mmpretrain.datasets
import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.runner import Runner
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from swav_plugin.compat import jit
from swav_plugin.datasets import (
    ImageFolder,
    KeyedSampler,
    SampleKey,
    collate_views,
)
from swav_plugin.datasets.cifar import CIFAR10
from swav_plugin.datasets.view_batch import ViewBatch

pytestmark = pytest.mark.skipif(
    jit.NO_NUMBA is not None, reason='batches are cut with numba only'
)


def pipeline(**changes: Any) -> list[dict]:
    multi_crop: dict = dict(
        type='MultiCrop',
        num_views=[2, 3],
        sizes=[32, 18],
        crop_ratio_ranges=[(0.2, 1.0), (0.05, 0.5)],
    )
    return [
        dict(type='LoadImage'),
        multi_crop | changes,
        dict(type='PackViews'),
    ]


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven images of different shapes in two classes."""
    root = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for i in range(11):
        shape = (1 + 13 * i, 150 - 13 * i) if i else (32, 32)
        coarse = rng.integers(256, size=(5, 5, 3), dtype=np.uint8)
        path = root / f'class{i % 2}/{i}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(coarse).resize(shape[::-1]).save(path)
    return root


def keys(num: int, seed: int = 2**62, epoch: int = 3) -> list[SampleKey]:
    return [SampleKey(i, epoch, seed) for i in range(num)][::-1]


def assert_same(batch: dict, other: dict) -> None:
    """Compare inputs and data samples of two batches."""
    assert len(batch['inputs']) == len(other['inputs'])
    for views, expected in zip(batch['inputs'], other['inputs']):
        assert torch.equal(views, expected)
    assert len(batch['data_samples']) == len(other['data_samples'])
    for sample, expected in zip(batch['data_samples'], other['data_samples']):
        assert sample.metainfo == expected.metainfo
        assert sample.to_dict().keys() == expected.to_dict().keys()
        assert torch.equal(sample.gt_label, expected.gt_label)


@pytest.mark.parametrize('changes', [{}, dict(blur_prob=1.0, jitter_prob=1.0)])
def test_a_batch_has_the_views_of_single_images(
    images: Path, changes: dict
) -> None:
    dataset = ImageFolder(images, pipeline(**changes), in_memory=True)
    batch = dataset.__getitems__(keys(11))
    assert isinstance(batch, ViewBatch) and len(batch) == 11
    one_by_one = [dataset[key] for key in keys(11)]
    expected = collate_views(one_by_one)
    assert_same(collate_views(batch), expected)
    assert_same(default_collate(batch), expected)
    assert_same(pickle.loads(pickle.dumps(collate_views(batch))), expected)
    # From files, where nothing is cut at once.
    files = ImageFolder(images, pipeline(**changes))
    assert_same(collate_views(files.__getitems__(keys(11))), expected)
    assert (
        batch[3]['data_samples'].img_path
        == one_by_one[3]['data_samples'].img_path
    )


@pytest.mark.parametrize('num_workers', [0, 1, 2])
def test_any_number_of_workers(images: Path, num_workers: int) -> None:
    dataset = ImageFolder(images, pipeline(), in_memory=True)
    sampler = KeyedSampler(dataset, shuffle=True, seed=5)
    sampler.set_epoch(2)
    loader = DataLoader(
        dataset,
        batch_size=4,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate_views,
    )
    batches = list(loader)
    order = list(sampler)
    for i, batch in enumerate(batches):
        part = order[4 * i : 4 * i + 4]
        assert_same(batch, collate_views([dataset[key] for key in part]))


@pytest.mark.parametrize('size', ['32', '128'])
def test_cifar_has_the_views_of_mmpretrains(size: str) -> None:
    rng = np.random.default_rng(0)
    arrays = rng.integers(256, size=(9, 32, 32, 3), dtype=np.uint8)

    def load_data_list(self: Any) -> list[dict]:
        return [dict(img=img, gt_label=i) for i, img in enumerate(arrays)]

    transforms = pipeline(sizes=[int(size), 18])[1:]
    with mock.patch.object(
        mmpretrain.datasets.CIFAR10, 'load_data_list', load_data_list
    ):
        ours = CIFAR10(data_root='nowhere', pipeline=transforms)
        theirs = mmpretrain.datasets.CIFAR10(
            data_root='nowhere', pipeline=ours.pipeline.transforms
        )
    expected = collate_views([theirs[key] for key in keys(9)])
    assert isinstance(ours.__getitems__(keys(9)), ViewBatch)
    assert_same(collate_views(ours.__getitems__(keys(9))), expected)
    assert_same(collate_views([ours[key] for key in keys(9)]), expected)


def test_what_cannot_be_cut_at_once_goes_one_by_one(
    images: Path, tmp_path: Path
) -> None:
    def get(transforms: Sequence[dict], indices: Sequence[int]) -> Any:
        dataset = ImageFolder(images, transforms, in_memory=True)
        return dataset.__getitems__(indices)

    assert type(get(pipeline(), keys(3))) is ViewBatch
    with pytest.warns(UserWarning, match='without a SampleKey'):
        assert type(get(pipeline(), [0, 1])) is list
    assert type(get(pipeline(on_device=True), keys(3))) is list
    flip = dict(type='RandomFlip', prob=0.5)
    assert type(get([*pipeline()[:1], flip, *pipeline()[1:]], keys(3))) is list
    with mock.patch.object(jit, 'NO_NUMBA', 'switched off'):
        assert type(get(pipeline(), keys(3))) is list
    assert type(ImageFolder(images, pipeline()).__getitems__(keys(3))) is list
    # A batch with an image that cannot be read.
    (tmp_path / 'good.png').write_bytes((images / 'class0/0.png').read_bytes())
    (tmp_path / 'none.png').touch()
    dataset = ImageFolder(tmp_path, pipeline(), in_memory=True)
    good, replaced = dataset.__getitems__([*reversed(keys(2))])
    assert good['data_samples'].skipped == []
    assert 'none.png' in replaced['data_samples'].skipped[0]


@pytest.mark.parametrize('num_workers', [0, 1])
def test_a_training_has_the_same_losses(
    images: Path, tmp_path: Path, num_workers: int
) -> None:
    losses = []
    for name in ('batches', 'single'):
        found: list[float] = []
        runner = make_runner(images, tmp_path / name, num_workers)
        step = runner.model.train_step

        def train_step(*args: Any, step: Any = step, **kwargs: Any) -> dict:
            outputs: dict[str, Tensor] = step(*args, **kwargs)
            found.append(outputs['loss'].item())
            return outputs

        runner.model.train_step = train_step
        one_by_one = mock.patch.object(
            ImageFolder, '_multi_crop', lambda self: None
        )
        with one_by_one if name == 'single' else nullcontext():
            runner.train()
        losses.append(found)
    assert len(losses[0]) == 20
    assert losses[0] == losses[1]
    assert max(losses[0]) - min(losses[0]) > 1e-3


def make_runner(images: Path, work_dir: Path, num_workers: int) -> Runner:
    return Runner.from_cfg(
        dict(
            model=dict(
                type='SwAV',
                data_preprocessor=dict(
                    type='MultiViewPreprocessor',
                    mean=[120.0, 120.0, 120.0],
                    std=[60.0, 60.0, 60.0],
                ),
                backbone=dict(
                    type='ResNet', depth=18, stem_channels=4, base_channels=4
                ),
                neck=dict(
                    type='SwAVNeck',
                    in_channels=32,
                    hid_channels=16,
                    out_channels=8,
                ),
                head=dict(type='SwAVHead', num_prototypes=4),
            ),
            train_dataloader=dict(
                batch_size=5,
                num_workers=num_workers,
                sampler=dict(type='KeyedSampler', shuffle=True),
                collate_fn=dict(type='collate_views'),
                drop_last=True,
                dataset=dict(
                    type='ImageFolder',
                    data_root=str(images),
                    in_memory=True,
                    pipeline=pipeline(),
                ),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=10),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            custom_hooks=[dict(type='SkippedImagesHook')],
            randomness=dict(seed=31),
            default_scope='swav_plugin',
            work_dir=str(work_dir),
            experiment_name=work_dir.name,
        )
    )
