"""The configs of detection against the reference: every number that matters.

The numbers stand here a second time on purpose: they are of mmselfsup 1.0's
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

from swav_plugin.engine.launch import check_keys, load_config
from swav_plugin.registry import MODELS

pytest.importorskip('mmdet', reason='needs the extra onedl-downstream')

FOLDER = Path(__file__).resolve().parents[1] / (
    'configs/benchmarks/mmdetection')
FLIP = dict(type='RandomFlip', prob=.5)


class Facts(NamedTuple):
    """What the reference table says of a config."""

    old_name: str
    model: str
    is_c4: bool
    num_classes: int
    scales: range  # short sides in training
    length: int  # epochs, of VOC iterations
    drops: list[int]
    warmup_iters: int


FACTS = {
    'voc0712/faster-rcnn_r50-c4_ms-24k_voc0712': Facts(
        'faster_rcnn_r50_c4_mstrain_24k_voc0712', 'FasterRCNN', True, 20,
        range(480, 801, 32), 24000, [18000, 22000], 100),
    'coco/mask-rcnn_r50_fpn_ms-1x_coco': Facts(
        'mask_rcnn_r50_fpn_mstrain_1x_coco', 'MaskRCNN', False, 80,
        range(640, 801, 32), 12, [8, 11], 500),
    'coco/mask-rcnn_r50_fpn_ms-2x_coco': Facts(
        'mask_rcnn_r50_fpn_mstrain_2x_coco', 'MaskRCNN', False, 80,
        range(640, 801, 32), 24, [16, 22], 1000),
    'coco/mask-rcnn_r50-c4_ms-1x_coco': Facts(
        'mask_rcnn_r50_c4_mstrain_1x_coco', 'MaskRCNN', True, 80,
        range(640, 801, 32), 12, [8, 11], 500),
    'coco/mask-rcnn_r50-c4_ms-2x_coco': Facts(
        'mask_rcnn_r50_c4_mstrain_2x_coco', 'MaskRCNN', True, 80,
        range(640, 801, 32), 24, [16, 22], 1000),
}
C4 = [name for name, facts in FACTS.items() if facts.is_c4]
FPN = [name for name, facts in FACTS.items() if not facts.is_c4]
COCO = [name for name in FACTS if name.startswith('coco/')]
VOC, = [name for name in FACTS if name.startswith('voc')]


@pytest.fixture(autouse=True)
def mmdets_scope() -> Iterator[None]:
    """Resolve names as a run of these configs does."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@cache
def load(name: str) -> Config:
    """Read a config as a run does; the tests must not change it."""
    return load_config(str(FOLDER / f'{name}.py'))


