"""Detectors from a pretrained backbone to their metrics, as a user does it.

The configs are those of configs/benchmarks/mmdetection, with a ResNet-50 of an
eighth of the width and few boxes: on a few photographs of COCO and VOC, where
there are any, and on drawn images, of which it soon finds something.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import swav_plugin  # noqa: F401 isort:skip  before mmdet

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import (
    DATASETS,
    METRICS,
    DefaultScope,
    init_default_scope,
)
from mmengine.runner import Runner
from mmpretrain.models import ResNet
from PIL import Image, ImageDraw

from swav_plugin.commands import train
from swav_plugin.engine import PretrainedHook
from swav_plugin.engine.checks import check_weights
from swav_plugin.engine.config import load_config

pytest.importorskip('mmdet', reason='needs the extra onedl-downstream')

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs/benchmarks/mmdetection'
SCRIPTS = ROOT / 'tools/benchmarks/mmdetection'
FPN = 'coco/mask-rcnn_r50_fpn_ms-1x_coco.py'
BOXES = 'coco/faster-rcnn_r50_fpn_ms-1x_coco.py'
C4 = 'coco/mask-rcnn_r50-c4_ms-1x_coco.py'
VOC = 'voc0712/faster-rcnn_r50-c4_ms-24k_voc0712.py'
WIDTH = 8  # channels of the first stage, 64 in truth
NUM_TRAIN, NUM_TEST = 18, 6  # drawn images

SMALL = """
_base_ = '{config}'
size = {size}
model = dict(
    backbone=dict(base_channels=8),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=100, max_per_img=50),
        rcnn=dict(sampler=dict(num=16))),
    test_cfg=dict(
        rpn=dict(nms_pre=100, max_per_img=50),
        rcnn=dict(score_thr=0., max_per_img=20)))
train = _base_.train_pipeline
train[2].scales = [size]
loader = dict(num_workers=0, persistent_workers=False)
optim_wrapper = dict(optimizer=dict(lr=0.02))
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
"""
SMALL_FPN = """
model['neck'] = dict(in_channels=[32, 64, 128, 256], out_channels=32)
model['rpn_head'] = dict(in_channels=32, feat_channels=32)
model['roi_head'] = dict(
    bbox_roi_extractor=dict(out_channels=32),
    bbox_head=dict(in_channels=32, conv_out_channels=32, fc_out_channels=64))
if 'mask_head' in _base_.model.roi_head:
    model['roi_head'].update(
        mask_roi_extractor=dict(out_channels=32),
        mask_head=dict(in_channels=32, conv_out_channels=32))
# It then finds something after 36 steps.
optim_wrapper = dict(optimizer=dict(_delete_=True, type='Adam', lr=0.002))
"""
SMALL_C4 = """
model['rpn_head'] = dict(in_channels=128, feat_channels=32)
model['roi_head'] = dict(
    bbox_roi_extractor=dict(out_channels=128),
    shared_head=dict(base_channels=8),
    bbox_head=dict(in_channels=256))
"""
SMALL_COCO = """
test = _base_.test_pipeline
test[1].scale = size
images = dict(data_root='{data}')
train_dataloader = dict(dataset=dict(pipeline=train, **images))
val_dataloader = dict(dataset=dict(pipeline=test, **images))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{data}/annotations/instances_val2017.json')
test_evaluator = val_evaluator
for loader in train_dataloader, val_dataloader:
    loader.update(num_workers=0, persistent_workers=False)
param_scheduler = [
    dict(type='LinearLR', start_factor=.1, by_epoch=False, end=5)]
"""
DRAWN_COCO = """
for head in 'bbox_head', 'mask_head':
    if head in _base_.model.roi_head:
        model['roi_head'].setdefault(head, dict())['num_classes'] = 2
for loader in train_dataloader, val_dataloader:
    loader['dataset']['metainfo'] = dict(classes=('person', 'cat'))
