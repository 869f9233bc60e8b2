"""Check the numbers in the configs of the benchmarks that train.

The table below was written from mmselfsup 0.x, whose benchmarks they
reproduce, and from upstream's protocols; it is not derived from the configs.
"""

import ast
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.datasets import CIFAR10

from swav_plugin.datasets import SampleKey
from swav_plugin.engine.config import check_keys
from swav_plugin.registry import (
    DATASETS,
    HOOKS,
    LOG_PROCESSORS,
    METRICS,
    MODELS,
    build_transforms,
)
from tests.test_configs import base_depth, rates

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / 'configs/benchmarks/classification'
IN1K_ROOTS = ('data/imagenet/train', 'data/imagenet/val')
PAGE = ['feature1', 'feature2', 'feature3', 'feature4', 'feature5']
CROP = [
    ('LoadImage', {}),
    (
        'RandomResizedCrop',
        dict(
            size=224,
            crop_ratio_range=(0.08, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3),
        ),
    ),
    ('RandomFlip', dict(prob=0.5)),
]
JITTER = [
    (
        'ColorJitter',
        dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.0),
    ),
    ('Lighting', dict(alphastd=0.1)),
]
CENTER = [
    ('LoadImage', {}),
    ('ResizeEdge', dict(scale=256, edge='short', backend='pillow')),
    ('CenterCrop', dict(crop_size=224)),
]
PLACES = CENTER[:2] + [
    ('CenterCrop', dict(crop_size=256)),
    ('RandomCrop', dict(crop_size=224)),
    CROP[2],
]
PACK = [('PackViews', {})]


@dataclass
class Facts:
    """The numbers of a recipe; `drops` is epochs and factor, () a cosine."""

    gpus: int
    batch_per_gpu: int
    epochs: int
    lr: float
    optimizer: dict
    drops: tuple = ()
    # The features of linear probes; [] if all weights are trained.
    features: list = field(default_factory=list)
    head_mult: float = 1
    classes: int = 1000
    roots: tuple = IN1K_ROOTS
    lists: tuple = ('', '')
    augmentation: list = field(default_factory=lambda: CROP)
    checkpoint_every: int = 10
    numbers: tuple = ()


def sgd(weight_decay: float, **more: Any) -> dict:
    return dict(type='SGD', momentum=0.9, weight_decay=weight_decay, **more)


NESTEROV = sgd(1e-4, nesterov=True)
SEMI = dict(epochs=20, drops=([12, 16], 0.2))
ONE = dict(lists=('../meta/train_1percent.txt', ''), **SEMI)
TEN = dict(lists=('../meta/train_10percent.txt', ''), **SEMI)