def plain(value: Any) -> Any:
    """Without the scopes that mmengine writes into what bases bring."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k != '_scope_'}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def steps(pipeline: list[dict]) -> dict[str, dict]:
    return {step['type']: plain(step) for step in pipeline}


def test_every_config_is_in_the_table() -> None:
    found = {str(path.relative_to(FOLDER))[:-3]
             for path in FOLDER.glob('[!_]*/*.py')}
    old = {f'{Path(name).parent}/{facts.old_name}'
           for name, facts in FACTS.items()}
    assert found == {*FACTS} | old


@pytest.mark.parametrize('name', FACTS)
def test_old_names_are_the_same_configs(name: str) -> None:
    path = FOLDER / Path(name).parent / f'{FACTS[name].old_name}.py'
    assert load_config(str(path)).to_dict() == load(name).to_dict()


@pytest.mark.parametrize('name', FACTS)
def test_schedule(name: str) -> None:
    cfg, facts = load(name), FACTS[name]
    assert plain(cfg.optim_wrapper) == dict(
        type='OptimWrapper', optimizer=dict(
            type='SGD', lr=.02, momentum=.9, weight_decay=1e-4))
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=16)
    assert cfg.train_dataloader.batch_size == 2  # on each of 8 GPUs
    assert cfg.train_dataloader.num_workers == 2
    is_voc = name == VOC
    assert plain(cfg.train_cfg) == (
        dict(type='IterBasedTrainLoop', max_iters=24000, val_interval=2000)
        if is_voc else dict(type='EpochBasedTrainLoop',
                            max_epochs=facts.length, val_interval=1))
    warmup, drops = plain(cfg.param_scheduler)
    assert warmup == dict(
        type='LinearLR', start_factor=.001, by_epoch=False, begin=0,
        end=facts.warmup_iters)
    assert drops == dict(
        type='MultiStepLR', by_epoch=not is_voc, begin=0, end=facts.length,
        milestones=facts.drops, gamma=.1)
    assert facts.drops[-1] < facts.length  # each drop is reached
    checkpoint = plain(cfg.default_hooks.checkpoint)
    assert checkpoint.pop('backend_args') == dict(backend='atomic')
    assert checkpoint == (
        dict(type='CheckpointHook', interval=2000, by_epoch=False,
             max_keep_ckpts=3)
        if is_voc else
        dict(type='CheckpointHook', interval=1, max_keep_ckpts=3))
    assert cfg.log_processor.by_epoch is (not is_voc)
    assert cfg.default_scope == 'mmdet'


@pytest.mark.parametrize('name', FACTS)
def test_images(name: str) -> None:
    cfg, facts = load(name), FACTS[name]
    preprocessor = cfg.model.data_preprocessor
    # Those of configs/selfsup/_base_/models/swav_resnet50.py: LoadImage there
    # gives RGB, mmdet's gives BGR.
    pretraining = Config.fromfile(
        FOLDER.parents[1] / 'selfsup/_base_/models/swav_resnet50.py')
    assert preprocessor.bgr_to_rgb is True
    for statistic in ('mean', 'std'):
        assert preprocessor[statistic] == (
            pretraining.model.data_preprocessor[statistic])
    assert preprocessor.pad_size_divisor == 32
    datasets = cfg.train_dataloader.dataset
    for dataset in datasets.get('datasets', [datasets]):
        train = steps(dataset.pipeline)
        assert train['RandomChoiceResize'] == dict(
            type='RandomChoiceResize', keep_ratio=True,
            scales=[[1333, short] for short in facts.scales])
        assert train['RandomFlip'] == FLIP
    assert len(facts.scales) == (11 if name == VOC else 6)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert steps(loader.dataset.pipeline)['Resize'] == dict(
            type='Resize', scale=[1333, 800], keep_ratio=True)
    assert cfg.train_dataloader.batch_sampler.type == 'AspectRatioBatchSampler'


@pytest.mark.parametrize('name', FACTS)
def test_backbone(name: str) -> None:
    cfg, facts = load(name), FACTS[name]
    assert cfg.model.type == facts.model
    assert cfg.model.get('pretrained') is None
    backbone = plain(cfg.model.backbone)
    assert backbone == dict(
        type='ResNet', depth=50, frozen_stages=-1, norm_eval=False,
        norm_cfg=dict(type='SyncBN', requires_grad=True), style='pytorch',
        init_cfg=None,
        **(dict(num_stages=3, out_indices=[2], strides=[1, 2, 2],
                dilations=[1, 1, 1]) if facts.is_c4 else
           dict(num_stages=4, out_indices=[0, 1, 2, 3])))


@pytest.mark.parametrize('name', FACTS)
def test_no_norm_is_of_one_gpu_and_nothing_is_frozen(name: str) -> None:
    model = MODELS.build(load(name).model)
    norms = [m for m in model.modules()
             if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    # 53 of ResNet-50; one more norm; 8 of the pyramid, 4 and 4 of the heads.
    assert len(norms) == (54 if FACTS[name].is_c4 else 69)
    assert all(isinstance(m, nn.SyncBatchNorm) for m in norms)
    model.train()
    assert all(m.training for m in norms)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize('name', C4)
def test_c4(name: str) -> None:
    model, facts = plain(load(name).model), FACTS[name]
    heads = model['roi_head']
    assert heads['shared_head'] == dict(
        type='swav_plugin.ResLayerExtraNorm', depth=50,
        norm_cfg=dict(type='SyncBN', requires_grad=True))
    assert heads['bbox_roi_extractor'] == dict(
        type='SingleRoIExtractor', out_channels=1024, featmap_strides=[16],
        roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0))
    assert heads['bbox_head']['num_classes'] == facts.num_classes
    if facts.model == 'MaskRCNN':
        assert heads['mask_head']['num_classes'] == facts.num_classes
    anchors = model['rpn_head']['anchor_generator']
    assert anchors == dict(
        type='AnchorGenerator', scales=[2, 4, 8, 16, 32],
        ratios=[.5, 1., 2.], strides=[16])
    sampler = model['train_cfg']['rcnn']['sampler']
    assert (sampler['num'], sampler['pos_fraction']) == (512, .25)
    train, test = model['train_cfg']['rpn_proposal'], model['test_cfg']['rpn']
    assert (train['nms_pre'], train['max_per_img']) == (12000, 2000)
    assert (test['nms_pre'], test['max_per_img']) == (6000, 1000)


@pytest.mark.parametrize('name', FPN)
def test_fpn(name: str) -> None:
    model = plain(load(name).model)
    sync_bn = dict(type='SyncBN', requires_grad=True)
    heads = model['roi_head']
    assert heads['bbox_head']['type'] == 'Shared4Conv1FCBBoxHead'
    assert heads['bbox_head']['conv_out_channels'] == 256
    for part in (model['neck'], heads['bbox_head'], heads['mask_head']):
        assert part['norm_cfg'] == sync_bn
    assert heads['bbox_head']['num_classes'] == 80
    assert heads['mask_head']['num_classes'] == 80
    assert model['rpn_head']['anchor_generator'] == dict(
        type='AnchorGenerator', scales=[8], ratios=[.5, 1., 2.],
        strides=[4, 8, 16, 32, 64])


@pytest.mark.parametrize('name', COCO)
def test_coco(name: str) -> None:
    cfg = load(name)
    assert cfg.train_dataloader.dataset.ann_file == (
        'annotations/instances_train2017.json')
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.ann_file == (
            'annotations/instances_val2017.json')
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert evaluator.type == 'CocoMetric'
        assert evaluator.metric == ['bbox', 'segm']


def test_voc() -> None:
    cfg = load(VOC)
    loader = cfg.train_dataloader
    assert plain(loader.sampler) == dict(type='InfiniteSampler', shuffle=True)
    assert loader.dataset.type == 'ConcatDataset'  # each image once
    assert [d.ann_file for d in loader.dataset.datasets] == [
        f'VOC{year}/ImageSets/Main/trainval.txt' for year in (2007, 2012)]
    assert cfg.test_dataloader.dataset.ann_file == (
        'VOC2007/ImageSets/Main/test.txt')
    for evaluators in (cfg.val_evaluator, cfg.test_evaluator):
        eleven, coco = plain(evaluators)
        assert eleven == dict(
            type='VOCMetric', metric='mAP', eval_mode='11points',
            iou_thrs=[.5, .55, .6, .65, .7, .75, .8, .85, .9, .95])
        assert coco == dict(type='CocoMetric', metric='bbox')


@pytest.mark.parametrize('name', FACTS)
def test_head_of_file(name: str) -> None:
    head = ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text()))
    assert head is not None
    script = f'dist_train_{"c4" if FACTS[name].is_c4 else "fpn"}.sh'
    assert f'tools/benchmarks/mmdetection/{script} ' in head
    assert f'mmdetection/{name}.py PRETRAIN 8' in head
    assert 'not measured here' in ' '.join(head.split())
    assert 'Differences: ' in head


@pytest.mark.parametrize('name', FACTS)
def test_dumped_config_is_the_config(name: str, tmp_path: Path) -> None:
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    check_keys(cfg)
    cfg.dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py').to_dict() == cfg.to_dict()