train_cfg = dict(max_epochs=4, val_interval=4)
"""
REAL_COCO = """
train_dataloader['batch_size'] = 4
train_dataloader['dataset']['indices'] = 40
train_cfg = dict(max_epochs=2, val_begin=2)
"""
SMALL_VOC = """
test = _base_.test_pipeline
test[1].scale = size
train_dataloader = _base_.train_dataloader
for dataset in train_dataloader.dataset.datasets:
    dataset.update(data_root='{data}', pipeline=train)
val_dataloader = dict(dataset=dict(data_root='{data}', pipeline=test))
test_dataloader = val_dataloader
for loader in train_dataloader, val_dataloader:
    loader.update(num_workers=0, persistent_workers=False)
train_cfg = dict(max_iters=20, val_begin=20, val_interval=20)
default_hooks['checkpoint'] = dict(interval=10)
param_scheduler = [
    dict(type='LinearLR', start_factor=.1, by_epoch=False, end=5)]
"""
# As the suite reads a VOC that has no test set of 2007.
REAL_VOC = """
year = dict(sub_data_root='VOC2012/')
union = train_dataloader.dataset
union.datasets = [dict(
    union.datasets[1], ann_file='VOC2012/ImageSets/Main/train.txt',
    data_prefix=year)]
val_dataloader['dataset'].update(
    ann_file='VOC2012/ImageSets/Main/val.txt', data_prefix=year, indices=20)
"""


def draw(number: int) -> tuple[Image.Image, list[tuple[int, list[int]]]]:
    """An image of red boxes (0) and blue discs (1): (class, x1 y1 x2 y2)."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(60, 120, (80, 96, 3), dtype=np.uint8))
    canvas, objects = ImageDraw.Draw(image), []
    for side in range(1 + number % 2):
        kind = int(rng.integers(2))
        x, y = 4 + 46 * side + rng.integers(8), 4 + rng.integers(20)
        box = [
            int(v)
            for v in (x, y, x + rng.integers(24, 38), y + rng.integers(30, 48))
        ]
        if kind == 0:
            canvas.rectangle(box, fill=(230, 30, 30))
        else:
            canvas.ellipse(box, fill=(30, 30, 230))
        objects.append((kind, box))
    return image, objects


def outline(kind: int, box: list[int]) -> list[float]:
    """Polygon of an object."""
    x1, y1, x2, y2 = box
    if kind == 0:
        return [x1, y1, x2, y1, x2, y2, x1, y2]
    angles = np.arange(16) * np.pi / 8
    return (
        np.stack(
            [
                (x1 + x2 + (x2 - x1) * np.cos(angles)) / 2,
                (y1 + y2 + (y2 - y1) * np.sin(angles)) / 2,
            ],
            1,
        )
        .ravel()
        .tolist()
    )


