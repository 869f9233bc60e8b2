"""The configs of detection against the reference: every number that matters.

The numbers are repeated here on purpose: they are of mmselfsup 1.0's
configs as mmengine reads them, less the mistakes that heads of files name.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import swav_plugin  # noqa: F401 isort:skip  before mmdet

from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from swav_plugin.engine.config import check_keys, load_config
from swav_plugin.registry import MODELS
from tests.upstream import changed, without_scopes

pytest.importorskip('mmdet', reason='needs the extra onedl-downstream')

FOLDER = Path(__file__).resolve().parents[1] / (
    'configs/benchmarks/mmdetection'
)


class Facts(NamedTuple):
    """A row of the reference table."""

    old_name: str  # '' for none
    base: str  # mmdet's
    scales: range  # short sides in training
    length: int  # epochs, of VOC iterations
    drops: list[int]
    warmup_iters: int


FACTS = {
    'voc0712/faster-rcnn_r50-c4_ms-24k_voc0712': Facts(
        'faster_rcnn_r50_c4_mstrain_24k_voc0712',
        'faster-rcnn_r50-caffe-c4',
        range(480, 801, 32),
        24000,
        [18000, 22000],
        100,
    ),
    'coco/mask-rcnn_r50_fpn_ms-1x_coco': Facts(
        'mask_rcnn_r50_fpn_mstrain_1x_coco',
        'mask-rcnn_r50_fpn',
        range(640, 801, 32),
        12,
        [8, 11],
        500,
    ),
    # Not mmselfsup's: the one above without masks.
    'coco/faster-rcnn_r50_fpn_ms-1x_coco': Facts(
        '',
        'faster-rcnn_r50_fpn',
        range(640, 801, 32),
        12,
        [8, 11],
        500,
    ),
    'coco/mask-rcnn_r50_fpn_ms-2x_coco': Facts(
        'mask_rcnn_r50_fpn_mstrain_2x_coco',
        'mask-rcnn_r50_fpn',
        range(640, 801, 32),
        24,
        [16, 22],
        1000,
    ),
    'coco/mask-rcnn_r50-c4_ms-1x_coco': Facts(
        'mask_rcnn_r50_c4_mstrain_1x_coco',
        'mask-rcnn_r50-caffe-c4',
        range(640, 801, 32),
        12,
        [8, 11],
        500,
    ),
    'coco/mask-rcnn_r50-c4_ms-2x_coco': Facts(
        'mask_rcnn_r50_c4_mstrain_2x_coco',
        'mask-rcnn_r50-caffe-c4',
        range(640, 801, 32),
        24,
        [16, 22],
        1000,
    ),
}
(VOC,) = [name for name in FACTS if name.startswith('voc')]
(BOXES,) = [name for name in FACTS if name.startswith('coco/faster')]
OLD = [name for name, facts in FACTS.items() if facts.old_name]

# What our configs have in place of mmdet's bases, or state though it is the
# same, since the reference table has it.
SYNC_BN = dict(type='SyncBN', requires_grad=True)
EVERYWHERE = {
    'custom_imports': dict(
        imports=[
            'swav_plugin.engine',
            'swav_plugin.models',
            'swav_plugin.evaluation.coco_metric',
        ],
        allow_failed_imports=False,
    ),
    # Without the first, a random backbone would be measured in silence.
    'default_hooks.pretrained': dict(
        type='swav_plugin.PretrainedHook', checkpoint=None
    ),
    'default_hooks.results': dict(type='swav_plugin.ResultsHook'),
    'randomness': dict(seed=0, deterministic=False),
    'default_scope': 'mmdet',
    'val_cfg': dict(type='ValLoop'),
    'test_cfg': dict(type='TestLoop'),
    'optim_wrapper': dict(
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
    ),
    'auto_scale_lr': dict(enable=False, base_batch_size=16),
    'train_dataloader.batch_size': 2,  # on each of 8 GPUs
    'train_dataloader.num_workers': 2,
    'train_dataloader.batch_sampler': dict(type='AspectRatioBatchSampler'),
    # Those of configs/selfsup/_base_/models/swav_resnet50.py: LoadImage there
    # gives RGB, mmdet's gives BGR.
    'model.data_preprocessor.mean': [123.675, 116.28, 103.53],
    'model.data_preprocessor.std': [58.14, 57.12, 57.375],
    'model.data_preprocessor.bgr_to_rgb': True,
    'model.data_preprocessor.pad_size_divisor': 32,
}
C4 = {
    'model.backbone': dict(
        type='ResNet',
        depth=50,
        num_stages=3,
        out_indices=[2],
        strides=[1, 2, 2],
        dilations=[1, 1, 1],
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=SYNC_BN,
        style='pytorch',
        init_cfg=None,
    ),
    'model.roi_head.shared_head': dict(
        type='swav_plugin.ResLayerExtraNorm', depth=50, norm_cfg=SYNC_BN
    ),
    'model.roi_head.bbox_roi_extractor': dict(
        type='SingleRoIExtractor',
        out_channels=1024,
        featmap_strides=[16],
        roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
    ),
    'model.rpn_head.anchor_generator': dict(
        type='AnchorGenerator',
        scales=[2, 4, 8, 16, 32],
        ratios=[0.5, 1.0, 2.0],
        strides=[16],
    ),
    'model.train_cfg.rcnn.sampler.num': 512,
    'model.train_cfg.rcnn.sampler.pos_fraction': 0.25,
    'model.train_cfg.rpn_proposal.nms_pre': 12000,
    'model.train_cfg.rpn_proposal.max_per_img': 2000,
    'model.test_cfg.rpn.nms_pre': 6000,
    'model.test_cfg.rpn.max_per_img': 1000,
}
FPN = {
    'model.backbone': dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=[0, 1, 2, 3],
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=SYNC_BN,
        style='pytorch',
        init_cfg=None,
    ),
    'model.neck.norm_cfg': SYNC_BN,
    'model.rpn_head.anchor_generator': dict(
        type='AnchorGenerator',
        scales=[8],
        ratios=[0.5, 1.0, 2.0],
        strides=[4, 8, 16, 32, 64],
    ),
    'model.roi_head.bbox_head.type': 'Shared4Conv1FCBBoxHead',
    'model.roi_head.bbox_head.conv_out_channels': 256,
    'model.roi_head.bbox_head.norm_cfg': SYNC_BN,
}
MASKS = {
    'model.type': 'MaskRCNN',
    'model.data_preprocessor.pad_mask': True,
    'model.roi_head.mask_head.num_classes': 80,
}
RESIZE = dict(type='Resize', scale=[1333, 800], keep_ratio=True)


def image_steps(facts: Facts, **annotations: bool) -> list[dict]:
    """The pipeline of training."""
    return [
        dict(type='LoadImageFromFile', backend_args=None),
        dict(type='LoadAnnotations', **annotations),
        dict(
            type='RandomChoiceResize',
            keep_ratio=True,
            scales=[[1333, short] for short in facts.scales],
        ),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackDetInputs'),
    ]


def schedule(facts: Facts, by_epoch: bool) -> dict[str, Any]:
    interval = 1 if by_epoch else 2000
    checkpoint = dict(
        type='swav_plugin.CheckpointHook',
        interval=interval,
        max_keep_ckpts=3,
        backend_args=dict(backend='atomic'),
    )
    return {
        'train_cfg': dict(
            type='EpochBasedTrainLoop',
            val_interval=interval,
            max_epochs=facts.length,
        )
        if by_epoch
        else dict(
            type='IterBasedTrainLoop',
            val_interval=interval,
            max_iters=facts.length,
        ),
        'param_scheduler': [
            dict(
                type='LinearLR',
                start_factor=0.001,
                by_epoch=False,
                begin=0,
                end=facts.warmup_iters,
            ),
            dict(
                type='MultiStepLR',
                by_epoch=by_epoch,
                begin=0,
                end=facts.length,
                milestones=facts.drops,
                gamma=0.1,
            ),
        ],
        'default_hooks.checkpoint': checkpoint
        if by_epoch
        else dict(checkpoint, by_epoch=False),
        'log_processor.by_epoch': by_epoch,
    }


def coco(name: str, facts: Facts) -> dict[str, Any]:
    with_mask = {} if name == BOXES else dict(with_mask=True)
    changes: dict[str, Any] = {
        'model.type': 'FasterRCNN',
        'model.roi_head.bbox_head.num_classes': 80,
        'train_dataloader.dataset.type': 'swav_plugin.CocoDataset',
        'train_dataloader.dataset.ann_file': (
            'annotations/instances_train2017.json'
        ),
        'train_dataloader.dataset.filter_cfg': dict(
            filter_empty_gt=True, min_size=32
        ),
        'train_dataloader.dataset.pipeline': image_steps(
            facts, with_bbox=True, **with_mask
        ),
    }
    for split in 'val', 'test':
        changes |= {
            f'{split}_dataloader.dataset.type': 'swav_plugin.CocoDataset',
            f'{split}_dataloader.dataset.ann_file': (
                'annotations/instances_val2017.json'
            ),
            f'{split}_dataloader.dataset.pipeline.1': RESIZE,
            f'{split}_evaluator.type': 'swav_plugin.CocoMetric',
            f'{split}_evaluator.metric': (
                'bbox' if name == BOXES else ['bbox', 'segm']
            ),
        }
    if name != BOXES:
        changes |= MASKS
        if 'fpn' in name:
            changes['model.roi_head.mask_head.norm_cfg'] = SYNC_BN
    return changes


def voc(facts: Facts) -> dict[str, Any]:
    changes: dict[str, Any] = {
        'model.type': 'FasterRCNN',
        'model.roi_head.bbox_head.num_classes': 20,
        'train_dataloader.sampler': dict(type='InfiniteSampler', shuffle=True),
        'train_dataloader.dataset': dict(
            type='ConcatDataset',
            ignore_keys=['dataset_type'],
            datasets=[
                dict(
                    type='VOCDataset',
                    data_root='data/VOCdevkit/',
                    ann_file=f'VOC{year}/ImageSets/Main/trainval.txt',
                    data_prefix=dict(sub_data_root=f'VOC{year}/'),
                    # Small boxes too are to be found: no bbox_min_size.
                    filter_cfg=dict(filter_empty_gt=True, min_size=32),
                    pipeline=image_steps(facts, with_bbox=True),
                )
                for year in (2007, 2012)
            ],
        ),  # each image once
    }
    for split in 'val', 'test':
        changes |= {
            f'{split}_dataloader.dataset.ann_file': (
                'VOC2007/ImageSets/Main/test.txt'
            ),
            f'{split}_dataloader.dataset.pipeline': [
                dict(type='LoadImageFromFile', backend_args=None),
                RESIZE,
                dict(type='LoadAnnotations', with_bbox=True),
                dict(
                    type='PackDetInputs',
                    meta_keys=[
                        'img_id',
                        'img_path',
                        'ori_shape',
                        'img_shape',
                        'scale_factor',
                        'instances',
                    ],
                ),
            ],
            f'{split}_evaluator': [
                dict(
                    type='VOCMetric',
                    metric='mAP',
                    eval_mode='11points',
                    iou_thrs=[
                        0.5,
                        0.55,
                        0.6,
                        0.65,
                        0.7,
                        0.75,
                        0.8,
                        0.85,
                        0.9,
                        0.95,
                    ],
                ),
                dict(type='CocoMetric', metric='bbox'),
            ],
        }
    return changes


@pytest.fixture(autouse=True)
def mmdets_scope() -> Iterator[None]:
    """Resolve names as a run of these configs does."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@cache