FACTS = {
    'imagenet/resnet50_mhead_linear-8xb32-steplr-90e_in1k': Facts(
        8,
        32,
        90,
        0.01,
        NESTEROV,
        ([30, 60, 90], 0.1),
        PAGE,
        augmentation=CROP + JITTER,
        numbers=(16.98, 34.96, 49.26, 65.98, 70.74),
    ),
    'imagenet/resnet50_linear-8xb32-coslr-100e_in1k': Facts(
        8,
        32,
        100,
        0.3,
        sgd(1e-6, nesterov=False),
        features=['avgpool'],
        numbers=(72.7, 70.47, 70.5, 75.3),
    ),
    'imagenet/resnet50_linear-8xb512-coslr-90e_in1k': Facts(
        8,
        512,
        90,
        1.6,
        dict(
            type='LARS',
            momentum=0.9,
            weight_decay=0.0,
            trust_coefficient=1e-3,
            clip=False,
            eps=1e-8,
        ),
        features=['avgpool'],
        numbers=('70.50',),
    ),
    'places205/resnet50_mhead_8xb32-steplr-28e_places205': Facts(
        8,
        32,
        28,
        0.01,
        NESTEROV,
        ([7, 14, 21], 0.1),
        PAGE,
        classes=205,
        roots=('data/places205',) * 2,
        lists=('meta/train.txt', 'meta/val.txt'),
        augmentation=PLACES,
        checkpoint_every=1,
        numbers=(23.33, 35.45, 43.13, 51.98, 55.09),
    ),
    'inaturalist2018/resnet50_mhead_8xb32-steplr-84e_inat18': Facts(
        8,
        32,
        84,
        0.01,
        NESTEROV,
        ([24, 48, 72], 0.1),
        PAGE,
        classes=8142,
        roots=('data/inaturalist2018',) * 2,
        lists=('meta/train.txt', 'meta/val.txt'),
        checkpoint_every=1,
        numbers=(48.6,),
    ),
    'imagenet/imagenet_1percent/'
    'resnet50_head250_8xb32-steplr2e-2-20e_in1k-1pct': Facts(
        8,
        32,
        lr=0.02,
        optimizer=sgd(0.0),
        head_mult=250,
        numbers=(53.9, 78.5, '55.0'),
        **ONE,
    ),
    'imagenet/imagenet_10percent/'
    'resnet50_head20_8xb32-steplr1e-2-20e_in1k-10pct': Facts(
        8,
        32,
        lr=0.01,
        optimizer=sgd(0.0),
        head_mult=20,
        numbers=(70.2, 89.9, '69.0'),
        **TEN,
    ),
    'imagenet/imagenet_1percent/'
    'resnet50_head1_4xb64-steplr1e-1-20e_in1k-1pct': Facts(
        4, 64, lr=0.1, optimizer=sgd(5e-4), **ONE
    ),
    'imagenet/imagenet_10percent/'
    'resnet50_head1_4xb64-steplr1e-1-20e_in1k-10pct': Facts(
        4, 64, lr=0.1, optimizer=sgd(1e-4), **TEN
    ),
    'cifar10/resnet50_8xb128-steplr-350e_cifar10': Facts(
        8,
        128,
        350,
        0.1,
        sgd(5e-4),
        ([150, 250], 0.1),
        classes=10,
        roots=('data/cifar10',) * 2,
        checkpoint_every=50,
        augmentation=[('RandomCrop', dict(crop_size=32, padding=4)), CROP[2]],
    ),
}
PROBES = [name for name, facts in FACTS.items() if facts.features]
CIFAR = 'cifar10/resnet50_8xb128-steplr-350e_cifar10'


@pytest.fixture(autouse=True)
def our_scope() -> Iterator[None]:
    """Resolve names as a run of ours does, whatever ran before."""
    with DefaultScope.overwrite_default_scope('swav_plugin'):
        yield


@cache
def load(name: str) -> Config:
    """Read a recipe; the tests share it and must not change it."""
    return Config.fromfile(FOLDER / f'{name}.py')


def calls(pipeline: list) -> list:
    """Transforms as (name, arguments)."""
    return [
        (step.pop('type'), step) for step in (dict(each) for each in pipeline)
    ]


def test_every_recipe_that_trains_is_in_the_table() -> None:
    found = {
        path.relative_to(FOLDER).as_posix().removesuffix('.py')
        for path in FOLDER.glob('*/**/*.py')
    }
    assert found == set(FACTS)


