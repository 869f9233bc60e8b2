"""Benchmarks of segmentation: numbers of the configs, and runs made small."""

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.models import ResNet
from torch import nn

from swav_plugin.checkpoints import load_backbone
from swav_plugin.engine.config import load_config
from tests.conftest import REPO_ROOT
from tests.upstream import changed, without_scopes

pytest.importorskip('mmseg')

CONFIGS = REPO_ROOT / 'configs/benchmarks/mmsegmentation'
VOC = 'voc12aug/fcn_r50-d8_4xb4-20k_voc12aug-512x512'
CITYSCAPES = 'cityscapes/fcn_r50-d8_4xb2-40k_cityscapes-769x769'
# mmselfsup 0.x' names.
OLD_NAMES = {
    VOC: 'voc12aug/fcn_r50-d8_512x512_20k_voc12aug',
    CITYSCAPES: 'cityscapes/fcn_r50-d8_769x769_40k_cityscapes',
}


@pytest.fixture(autouse=True)
def scope() -> Iterator[None]:
    """Leave no scope to other tests."""
    yield
    init_default_scope('swav_plugin')


def read(name: str) -> Config:
    """A config as tools/train.py reads it."""
    return load_config(str(CONFIGS / f'{name}.py'))


# Written down from the table of mmselfsup's configs, not from the files: all
# that differs from mmseg's bases, and what the table has in common with them.
SYNC_BN = dict(type='SyncBN', requires_grad=True)


class Facts(NamedTuple):
    """A row of the table."""

    bases: list[str]  # mmseg's
    batch: int  # on each of 4 GPUs
    workers: int
    iters: int
    interval: int  # of evaluations and checkpoints
    classes: int
    crop: int
    scale: list[int]
    align_corners: bool
    test_cfg: dict[str, Any]


FACTS = {
    VOC: Facts(
        ['datasets/pascal_voc12_aug', 'schedules/schedule_20k'],
        4,
        4,
        20_000,
        2_000,
        21,
        512,
        [2048, 512],
        False,
        dict(mode='whole'),
    ),
    CITYSCAPES: Facts(
        ['datasets/cityscapes_769x769', 'schedules/schedule_40k'],
        2,
        2,
        40_000,
        4_000,
        19,
        769,
        [2049, 1025],
        True,
        dict(mode='slide', crop_size=[769, 769], stride=[513, 513]),
    ),
}


def head(
    facts: Facts,
    in_channels: int,
    channels: int,
    in_index: int,
    num_convs: int,
    concat_input: bool,
    loss_weight: float,
) -> dict[str, Any]:
    return dict(
        type='FCNHead',
        in_channels=in_channels,
        in_index=in_index,
        channels=channels,
        num_convs=num_convs,
        concat_input=concat_input,
        dropout_ratio=0.1,
        num_classes=facts.classes,
        norm_cfg=SYNC_BN,
        align_corners=facts.align_corners,
        loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=loss_weight
        ),
    )