def load(name: str) -> Config:
    """Read a config as a run does; the tests must not change it."""
    return load_config(str(FOLDER / f'{name}.py'))


def test_every_config_is_in_the_table() -> None:
    found = {
        str(path.relative_to(FOLDER))[:-3]
        for path in FOLDER.glob('[!_]*/*.py')
    }
    old = {f'{Path(name).parent}/{FACTS[name].old_name}' for name in OLD}
    assert found == {*FACTS} | old


@pytest.mark.parametrize('name', OLD)
def test_old_names_are_the_same_configs(name: str) -> None:
    path = FOLDER / Path(name).parent / f'{FACTS[name].old_name}.py'
    assert load_config(str(path)).to_dict() == load(name).to_dict()


@pytest.mark.parametrize('name', FACTS)
def test_all_of_it_is_mmdets_base_or_the_reference(name: str) -> None:
    facts = FACTS[name]
    data = {VOC: 'voc0712', BOXES: 'coco_detection'}.get(name, 'coco_instance')
    expected = changed(
        [
            f'mmdet::_base_/models/{facts.base}.py',
            f'mmdet::_base_/datasets/{data}.py',
            'mmdet::_base_/default_runtime.py',
        ],
        EVERYWHERE
        | (FPN if 'fpn' in name else C4)
        | (voc(facts) if name == VOC else coco(name, facts))
        | schedule(facts, by_epoch=name != VOC),
    )
    found = without_scopes(load(name).to_dict())
    for variable in 'norm_cfg', 'train_pipeline', 'test_pipeline':
        # Used above, where it is compared; nothing else reads it.
        expected.pop(variable, None)
        del found[variable]
    assert found == expected
    assert len(facts.scales) == (11 if name == VOC else 6)
    assert facts.drops[-1] < facts.length  # each drop is reached