@pytest.mark.parametrize('name', FACTS)
def test_facts(name: str) -> None:
    cfg, facts = load(name), FACTS[name]
    model = cfg.model
    assert model.head.num_classes == facts.classes
    assert cfg.train_cfg.max_epochs == facts.epochs
    optimizer = dict(cfg.optim_wrapper.optimizer)
    if facts.features:
        assert model.type == 'LinearProbe'
        assert model.features == facts.features
        assert model.windows == 'mmselfsup'
        assert model.head.learning_rates == [facts.lr]
        # mmselfsup's multi-head classifiers have it, AvgPool's have not.
        assert model.head.batch_norm == (facts.features == PAGE)
        assert cfg.get('sync_bn') is None
    else:
        assert model.type == 'ImageClassifier'
        assert model.backbone.frozen_stages == -1
        assert not model.backbone.norm_eval
        assert model.head.in_channels == 2048
        assert cfg.sync_bn == 'torch'
        assert optimizer.pop('lr') == facts.lr
    assert optimizer == facts.optimizer
    assert model.backbone.depth == 50
    assert model.backbone.norm_cfg == dict(type='BN')
    checkpoint = cfg.default_hooks.checkpoint
    assert checkpoint.interval == facts.checkpoint_every
    assert checkpoint.max_keep_ckpts == 3
    assert checkpoint.backend_args == dict(backend='atomic')
    assert cfg.auto_scale_lr == dict(
        enable=False, base_batch_size=facts.gpus * facts.batch_per_gpu
    )
    hooks = cfg.default_hooks
    assert hooks.pretrained == dict(type='PretrainedHook', checkpoint=None)
    assert hooks.results == dict(type='ResultsHook')
    assert 'custom_hooks' not in cfg


@pytest.mark.parametrize('name', FACTS)
def test_data(name: str) -> None:
    cfg, facts = load(name), FACTS[name]
    train, val = cfg.train_dataloader, cfg.val_dataloader
    assert cfg.test_dataloader == val
    assert cfg.test_evaluator == cfg.val_evaluator == dict(type='TopKAccuracy')
    assert train.batch_size == facts.batch_per_gpu
    assert train.drop_last
    assert train.sampler == dict(type='KeyedSampler', shuffle=True)
    assert val.sampler == dict(
        type='DefaultSampler', shuffle=False, round_up=False
    )
    assert val.dataset.test_mode and not train.dataset.get('test_mode')
    assert (train.dataset.data_root, val.dataset.data_root) == facts.roots
    assert calls(train.dataset.pipeline) == facts.augmentation + PACK
    if name != CIFAR:
        assert (train.dataset.ann_file, val.dataset.ann_file) == facts.lists
        assert calls(val.dataset.pipeline) == CENTER + PACK


@pytest.mark.parametrize('name', FACTS)
def test_mean_and_deviation(name: str) -> None:
    preprocessor = load(name).model.data_preprocessor
    mean, std = (0.485, 0.456, 0.406), (0.228, 0.224, 0.225)  # upstream's .228
    if name == CIFAR:
        mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    np.testing.assert_allclose(preprocessor.mean, np.array(mean) * 255)
    np.testing.assert_allclose(preprocessor.std, np.array(std) * 255)
    # LoadImage and CIFAR10 give RGB already.
    assert not preprocessor.get('to_rgb', False)


@pytest.mark.parametrize('name', FACTS)
def test_learning_rate_of_each_epoch(name: str, tmp_path: Path) -> None:
    cfg, facts = Config(load(name).to_dict()), FACTS[name]
    cfg.optim_wrapper.optimizer.lr = facts.lr
    found = rates(cfg, 1, tmp_path)
    epochs = np.arange(facts.epochs)
    if facts.drops:
        milestones, gamma = facts.drops
        expected = facts.lr * gamma ** np.searchsorted(
            milestones, epochs, side='right'
        )
    else:
        expected = facts.lr * 0.5 * (1 + np.cos(np.pi * epochs / facts.epochs))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize('name', FACTS)
def test_optimizer_of_the_model(name: str) -> None:
    """Rates of backbone and head; probes hold nothing of the backbone."""
    cfg, facts = load(name), FACTS[name]
    head = dict(cfg.model.head, num_classes=2)  # 8,142 take seconds to draw
    model = MODELS.build(dict(cfg.model, head=head))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper.to_dict())
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    }
    decay = facts.optimizer['weight_decay']
    if facts.features:
        assert set(found) == {
            f'head.classifiers.{feature}.0.{part}'
            for feature in facts.features
            for part in ('weight', 'bias')
        }
        assert set(found.values()) == {(facts.lr, decay)}
    else:
        assert set(found) == set(names.values())
        for key, pair in found.items():
            scale = facts.head_mult if key.startswith('head.') else 1
            assert pair == pytest.approx((facts.lr * scale, decay)), key


