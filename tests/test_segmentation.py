"""Benchmarks of segmentation: numbers of the configs, and runs made small."""
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.models import ResNet
from torch import nn

from swav_plugin.compat.checkpoint_keys import load_backbone
from swav_plugin.engine.launch import load_config
from tests.conftest import REPO_ROOT

pytest.importorskip('mmseg')

CONFIGS = REPO_ROOT / 'configs/benchmarks/mmsegmentation'
VOC = 'voc12aug/fcn_r50-d8_4xb4-20k_voc12aug-512x512'
CITYSCAPES = 'cityscapes/fcn_r50-d8_4xb2-40k_cityscapes-769x769'
# The page's names, from mmselfsup 0.x.
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


def without_scopes(value: Any) -> Any:
    """Leave out the notes of mmengine on what came from mmseg."""
    if isinstance(value, dict):
        return {key: without_scopes(item) for key, item in value.items()
                if key != '_scope_'}
    if isinstance(value, (list, tuple)):
        return type(value)(map(without_scopes, value))
    return value


def step(pipeline: list[dict], kind: str) -> dict:
    """The one transform of a kind, without its type."""
    found, = [dict(transform) for transform in pipeline
              if transform['type'] == kind]
    del found['type']
    return found


# Written down from the table of mmselfsup's configs, not from the files.
@pytest.mark.parametrize(
    'name, batch, iters, interval, classes, crop, scale, align', [
        (VOC, 4, 20_000, 2_000, 21, 512, (2048, 512), False),
        (CITYSCAPES, 2, 40_000, 4_000, 19, 769, (2049, 1025), True),
    ])
def test_numbers(
    name: str, batch: int, iters: int, interval: int, classes: int, crop: int,
    scale: tuple[int, int], align: bool
) -> None:
    cfg = Config(without_scopes(read(name).to_dict()))
    model = cfg.model
    assert model.type == 'EncoderDecoder' and model.pretrained is None
    backbone = model.backbone
    assert (backbone.type, backbone.depth) == ('ResNet', 50)
    assert backbone.strides == (1, 2, 1, 1)
    assert backbone.dilations == (1, 1, 2, 4)
    assert backbone.contract_dilation and backbone.frozen_stages == -1
    assert not backbone.norm_eval and 'init_cfg' not in backbone
    for part in (backbone, model.decode_head, model.auxiliary_head):
        assert part.norm_cfg == dict(type='SyncBN', requires_grad=True)
    heads = [(head.type, head.in_channels, head.channels, head.num_convs,
              head.concat_input, head.in_index, head.num_classes,
              head.loss_decode.loss_weight, head.align_corners)
             for head in (model.decode_head, model.auxiliary_head)]
    assert heads == [
        ('FCNHead', 2048, 512, 2, True, 3, classes, 1.0, align),
        ('FCNHead', 1024, 256, 1, False, 2, classes, 0.4, align)]
    assert model.test_cfg == (
        dict(mode='slide', crop_size=(769, 769), stride=(513, 513))
        if name == CITYSCAPES else dict(mode='whole'))

    preprocessor = model.data_preprocessor
    assert preprocessor.mean == [123.675, 116.28, 103.53]
    assert preprocessor.std == [58.14, 57.12, 57.375]
    assert preprocessor.bgr_to_rgb and preprocessor.size == (crop, crop)
    # mmengine takes this one where the model has none.
    assert cfg.data_preprocessor == preprocessor

    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4)
    assert 'paramwise_cfg' not in cfg.optim_wrapper
    assert cfg.param_scheduler == [dict(
        type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=iters,
        by_epoch=False)]
    assert cfg.train_cfg.type == 'IterBasedTrainLoop'
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (
        iters, interval)
    assert cfg.default_hooks.checkpoint.interval == interval
    assert not cfg.default_hooks.checkpoint.by_epoch
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.val_evaluator == dict(type='IoUMetric', iou_metrics=['mIoU'])

    dataset = cfg.train_dataloader.dataset
    parts = dataset.get('datasets', [dataset])
    for part in parts:
        assert step(part.pipeline, 'RandomResize') == dict(
            scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True)
        assert step(part.pipeline, 'RandomCrop') == dict(
            crop_size=(crop, crop), cat_max_ratio=0.75)
        assert step(part.pipeline, 'RandomFlip') == dict(prob=0.5)
        assert step(part.pipeline, 'PhotoMetricDistortion') == {}
    test = cfg.test_dataloader.dataset
    assert step(test.pipeline, 'Resize') == dict(
        scale=scale, keep_ratio=True)
    if name == VOC:
        assert [(part.data_root, part.ann_file, part.data_prefix.seg_map_path)
                for part in [*parts, test]] == [
            ('data/VOCdevkit/VOC2012', f'ImageSets/Segmentation/{split}.txt',
             f'SegmentationClass{suffix}')
            for split, suffix in (('train', ''), ('aug', 'Aug'), ('val', ''))]
        assert step(parts[0].pipeline, 'Pad') == dict(size=(crop, crop))
    else:
        assert [(part.data_root, part.data_prefix.img_path,
                 part.data_prefix.seg_map_path)
                for part in [*parts, test]] == [
            ('data/cityscapes/', f'leftImg8bit/{split}', f'gtFine/{split}')
            for split in ('train', 'val')]