@pytest.mark.parametrize('name', FACTS)
def test_images_are_those_of_the_pretraining(name: str) -> None:
    pretraining = Config.fromfile(
        FOLDER.parents[1] / 'selfsup/_base_/models/swav_resnet50.py'
    )
    for statistic in ('mean', 'std'):
        assert (
            load(name).model.data_preprocessor[statistic]
            == (pretraining.model.data_preprocessor[statistic])
        )


@pytest.mark.parametrize('name', FACTS)
def test_no_norm_is_of_one_gpu_and_nothing_is_frozen(name: str) -> None:
    model = MODELS.build(load(name).model)
    norms = [
        m
        for m in model.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
    ]
    # 53 of ResNet-50; one more norm; 8 of the pyramid, 4 and 4 of the heads.
    assert len(norms) == (54 if 'c4' in name else 65 if name == BOXES else 69)
    assert all(isinstance(m, nn.SyncBatchNorm) for m in norms)
    model.train()
    assert all(m.training for m in norms)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize('name', FACTS)
def test_head_of_file(name: str) -> None:
    head = ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text()))
    assert head is not None
    script = f'dist_train_{"fpn" if "fpn" in name else "c4"}.sh'
    assert f'tools/benchmarks/mmdetection/{script} ' in head
    assert f'mmdetection/{name}.py CHECKPOINT 8' in head
    assert 'not measured here' in ' '.join(head.split())
    assert 'Differences: ' in head


@pytest.mark.parametrize('name', FACTS)
def test_dumped_config_is_the_config(name: str, tmp_path: Path) -> None:
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    check_keys(cfg)
    cfg.dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py').to_dict() == cfg.to_dict()