@pytest.mark.parametrize('name', FACTS)
def test_images_of_the_pipelines(name: str) -> None:
    cfg, img = (
        load(name),
        np.random.default_rng(0).integers(
            256, size=(300, 280, 3), dtype=np.uint8
        ),
    )
    side = 224
    if name == CIFAR:
        img, side = img[:32, :32], 32
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        transforms = Compose(build_transforms(loader.dataset.pipeline))
        one, other = [
            transforms(dict(img=img, sample_idx=SampleKey(3, 0, seed)))
            for seed in (0, 1)
        ]
        assert one['inputs'].shape == (3, side, side)
        is_training = loader is cfg.train_dataloader
        assert is_training != bool((one['inputs'] == other['inputs']).all())


def test_cifar_10_can_be_read(tmp_path: Path) -> None:
    """Red stays red, from the published layout to the model."""
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    pixels = np.zeros((4, 3, 32, 32), np.uint8)
    pixels[:, 0] = 255
    batch = pickle.dumps(dict(data=pixels.reshape(4, -1), labels=[3, 1, 4, 1]))
    for file, _ in CIFAR10.train_list + CIFAR10.test_list:
        (folder / file).write_bytes(batch)
    cfg = load(CIFAR)
    model = MODELS.build(cfg.model)
    with mock.patch.object(CIFAR10, '_check_integrity', lambda _: True):
        for loader, count in (
            (cfg.train_dataloader, 20),
            (cfg.val_dataloader, 4),
        ):
            dataset = DATASETS.build(
                dict(loader.dataset, data_root=str(tmp_path))
            )
            assert len(dataset) == count
            sample = dataset[SampleKey(0, 0, 0)]
            assert int(sample['data_samples'].gt_label) == 3
            inputs = model.data_preprocessor(dict(inputs=[sample['inputs']]))[
                'inputs'
            ]
            means = inputs[0, :, 16, 16]
            np.testing.assert_allclose(
                means,
                [
                    (255 - 125.307) / 51.5865,
                    -122.961 / 50.847,
                    -113.8575 / 51.255,
                ],
                rtol=1e-5,
            )


@pytest.mark.parametrize('name', FACTS)
def test_head_of_file(name: str) -> None:
    head = ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text()))
    assert head is not None
    facts, text = FACTS[name], ' '.join(head.split())
    assert f'{FOLDER.relative_to(ROOT)}/{name}.py' in text.replace('/ ', '/')
    stem = name.rsplit('/')[-1]
    assert f'{stem}.py {facts.gpus} --pretrained CHECKPOINT' in text
    assert 'not measured here' in text.lower()
    for number in facts.numbers:
        assert str(number) in text
    for part in ('Differences: ', 'Time: '):
        assert part in text


@pytest.mark.parametrize('name', FACTS)
def test_name_states_the_recipe(name: str) -> None:
    facts = FACTS[name]
    stem = name.rsplit('/')[-1]
    kind = 'steplr' if facts.drops else 'coslr'
    assert f'{facts.gpus}xb{facts.batch_per_gpu}-{kind}' in stem
    assert f'-{facts.epochs}e_' in stem
    assert ('mhead' in stem) == (facts.features == PAGE)
    if 'percent' in name:
        rate = f'{facts.lr:.0e}'.replace('e-0', 'e-')
        assert f'_head{facts.head_mult}_' in stem
        assert f'-steplr{rate}-' in stem


@pytest.mark.parametrize('name', FACTS)
def test_what_a_runner_reads(name: str, tmp_path: Path) -> None:
    cfg = load(name)
    check_keys(cfg)
    assert base_depth(FOLDER / f'{name}.py') <= 2
    cfg.dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py').to_dict() == cfg.to_dict()
    for hook in cfg.default_hooks.values():
        HOOKS.build(hook.to_dict())
    LOG_PROCESSORS.build(cfg.log_processor.to_dict())
    METRICS.build(cfg.val_evaluator.to_dict())