def everywhere(facts: Facts) -> dict[str, Any]:
    preprocessor = dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.14, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=[facts.crop, facts.crop],
    )
    return {
        'custom_imports': dict(
            imports=['swav_plugin.engine'], allow_failed_imports=False
        ),
        # Without the first, a random backbone would be measured in silence.
        'custom_hooks': [
            dict(type='swav_plugin.PretrainedHook'),
            dict(type='swav_plugin.ResultsHook'),
        ],
        'randomness': dict(seed=0, deterministic=False),
        'default_scope': 'mmseg',
        'model': dict(
            type='EncoderDecoder',
            pretrained=None,
            data_preprocessor=preprocessor,
            backbone=dict(  # no deep stem
                type='ResNet',
                depth=50,
                num_stages=4,
                out_indices=[0, 1, 2, 3],
                dilations=[1, 1, 2, 4],
                strides=[1, 2, 1, 1],
                contract_dilation=True,
                frozen_stages=-1,
                norm_cfg=SYNC_BN,
                norm_eval=False,
                style='pytorch',
            ),
            decode_head=head(facts, 2048, 512, 3, 2, True, 1.0),
            auxiliary_head=head(facts, 1024, 256, 2, 1, False, 0.4),
            train_cfg=dict(),
            test_cfg=facts.test_cfg,
        ),
        # mmengine takes this one where the model has none.
        'data_preprocessor': preprocessor,
        'optim_wrapper': dict(
            type='OptimWrapper',
            clip_grad=None,
            optimizer=dict(
                type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4
            ),
        ),
        'param_scheduler': [
            dict(
                type='PolyLR',
                power=0.9,
                eta_min=1e-4,
                begin=0,
                end=facts.iters,
                by_epoch=False,
            )
        ],
        'train_cfg': dict(
            type='IterBasedTrainLoop',
            max_iters=facts.iters,
            val_interval=facts.interval,
        ),
        'val_cfg': dict(type='ValLoop'),
        'test_cfg': dict(type='TestLoop'),
        'auto_scale_lr': dict(enable=False, base_batch_size=4 * facts.batch),
        'default_hooks.checkpoint': dict(
            type='swav_plugin.CheckpointHook',
            by_epoch=False,
            interval=facts.interval,
            max_keep_ckpts=3,
            backend_args=dict(backend='atomic'),
        ),
        'val_evaluator': dict(type='IoUMetric', iou_metrics=['mIoU']),
        'test_evaluator': dict(type='IoUMetric', iou_metrics=['mIoU']),
        'train_dataloader.batch_size': facts.batch,
        'train_dataloader.num_workers': facts.workers,
        'train_dataloader.sampler': dict(type='InfiniteSampler', shuffle=True),
    }


def datasets(facts: Facts) -> dict[str, Any]:
    train: list[dict] = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(
            type='RandomResize',
            scale=facts.scale,
            ratio_range=[0.5, 2.0],
            keep_ratio=True,
        ),
        dict(
            type='RandomCrop',
            crop_size=[facts.crop, facts.crop],
            cat_max_ratio=0.75,
        ),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PhotoMetricDistortion'),
        dict(type='PackSegInputs'),
    ]
    test = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=facts.scale, keep_ratio=True),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs'),
    ]
    if facts.classes == 19:

        def dataset(split: str, pipeline: list[dict]) -> dict[str, Any]:
            return dict(
                type='CityscapesDataset',
                data_root='data/cityscapes/',
                data_prefix=dict(
                    img_path=f'leftImg8bit/{split}',
                    seg_map_path=f'gtFine/{split}',
                ),
                pipeline=pipeline,
            )

        training, testing = dataset('train', train), dataset('val', test)
    else:
        train.insert(-1, dict(type='Pad', size=[512, 512]))

        def part(split: str, maps: str, pipeline: list[dict]) -> dict:
            return dict(
                type='PascalVOCDataset',
                data_root='data/VOCdevkit/VOC2012',
                data_prefix=dict(img_path='JPEGImages', seg_map_path=maps),
                ann_file=f'ImageSets/Segmentation/{split}.txt',
                pipeline=pipeline,
            )

        training = dict(
            type='ConcatDataset',
            datasets=[
                part('train', 'SegmentationClass', train),
                part('aug', 'SegmentationClassAug', train),
            ],
        )
        testing = part('val', 'SegmentationClass', test)
    changes: dict[str, Any] = {'train_dataloader.dataset': training}
    for split in 'val', 'test':
        changes[f'{split}_dataloader'] = dict(
            batch_size=1,
            num_workers=4,
            persistent_workers=True,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=testing,
        )
    return changes


@pytest.mark.parametrize('name', FACTS)
def test_numbers(name: str) -> None:
    facts = FACTS[name]
    bases = ['models/fcn_r50-d8', *facts.bases, 'default_runtime']
    expected = changed(
        [f'mmseg::_base_/{base}.py' for base in bases],
        everywhere(facts) | datasets(facts),
    )
    assert without_scopes(read(name).to_dict()) == expected