@pytest.fixture(scope='module')
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO of two of its classes, with a crowd and an empty image."""
    root = tmp_path_factory.mktemp('coco')
    (root / 'annotations').mkdir()
    for split, first, count in (
        ('train2017', 0, NUM_TRAIN),
        ('val2017', 100, NUM_TEST),
    ):
        (root / split).mkdir()
        images: list[dict] = []
        annotations: list[dict] = []
        for number in range(first, first + count):
            image, objects = draw(number)
            image.save(root / split / f'{number}.jpg')
            images.append(
                dict(
                    id=number,
                    file_name=f'{number}.jpg',
                    width=image.width,
                    height=image.height,
                )
            )
            if number == first + 3:
                objects = []
            for kind, box in objects:
                x1, y1, x2, y2 = box
                is_crowd = number == first + 1 and not annotations[-1:]
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=number,
                        category_id=(1, 17)[kind],
                        iscrowd=int(is_crowd),
                        bbox=[x1, y1, x2 - x1, y2 - y1],
                        area=(x2 - x1) * (y2 - y1),
                        segmentation=[outline(kind, box)],
                    )
                )
        (root / f'annotations/instances_{split}.json').write_text(
            json.dumps(
                dict(
                    images=images,
                    annotations=annotations,
                    categories=[
                        dict(id=1, name='person'),
                        dict(id=17, name='cat'),
                    ],
                )
            )
        )
    return root


@pytest.fixture
def bare(coco: Path, tmp_path: Path) -> Path:
    """The same with boxes only, and ids from 0."""

    def spoil(content: dict[str, Any]) -> None:
        for image in content['images']:
            del image['height'], image['width']
        # A crowd is what cannot be known.
        for number, annotation in enumerate(content['annotations']):
            del annotation['segmentation'], annotation['area']
            annotation['id'] = number
            if not annotation['iscrowd']:
                del annotation['iscrowd']

    return rewrite(coco, tmp_path / 'bare', spoil)


def rewrite(
    coco: Path, root: Path, change: Callable[[dict[str, Any]], None]
) -> Path:
    """Copy a COCO with changed annotations."""
    (root / 'annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        (root / split).symlink_to(coco / split)
        name = f'annotations/instances_{split}.json'
        content = json.loads((coco / name).read_text())
        change(content)
        (root / name).write_text(json.dumps(content))
    return root


@pytest.fixture(scope='module')
def vocdevkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOC2007 and VOC2012 of two of its classes, a few difficult."""
    root = tmp_path_factory.mktemp('VOCdevkit')
    for year, split, first, count in (
        ('2007', 'trainval', 0, 9),
        ('2012', 'trainval', 9, 9),
        ('2007', 'test', 100, NUM_TEST),
    ):
        folder = root / f'VOC{year}'
        for name in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
            (folder / name).mkdir(parents=True, exist_ok=True)
        names = [f'{number:06}' for number in range(first, first + count)]
        (folder / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names))
        for number, name in enumerate(names, first):
            image, objects = draw(number)
            image.save(folder / f'JPEGImages/{name}.jpg')
            found = ''.join(
                f'<object><name>{("person", "cat")[kind]}</name>'
                f'<difficult>{int(number % 5 == 0)}</difficult><bndbox>'
                + ''.join(
                    f'<{key}>{value + 1}</{key}>'
                    for key, value in zip(
                        ('xmin', 'ymin', 'xmax', 'ymax'), box
                    )
                )
                + '</bndbox></object>'
                for kind, box in objects
            )
            (folder / f'Annotations/{name}.xml').write_text(
                f'<annotation><size><width>{image.width}</width><height>'
                f'{image.height}</height></size>{found}</annotation>'
            )
    return root


@pytest.fixture
def config(coco: Path, vocdevkit: Path, tmp_path: Path) -> Callable[..., str]:
    """Write a config made small; reads drawn images unless told otherwise."""

    def write(name: str, data: Path | None = None) -> str:
        is_voc = name == VOC
        text = SMALL + (SMALL_FPN if 'fpn' in name else SMALL_C4)
        if name == C4:
            text += "model['roi_head']['mask_head'] = dict(in_channels=256)\n"
        text += SMALL_VOC if is_voc else SMALL_COCO
        if data is not None:
            text += REAL_VOC if is_voc else REAL_COCO
        elif not is_voc:
            text += DRAWN_COCO
        path = tmp_path / 'small.py'
        path.write_text(
            text.format(
                config=CONFIGS / name,
                size=(96, 96) if data is None else (160, 96),
                data=f'{data or (vocdevkit if is_voc else coco)}/',
            )
        )
        return str(path)

    return write


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small ResNet-50 in the layout of our SwAV."""
    path = tmp_path_factory.mktemp('weights') / 'swav.pth'
    torch.save(dict(state_dict=backbone_weights(WIDTH)), path)
    return path


def backbone_weights(width: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    weights = ResNet(50, stem_channels=width, base_channels=width).state_dict()
    for key, value in weights.items():
        if key.endswith('running_mean'):
            value.normal_(0, 0.1)
        elif key.endswith(('running_var', 'bn1.weight')):
            value.uniform_(0.9, 1.1)
    weights = {f'backbone.{key}': value for key, value in weights.items()}
    weights['head.prototypes.0.weight'] = torch.rand(5, 4)
    return weights


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f'tools_{name}', ROOT / f'tools/{name}.py'
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., str]]:
    """Run a tool in this process; return its log file's text."""

    def run_tool(name: str, work_dir: str, *argv: Any) -> str:
        split = (
            argv.index('--cfg-options')
            if '--cfg-options' in argv
            else (len(argv))
        )
        monkeypatch.setattr(
            sys,
            'argv',
            [
                name,
                *map(str, argv[:split]),
                '--work-dir',
                str(tmp_path / work_dir),
                '--cfg-options',
                f'experiment_name={time.monotonic_ns()}',
                *map(str, argv[split + 1 :]),
            ],
        )
        load_tool(name).main()
        return max(tmp_path.glob(f'{work_dir}/*/*.log')).read_text()

    yield run_tool
    init_default_scope('swav_plugin')