@pytest.mark.parametrize('name', OLD_NAMES)
def test_names_of_the_page(name: str) -> None:
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
        # Statistics too are unlike those of a network as initialised.
        value.copy_(torch.rand(value.shape) * 10)
    torch.save(dict(state_dict={
        **{f'backbone.{key}': value for key, value in weights.items()},
        'head.prototypes.0.weight': torch.rand(5, 4)}), path)
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
        [58.14, 57.12, 57.375])
    write_weights(tmp_path / 'wide.pth', depth=50, base_channels=128,
                  stem_channels=128)
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
    for part in (train, cfg.val_dataloader.dataset,
                 cfg.test_dataloader.dataset):
        part.data_root = root
        for transform in part.pipeline:
            if 'scale' in transform:
                transform.scale = scale
            for key in ('crop_size', 'size'):
                if key in transform:
                    transform[key] = (64, 64)
    cfg.merge_from_dict({
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
        'train_cfg.val_interval': 20,
        'default_hooks.checkpoint.interval': 20,
        'default_hooks.logger.interval': 1,
        'log_processor.window_size': 1,
        'param_scheduler.0.end': 40,
    })
    if name == CITYSCAPES:
        cfg.merge_from_dict({'model.test_cfg.crop_size': (64, 64),
                             'model.test_cfg.stride': (48, 48)})
    cfg.val_dataloader.dataset.indices = 24
    cfg.test_dataloader.dataset.indices = 24
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
            f'tools_{tool}', REPO_ROOT / f'tools/{tool}.py')
        assert spec is not None and spec.loader is not None
        module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, 'argv', [
            f'{tool}.py', str(file), *map(str, args)])
        module.main()

    return run_main


def scalars(work_dir: Path) -> list[dict[str, float]]:
    """What the newest run of a work dir logged."""
    newest = max(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in newest.read_text().splitlines()]


@torch.no_grad()
def miou(model: nn.Module, cfg: Config) -> float:
    """Mean intersection over union in %, by counting."""
    loader = Runner.build_dataloader(
        {**cfg.test_dataloader, 'persistent_workers': False})
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
    cfg = small(name, test_data, max_iters=20)
    work_dir = tmp_path / 'work'
    run('train', cfg, '--pretrained', tmp_path / 'w.pth', '--work-dir',
        work_dir)
    first = [row for row in scalars(work_dir) if 'loss' in row]
    assert [row['step'] for row in first] == list(range(1, 21))
    assert first[0]['lr'] == pytest.approx(0.01)

    cfg.train_cfg.max_iters = 40
    run('train', cfg, '--pretrained', tmp_path / 'w.pth', '--work-dir',
        work_dir, '--resume')
    rows = scalars(work_dir)
    second = [row for row in rows if 'loss' in row]
    assert [row['step'] for row in second] == list(range(21, 41))
    # Power .9 from .01 to .0001, which mmengine reaches at step 40.
    assert second[0]['lr'] == pytest.approx(
        (.01 - 1e-4) * (1 - 20 / 39)**.9 + 1e-4)
    losses = [row['loss'] for row in first + second]
    assert np.mean(losses[-8:]) < 0.85 * np.mean(losses[:8])

    run('test', cfg, work_dir / 'iter_40.pth', '--work-dir', tmp_path / 'test')
    logged = json.loads(
        next((tmp_path / 'test').glob('*/2*.json')).read_text())
    assert logged['mIoU'] == rows[-1]['mIoU']
    model = built(cfg)
    saved = torch.load(work_dir / 'iter_40.pth', weights_only=False)
    model.load_state_dict(saved['state_dict'])
    assert logged['mIoU'] == pytest.approx(miou(model, cfg), abs=0.006)