@pytest.mark.parametrize('name', OLD_NAMES)
def test_names_of_mmselfsup(name: str) -> None:
    assert read(OLD_NAMES[name]).to_dict() == read(name).to_dict()


def built(cfg: Config) -> nn.Module:
    """The model of a config."""
    init_default_scope('mmseg')
    import mmseg.models  # noqa: F401
    from mmseg.registry import MODELS

    return MODELS.build(cfg.model)


def write_weights(path: Path, **options: Any) -> dict[str, torch.Tensor]:
    """A SwAV checkpoint of a ResNet; gives the backbone's tensors."""
    torch.manual_seed(1)
    weights = ResNet(**options).state_dict()
    for value in weights.values():
        # Statistics too are unlike those of a network as initialized.
        value.copy_(torch.rand(value.shape) * 10)
    torch.save(
        dict(
            state_dict={
                **{f'backbone.{key}': value for key, value in weights.items()},
                'head.prototypes.0.weight': torch.rand(5, 4),
            }
        ),
        path,
    )
    return weights


@pytest.mark.parametrize('name', OLD_NAMES)
def test_stem_and_stages_are_the_checkpoints(
    name: str, tmp_path: Path
) -> None:
    model = built(read(name))
    weights = write_weights(tmp_path / 'w.pth', depth=50)
    # 53 convolutions, and 5 tensors for each of as many norms.
    assert load_backbone(model.backbone, tmp_path / 'w.pth') == 53 * 6
    filled = model.backbone.state_dict()
    assert filled.keys() == weights.keys()
    for key, value in weights.items():
        assert torch.equal(filled[key], value), key
    assert model.data_preprocessor.std.flatten().tolist() == pytest.approx(
        [58.14, 57.12, 57.375]
    )
    write_weights(
        tmp_path / 'wide.pth', depth=50, base_channels=128, stem_channels=128
    )
    with pytest.raises(ValueError, match='does not fill the ResNet: 0 tensor'):
        load_backbone(model.backbone, tmp_path / 'wide.pth')


# Runs


def small(name: str, test_data: Path, max_iters: int) -> Config:
    """A config on real images, for a ResNet-18 and crops of 64 px."""
    cfg = read(name)
    if name == VOC:
        root = str(test_data / 'voc2012_mini/VOCdevkit/VOC2012')
        train = cfg.train_dataloader.dataset.datasets[0]
        cfg.train_dataloader.dataset.datasets = [train]
        scale = (256, 64)
    else:
        root = str(test_data / 'cityscapes_mini')
        train = cfg.train_dataloader.dataset
        scale = (172, 96)
    norm_cfg = dict(type='BN')
    for part in (
        train,
        cfg.val_dataloader.dataset,
        cfg.test_dataloader.dataset,
    ):
        part.data_root = root
        for transform in part.pipeline:
            if 'scale' in transform:
                transform.scale = scale
            for key in ('crop_size', 'size'):
                if key in transform:
                    transform[key] = (64, 64)
    cfg.merge_from_dict(
        {
            'data_preprocessor.size': (64, 64),
            'model.data_preprocessor.size': (64, 64),
            'model.backbone.depth': 18,
            'model.backbone.norm_cfg': norm_cfg,
            'model.decode_head.in_channels': 512,
            'model.decode_head.channels': 16,
            'model.decode_head.norm_cfg': norm_cfg,
            'model.auxiliary_head.in_channels': 256,
            'model.auxiliary_head.channels': 16,
            'model.auxiliary_head.norm_cfg': norm_cfg,
            'train_dataloader.num_workers': 0,
            'val_dataloader.num_workers': 0,
            'test_dataloader.num_workers': 0,
            'train_dataloader.batch_size': 4,
            'train_cfg.max_iters': max_iters,
            'train_cfg.val_interval': 12,
            'default_hooks.checkpoint.interval': 12,
            'default_hooks.logger.interval': 1,
            'log_processor.window_size': 1,
            'param_scheduler.0.end': 24,
        }
    )
    if name == CITYSCAPES:
        cfg.merge_from_dict(
            {
                'model.test_cfg.crop_size': (64, 64),
                'model.test_cfg.stride': (48, 48),
            }
        )
    cfg.val_dataloader.dataset.indices = 8
    cfg.test_dataloader.dataset.indices = 8
    return cfg


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., None]:
    """Run tools/train.py or tools/test.py in this process."""

    def run_main(tool: str, cfg: Config, *args: object) -> None:
        file = tmp_path / 'small.py'
        cfg.visualizer.name = f'{time.monotonic_ns()}'  # else the last one's
        cfg.dump(str(file))
        spec = importlib.util.spec_from_file_location(
            f'tools_{tool}', REPO_ROOT / f'tools/{tool}.py'
        )
        assert spec is not None and spec.loader is not None
        module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(
            sys, 'argv', [f'{tool}.py', str(file), *map(str, args)]
        )
        module.main()

    return run_main


