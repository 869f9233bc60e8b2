"""From files to a training step, with views cut by workers or by the device.

One key chooses, and only who cuts changes: not which views.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR10
from torch import Tensor
from torch.utils.data import DataLoader

from swav_plugin.datasets import (
    ImageBatch,
    ImageFolder,
    KeyedSampler,
    collate_views,
)
from swav_plugin.datasets.transforms.device_ops import cut_views
from swav_plugin.models import MultiViewPreprocessor
from swav_plugin.registry import TRANSFORMS

NUM_IMAGES = 20


@pytest.fixture(scope='module')
def images(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twenty real photographs of many sizes and a broken one."""
    folder = tmp_path_factory.mktemp('photos')
    paths = sorted((test_data / 'photos').iterdir())[::6][:NUM_IMAGES]
    for path in paths:
        (folder / path.name).symlink_to(path)
    (folder / 'broken.jpeg').touch()
    return folder


def config(images: Path, work_dir: Path, **loader: Any) -> Config:
    """SwAV on 2 views of 64 px and 3 of 32 px, made small."""
    return Config(
        dict(
            model=dict(
                type='SwAV',
                data_preprocessor=dict(
                    type='MultiViewPreprocessor',
                    mean=[123.675, 116.28, 103.53],
                    std=[58.14, 57.12, 57.375],
                ),
                backbone=dict(
                    type='ResNet',
                    depth=18,
                    stem_channels=8,
                    base_channels=8,
                    norm_cfg=dict(type='GN', num_groups=4),
                ),
                neck=dict(
                    type='SwAVNeck',
                    in_channels=64,
                    hid_channels=32,
                    out_channels=16,
                    norm_cfg=dict(type='GN', num_groups=4),
                ),
                head=dict(type='SwAVHead', num_prototypes=6),
            ),
            train_dataloader=dict(
                batch_size=7,
                sampler=dict(type='KeyedSampler', shuffle=True),
                collate_fn=dict(type='collate_views'),
                dataset=dict(
                    type='ImageFolder',
                    data_root=str(images),
                    pipeline=[
                        dict(type='LoadImage'),
                        dict(
                            type='MultiCrop',
                            num_views=[2, 3],
                            sizes=[64, 32],
                            crop_ratio_ranges=[(0.14, 1.0), (0.05, 0.14)],
                        ),
                        dict(type='PackViews'),
                    ],
                ),
                **loader,
            ),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(
                # At a rate of 0.1, six steps make a loss of rounding errors
                # ten times as large.
                optimizer=dict(type='LARS', lr=0.03, weight_decay=1e-6)
            ),
            custom_hooks=[dict(type='SkippedImagesHook')],
            randomness=dict(seed=31),
            default_scope='swav_plugin',
            work_dir=str(work_dir),
            experiment_name=work_dir.name,
        )
    )


def train(cfg: Config) -> list[float]:
    """Losses of all steps."""
    losses = []
    runner = Runner.from_cfg(cfg)
    train_step = runner.model.train_step

    def recorded(*args: Any, **kwargs: Any) -> dict[str, Tensor]:
        outputs = train_step(*args, **kwargs)
        losses.append(outputs['loss'].item())
        return outputs

    runner.model.train_step = recorded
    runner.train()
    return losses


def test_training_by_one_key(images: Path, tmp_path: Path) -> None:
    dataset = 'train_dataloader.dataset.pipeline.1'
    losses = []
    for name, options in (
        ('workers', {}),
        ('device', {f'{dataset}.on_device': True}),
        ('others', {f'{dataset}.flip_prob': 0.0}),
    ):
        cfg = config(images, tmp_path / name, num_workers=1)
        cfg.merge_from_dict(options)
        losses.append(train(cfg))
        skipped = (tmp_path / name / 'skipped_images.txt').read_text()
        assert 'broken.jpeg: the file is empty' in skipped
    on_workers, on_device, with_others = np.array(losses)
    assert len(on_device) == 6
    np.testing.assert_allclose(on_device, on_workers, atol=0.04)
    # It does see when views differ.
    assert np.abs(with_others - on_workers).max() > 0.1


def loaded(
    images: Path,
    on_device: bool,
    num_workers: int,
    in_memory: bool = False,
    decode_on_device: bool = False,
) -> list[dict]:
    """The batches of one epoch."""
    cfg = config(images, images, num_workers=num_workers).train_dataloader
    cfg.dataset.pipeline[0].decode_on_device = decode_on_device
    cfg.dataset.pipeline[1].on_device = on_device
    cfg.dataset.in_memory = in_memory
    with DefaultScope.overwrite_default_scope('swav_plugin'):
        return list(Runner.build_dataloader(cfg, seed=31))