def losses(log: str) -> list[float]:
    return [float(v) for v in re.findall(r' loss: ([\d.]+)', log)]


def metrics(log: str) -> dict[str, float]:
    """The numbers of the last line about validation or test."""
    line = [line for line in log.splitlines() if '/bbox_mAP_50: ' in line][-1]
    return {
        key: float(value)
        for key, value in re.findall(r'(\w+/\w+): ([-\d.]+)', line)
    }


def equal_tensors(
    model: dict[str, torch.Tensor],
    prefix: str,
    weights: dict[str, torch.Tensor],
) -> int:
    """Compare the weights under a prefix with a backbone's weights."""
    names = [key for key in model if key.startswith(prefix)]
    for key in names:
        assert torch.equal(
            model[key], weights[f'backbone.{key.removeprefix(prefix)}']
        ), key
    return len(names)


@pytest.mark.parametrize('name', [FPN, C4, VOC])
def test_every_tensor_is_the_checkpoints(
    config: Callable[..., str],
    pretrained: Path,
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cfg, _ = train.build_config(
        train.parse_args(
            [
                config(name),
                '--pretrained',
                str(pretrained),
                '--work-dir',
                str(tmp_path),
                '--cfg-options',
                f'experiment_name={time.monotonic_ns()}',
            ]
        )
    )
    runner = Runner.from_cfg(cfg)
    check_weights(runner)
    (hook,) = (h for h in runner.hooks if isinstance(h, PretrainedHook))
    hook.fill(runner)  # as before training
    weights = backbone_weights(WIDTH)
    state = runner.model.state_dict()
    is_c4 = name != FPN
    filled = equal_tensors(state, 'backbone.', weights)
    # 7 of the stem's convolution and norm, 6 for each other convolution.
    assert filled == (6 * (1 + 10 + 13 + 19) if is_c4 else 6 * 53)
    if is_c4:
        names = 'roi_head.shared_head.'
        assert (
            equal_tensors(
                state,
                f'{names}layer4.',
                {
                    key.replace('layer4.', ''): value
                    for key, value in weights.items()
                    if 'layer4' in key
                },
            )
            == 6 * 10
        )
        assert {
            key
            for key in state
            if key.startswith(names) and not key.startswith(f'{names}layer4.')
        } == {
            f'{names}norm.{key}'
            for key in (
                'weight',
                'bias',
                'running_mean',
                'running_var',
                'num_batches_tracked',
            )
        }
    # The whole network that was pretrained is in the detector.
    assert {key for key in weights if key.startswith('backbone.')} == {
        key.replace('roi_head.shared_head', 'backbone')
        for key in state
        if key.startswith(('backbone.', 'roi_head.shared_head.layer4'))
    }
    init_default_scope('swav_plugin')


@pytest.mark.parametrize('name', [FPN, C4, VOC])
def test_real_images(
    run: Callable[..., str],
    config: Callable[..., str],
    pretrained: Path,
    test_data: Path,
    tmp_path: Path,
    name: str,
) -> None:
    """10 iterations, as many after a resume, and a test."""
    is_voc = name == VOC
    data = test_data / ('voc2012_mini/VOCdevkit' if is_voc else 'coco_mini')
    path = config(name, data)
    half, whole = (
        tmp_path / f'run/{stem}.pth'
        for stem in (
            ('iter_10', 'iter_20') if is_voc else ('epoch_1', 'epoch_2')
        )
    )
    log = run(
        'train',
        'run',
        path,
        '--pretrained',
        pretrained,
        '--cfg-options',
        f'train_cfg.max_{"iters=10" if is_voc else "epochs=1"}',
    )
    assert (
        'Filled 318 backbone tensors from'
        if name == FPN
        else 'Filled 258 backbone tensors and 60 of the shared head'
    ) in log
    assert half.is_file() and not whole.exists()

    resumed = run('train', 'run', path, '--pretrained', pretrained, '--resume')
    assert half.name in resumed and 'is not loaded again' in resumed
    steps = re.findall(r'\(train\) +(?:\[(\d)\])?\[ *(\d+)/', log + resumed)
    assert [int(step) for _, step in steps] == (
        [*range(1, 21)] if is_voc else 2 * [*range(1, 11)]
    )
    assert {epoch for epoch, _ in steps[10:]} == {'' if is_voc else '2'}
    # No norm begins to count anew, pretrained or not.
    for checkpoint, count in (half, 10), (whole, 20):
        weights = torch.load(checkpoint, weights_only=False)['state_dict']
        assert {
            int(value)
            for key, value in weights.items()
            if key.endswith('num_batches_tracked')
        } == {count}
    course = losses(log) + losses(resumed)
    assert len(course) == 20
    assert np.mean(course[-5:]) < 0.85 * np.mean(course[:5]), course

    options = (
        []
        if is_voc
        else [
            '--cfg-options',
            f'test_evaluator.outfile_prefix={tmp_path}/found',
        ]
    )
    found = metrics(run('test', 'test', path, whole, *options))
    assert found == metrics(resumed)
    if is_voc:
        # Fractions of 1 with three digits.
        assert found['pascal_voc/mAP'] == pytest.approx(
            np.mean([found[f'pascal_voc/AP{t}'] for t in range(50, 100, 5)]),
            abs=1e-3,
        )
        assert {'coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75'} <= {
            *found
        }
    else:
        equal_pycocotools(found, data, tmp_path / 'found')


def test_what_is_drawn_is_found(
    run: Callable[..., str],
    config: Callable[..., str],
    pretrained: Path,
    coco: Path,
    tmp_path: Path,
) -> None:
    log = run(
        'train',
        'run',
        config(FPN),
        '--pretrained',
        pretrained,
        '--cfg-options',
        f'val_evaluator.outfile_prefix={tmp_path}/found',
    )
    found = metrics(log)
    assert found['coco/bbox_mAP_50'] > 0.1 and found['coco/segm_mAP_50'] > 0.1
    equal_pycocotools(found, coco, tmp_path / 'found')


def test_coco_metrics_of_moved_truth(
    config: Callable[..., str], test_data: Path, tmp_path: Path
) -> None:
    """Compare numbers far from 0 and 1: 80 classes, with crowds."""
    from mmengine.structures import InstanceData

    data, rng = test_data / 'coco_mini', np.random.default_rng(0)
    cfg = load_config(config(C4, data))
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        metric = METRICS.build(
            dict(cfg.test_evaluator, outfile_prefix=f'{tmp_path}/found')
        )
    metric.dataset_meta = dataset.metainfo
    for item in dataset:
        sample = item['data_samples']
        truth = sample.gt_instances
        is_wrong = torch.from_numpy(rng.random(len(truth)) < 0.2)
        sample.pred_instances = InstanceData(
            bboxes=truth.bboxes.tensor + 4,
            masks=torch.from_numpy(
                np.roll(truth.masks.to_ndarray(), (4, 4), (1, 2))
            ),
            labels=torch.where(is_wrong, 0, truth.labels),
            scores=torch.from_numpy(rng.random(len(truth))),
        )
        metric.process({}, [sample.to_dict()])
    found = metric.evaluate(len(dataset))
    assert 0.2 < found['coco/segm_mAP'] < found['coco/bbox_mAP'] < 0.8
    equal_pycocotools(found, data, tmp_path / 'found')


def moved_truth(cfg: Config) -> dict[str, float]:
    """Evaluate the true boxes, moved by a few pixels."""
    from mmengine.structures import InstanceData

    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = dataset.metainfo
    for number, item in enumerate(dataset):
        sample = item['data_samples']
        truth = sample.gt_instances
        sample.pred_instances = InstanceData(
            bboxes=truth.bboxes.tensor + number % 4,
            labels=truth.labels,
            scores=torch.linspace(0.5, 0.9, len(truth)),
        )
        metric.process({}, [sample.to_dict()])
    return metric.evaluate(len(dataset))


def test_boxes_alone_give_the_numbers_of_whole_annotations(
    config: Callable[..., str], coco: Path, bare: Path, tmp_path: Path
) -> None:
    """In ids from 0, pycocotools takes the first object for none."""

    def areas_of_boxes(content: dict[str, Any]) -> None:
        for annotation in content['annotations']:
            del annotation['segmentation']

    whole = rewrite(coco, tmp_path / 'whole', areas_of_boxes)
    numbers = []
    for root in (whole, bare):
        cfg = load_config(config(BOXES))
        for part in (cfg.test_dataloader.dataset, cfg.test_evaluator):
            for key in ('data_root', 'ann_file'):
                if key in part:
                    part[key] = part[key].replace(str(coco), str(root))
        numbers.append(moved_truth(cfg))
    assert 0.3 < numbers[0]['coco/bbox_mAP'] < 0.95
    assert numbers[0] == numbers[1]
    assert numbers[0]['coco/bbox_mAP_50'] == 1


def test_boxes_alone_are_trained_on(
    run: Callable[..., str],
    config: Callable[..., str],
    pretrained: Path,
    coco: Path,
    bare: Path,
) -> None:
    path = config(BOXES)
    Path(path).write_text(Path(path).read_text().replace(str(coco), str(bare)))
    log = run('train', 'run', path, '--pretrained', pretrained)
    found = metrics(log)
    assert {*found} == {
        f'coco/bbox_mAP{rest}' for rest in ('', '_50', '_75', '_s', '_m', '_l')
    }
    assert found['coco/bbox_mAP_50'] > 0.1
    for split in ('train', 'val'):
        file = bare / f'annotations/instances_{split}2017.json'
        assert f'{file}: objects without area, which is computed: ' in log


def drop_masks(content: dict[str, Any]) -> None:
    for annotation in content['annotations']:
        del annotation['segmentation']


def use_corners(content: dict[str, Any]) -> None:
    for annotation in content['annotations']:
        x, y, w, h = annotation['bbox']
        annotation['bbox'] = [x, y, x + w, y + h]


def rename(content: dict[str, Any]) -> None:
    content['categories'][0]['name'] = 'dog'


def reverse(content: dict[str, Any]) -> None:
    content['categories'].reverse()


def lose_an_image(content: dict[str, Any]) -> None:
    content['images'][0]['file_name'] = 'gone.jpg'


@pytest.mark.parametrize(
    'name, change, message',
    [
        (FPN, drop_masks, 'objects without segmentation, which Mask R-CNN'),
        (BOXES, use_corners, 'that look like [x1, y1, x2, y2]'),
        (BOXES, rename, "['dog', 'cat'], but metainfo.classes of the dataset"),
        (BOXES, reverse, "['cat', 'person'], but metainfo.classes of the"),
        (BOXES, lose_an_image, '/train2017/gone.jpg.'),
    ],
)
def test_what_cannot_be_trained_on_is_refused(
    run: Callable[..., str],
    config: Callable[..., str],
    pretrained: Path,
    coco: Path,
    tmp_path: Path,
    name: str,
    change: Callable[[dict[str, Any]], None],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one line, before the first step."""
    root = rewrite(coco, tmp_path / 'own', change)
    path = config(name)
    Path(path).write_text(Path(path).read_text().replace(str(coco), str(root)))
    with pytest.raises(SystemExit) as exit_info:
        run('train', 'run', path, '--pretrained', pretrained)
    assert exit_info.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith('train: error: ') and message in line, line


def test_a_head_of_other_classes_is_refused(
    run: Callable[..., str],
    config: Callable[..., str],
    pretrained: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its labels would be above those of the annotations."""
    with pytest.raises(SystemExit):
        run(
            'train',
            'run',
            config(BOXES),
            '--pretrained',
            pretrained,
            '--cfg-options',
            'model.roi_head.bbox_head.num_classes=80',
        )
    assert (
        'have 2 classes, but the head has 80; set '
        'model.roi_head.bbox_head.num_classes=2'
    ) in capsys.readouterr().err


def equal_pycocotools(
    found: dict[str, float], data: Path, prefix: Path
) -> None:
    """Compare a log's numbers with those by hand of the saved predictions."""
    by_hand = pycocotools(data / 'annotations/instances_val2017.json', prefix)
    assert len(by_hand) == 12
    for key, value in by_hand.items():
        # mmdet rounds to three digits.
        assert found[f'coco/{key}'] == pytest.approx(value, abs=5.1e-4), key


def pycocotools(truth: Path, prefix: Path) -> dict[str, float]:
    """COCO's metrics of files that hold predictions."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = {}
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(truth)
        for kind in ('bbox', 'segm'):
            found = json.loads(Path(f'{prefix}.{kind}.json').read_text())
            for entry in found if kind == 'segm' else ():
                # Else a mask is small, medium or large as its box is.
                del entry['bbox']
            evaluation = COCOeval(
                annotations, annotations.loadRes(found), kind
            )
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            for i, name in enumerate(
                ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
            ):
                results[f'{kind}_{name}'] = evaluation.stats[i]
    return results


@pytest.mark.parametrize('shift', [0, 4])
def test_the_truth_is_right_and_moved_boxes_are_not(
    config: Callable[..., str], shift: int
) -> None:
    """VOC's metrics compare pixels of files, whatever the images' scale."""
    from mmdet.structures.bbox import HorizontalBoxes
    from mmengine.structures import InstanceData

    cfg = load_config(config(VOC))
    found = {}
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        assert len(dataset) == NUM_TEST
        for evaluator in cfg.test_evaluator:
            metric = METRICS.build(evaluator)
            metric.dataset_meta = dataset.metainfo
            for item in dataset:
                sample = item['data_samples']
                truth = sample.gt_instances
                for boxes in truth, sample.ignored_instances:
                    assert isinstance(boxes.bboxes, HorizontalBoxes)
                    boxes.bboxes = boxes.bboxes.tensor
                sample.pred_instances = InstanceData(
                    bboxes=truth.bboxes + shift,
                    labels=truth.labels,
                    scores=torch.ones(len(truth)),
                )
                metric.process({}, [sample.to_dict()])
            found.update(metric.evaluate(NUM_TEST))
    for names in (
        ('pascal_voc/AP50', 'coco/bbox_mAP_50'),
        ('pascal_voc/AP75', 'coco/bbox_mAP_75'),
        ('pascal_voc/mAP', 'coco/bbox_mAP'),
    ):
        for name in names:
            is_right = shift == 0 or name.endswith('50')
            assert (found[name] == pytest.approx(1)) == is_right, name


@pytest.mark.parametrize('name', [FPN, C4])
def test_another_width_is_refused(
    run: Callable[..., str],
    config: Callable[..., str],
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(backbone_weights(16), tmp_path / 'wide.pth')
    with pytest.raises(SystemExit):
        run(
            'train', 'run', config(name), '--pretrained', tmp_path / 'wide.pth'
        )
    error = capsys.readouterr().err
    assert 'does not fill the ResNet: 0 tensors are not in the file' in error
    assert 'conv1.weight is (16, 3, 7, 7) in the file and (8, ' in error


def test_a_random_backbone_has_to_be_asked_for(
    run: Callable[..., str],
    config: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        run('train', 'run', config(FPN))
    assert 'add --pretrained CHECKPOINT' in capsys.readouterr().err


def test_configs_of_mmdet_itself_take_our_weights(
    config: Callable[..., str], pretrained: Path, tmp_path: Path
) -> None:
    """Without a download of what they name."""
    path = tmp_path / 'theirs.py'
    path.write_text("_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'")
    cfg, _ = train.build_config(
        train.parse_args([str(path), '--pretrained', str(pretrained)])
    )
    assert cfg.model.backbone.init_cfg is None
    assert cfg.default_hooks.pretrained.checkpoint == str(pretrained)


def test_two_processes(
    run: Callable[..., str],
    config: Callable[..., str],
    pretrained: Path,
    tmp_path: Path,
) -> None:
    """Scripts, gloo, and SyncBN that becomes BN with a word about it."""
    path = config(FPN)
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    env = {
        **os.environ,
        'PYTHONPATH': str(ROOT),
        'PYTHON': sys.executable,
        'OMP_NUM_THREADS': '1',
        'GLOO_SOCKET_IFNAME': 'lo',
        'PORT': port,
    }

    def script(name: str, *arguments: Any) -> str:
        done = subprocess.run(
            [
                SCRIPTS / name,
                path,
                *map(str, arguments),
                '--cfg-options',
                'train_cfg.max_epochs=1',
            ],
            cwd=tmp_path,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    out = script('dist_train_fpn.sh', pretrained, 2, '--work-dir', 'run')
    assert '69 SyncBN layers became plain BN' in out
    assert 'Filled 318 backbone tensors' in out
    assert len(losses(out)) == 5  # 18 images of which one is empty, 2 x 2
    tested = script('dist_test.sh', 'run/epoch_1.pth', 2, '--work-dir', 'two')
    # Not those of `out`: while training, each rank validates with statistics
    # of its own in plain BN.
    alone = run('test', 'one', path, tmp_path / 'run/epoch_1.pth')
    assert metrics(tested) == metrics(alone)


def test_mixed_precision(
    run: Callable[..., str], config: Callable[..., str], pretrained: Path
) -> None:
    """RoIAlign and NMS get bfloat16 features and scores."""
    log = run(
        'train',
        'amp',
        config(VOC),
        '--pretrained',
        pretrained,
        '--amp',
        '--cfg-options',
        'train_cfg.max_iters=4',
    )
    assert 'Mixed precision: bfloat16' in log
    assert len(losses(log)) == 4 and np.isfinite(losses(log)).all()


def test_keys_of_mmdets_backbone_are_mmpretrains() -> None:
    from mmdet.models import ResNet as Theirs

    ours = ResNet(50, stem_channels=WIDTH, base_channels=WIDTH).state_dict()
    theirs = Theirs(50, base_channels=WIDTH).state_dict()
    assert [(k, v.shape) for k, v in theirs.items()] == [
        (k, v.shape) for k, v in ours.items()
    ]


def test_detectors_build_for_inference(
    config: Callable[..., str], tmp_path: Path
) -> None:
    """Let mmdet's init_detector read our config and a checkpoint."""
    from mmdet.apis import inference_detector, init_detector

    with DefaultScope.overwrite_default_scope('mmdet'):
        model = init_detector(Config.fromfile(config(C4)), device='cpu')
        found = inference_detector(model, np.asarray(draw(0)[0]))
    assert found.pred_instances.bboxes.shape[1] == 4