def scalars(work_dir: Path) -> list[dict[str, float]]:
    """Read the log of the newest run in a work dir."""
    newest = max(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in newest.read_text().splitlines()]


@torch.no_grad()
def miou(model: nn.Module, cfg: Config) -> float:
    """Mean intersection over union in %, by counting."""
    loader = Runner.build_dataloader(
        {**cfg.test_dataloader, 'persistent_workers': False}
    )
    model.eval()
    num_classes = cfg.model.decode_head.num_classes
    counts = np.zeros((num_classes, num_classes), np.int64)
    for batch in loader:
        for sample in model.test_step(batch):
            truth = sample.gt_sem_seg.data.squeeze().numpy()
            found = sample.pred_sem_seg.data.squeeze().numpy()
            counted = truth != 255
            np.add.at(counts, (truth[counted], found[counted]), 1)
    hits = np.diag(counts)
    with np.errstate(invalid='ignore'):
        iou = hits / (counts.sum(0) + counts.sum(1) - hits)
    return 100 * float(np.nanmean(iou))


@pytest.mark.parametrize('name', OLD_NAMES)
def test_train_resume_and_evaluate(
    name: str, test_data: Path, tmp_path: Path, run: Callable[..., None]
) -> None:
    torch.manual_seed(1)
    backbone = ResNet(18)
    weights = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'w.pth')
    cfg = small(name, test_data, max_iters=12)
    work_dir = tmp_path / 'work'
    run(
        'train',
        cfg,
        '--pretrained',
        tmp_path / 'w.pth',
        '--work-dir',
        work_dir,
    )
    first = [row for row in scalars(work_dir) if 'loss' in row]
    assert [row['step'] for row in first] == list(range(1, 13))
    assert first[0]['lr'] == pytest.approx(0.01)

    cfg.train_cfg.max_iters = 24
    run(
        'train',
        cfg,
        '--pretrained',
        tmp_path / 'w.pth',
        '--work-dir',
        work_dir,
        '--resume',
    )
    rows = scalars(work_dir)
    second = [row for row in rows if 'loss' in row]
    assert [row['step'] for row in second] == list(range(13, 25))
    # Power .9 from .01 to .0001, which mmengine reaches at step 24.
    assert second[0]['lr'] == pytest.approx(
        (0.01 - 1e-4) * (1 - 12 / 23) ** 0.9 + 1e-4
    )
    losses = [row['loss'] for row in first + second]
    assert np.mean(losses[-8:]) < 0.96 * np.mean(losses[:8])

    run('test', cfg, work_dir / 'iter_24.pth', '--work-dir', tmp_path / 'test')
    logged = json.loads(
        next((tmp_path / 'test').glob('*/2*.json')).read_text()
    )
    assert logged['mIoU'] == rows[-1]['mIoU']
    model = built(cfg)
    saved = torch.load(work_dir / 'iter_24.pth', weights_only=False)
    model.load_state_dict(saved['state_dict'])
    assert logged['mIoU'] == pytest.approx(miou(model, cfg), abs=0.006)