@pytest.mark.parametrize(
    'num_workers, in_memory', [(0, True), (1, False), (2, True)]
)
def test_rows_do_not_depend_on_workers_nor_on_memory(
    images: Path, num_workers: int, in_memory: bool
) -> None:
    expected = loaded(images, on_device=True, num_workers=0)
    batches = loaded(images, True, num_workers, in_memory)
    assert len(batches) == 3
    for batch, other in zip(batches, expected):
        found, wanted = batch['inputs'], other['inputs']
        assert isinstance(found, ImageBatch)
        assert (found.sizes, found.view_sizes) == (
            wanted.sizes,
            [64] * 2 + [32] * 3,
        )
        for name in ('pixels', 'layout', 'params'):
            assert torch.equal(getattr(found, name), getattr(wanted, name))


def test_views_are_those_of_the_workers(images: Path) -> None:
    differences = []
    for batch, other in zip(loaded(images, True, 0), loaded(images, False, 0)):
        assert [sample.img_path for sample in batch['data_samples']] == [
            sample.img_path for sample in other['data_samples']
        ]
        for view, wanted in zip(cut_views(batch['inputs']), other['inputs']):
            assert view.dtype == wanted.dtype and view.shape == wanted.shape
            differences.append((view.float() - wanted).abs().mean((1, 2, 3)))
    difference = torch.cat(differences)
    assert len(difference) == 5 * (NUM_IMAGES + 1)
    assert difference.mean() < 0.25 and difference.max() < 1.2


def test_device_that_decodes_as_well(images: Path) -> None:
    preprocessor = MultiViewPreprocessor([0.0] * 3, [1.0] * 3)
    for batch, other in zip(
        loaded(images, True, 1, decode_on_device=True), loaded(images, True, 0)
    ):
        assert batch['inputs'].encoded is not None
        for view, wanted in zip(
            preprocessor(batch)['inputs'], preprocessor(other)['inputs']
        ):
            assert torch.equal(view, wanted)


class NoiseCIFAR10(CIFAR10):
    """mmpretrain's CIFAR-10 with noise in place of its files."""

    def load_data_list(self) -> list[dict]:
        rng = np.random.default_rng(0)
        images = rng.integers(256, size=(9, 3, 32, 32), dtype=np.uint8)
        return [
            dict(img=img.transpose(1, 2, 0), gt_label=i)
            for i, img in enumerate(images)
        ]


def test_images_that_are_arrays_already() -> None:
    views = {}
    for on_device in (False, True):
        dataset = NoiseCIFAR10(
            data_root='nowhere',
            pipeline=[
                TRANSFORMS.build(
                    dict(
                        type='MultiCrop',
                        num_views=[2, 4],
                        sizes=[32, 18],
                        crop_ratio_ranges=[(0.2, 1.0), (0.08, 0.5)],
                        blur_prob=0.0,
                        on_device=on_device,
                    )
                ),
                TRANSFORMS.build(dict(type='PackViews')),
            ],
        )
        (batch,) = DataLoader(
            dataset,
            batch_size=9,
            collate_fn=collate_views,
            sampler=KeyedSampler(dataset, shuffle=False, seed=31),
        )
        assert [int(s.gt_label) for s in batch['data_samples']] == list(
            range(9)
        )
        views[on_device] = MultiViewPreprocessor([0.0] * 3, [1.0] * 3)(batch)[
            'inputs'
        ]
    assert [view.shape for view in views[True]] == [(9, 3, 32, 32)] * 2 + [
        (9, 3, 18, 18)
    ] * 4
    for view, other in zip(views[True], views[False]):
        assert (view - other).abs().mean() < 0.3


def test_in_memory_images_are_not_shrunk_in_place(images: Path) -> None:
    dataset = ImageFolder(
        images,
        in_memory=True,
        pipeline=[
            dict(type='LoadImage'),
            dict(
                type='MultiCrop',
                num_views=[2],
                sizes=[8],
                crop_ratio_ranges=[(0.5, 1.0)],
                on_device=True,
            ),
            dict(type='PackViews'),
        ],
    )
    before = dataset.memory.block.clone()
    loader = DataLoader(
        dataset,
        batch_size=7,
        collate_fn=collate_views,
        sampler=KeyedSampler(dataset, seed=31),
    )
    for batch in loader:
        assert max(max(size) for size in batch['inputs'].sizes) < 100
        batch['inputs'].pixels.zero_()
    assert torch.equal(dataset.memory.block, before)
