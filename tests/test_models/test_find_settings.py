"""Features of a checkpoint of ours are those of its own validation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor
from mmengine.runner import Runner
from PIL import Image
from torch import nn
from torchvision.models import resnet18

from swav_plugin.apis import assign_clusters, extract_features, get_model
from swav_plugin.checkpoints import Checkpoint
from swav_plugin.checkpoints.model_settings import ModelSettings
from swav_plugin.checkpoints.write import extract, publish, write_weights
from swav_plugin.models import MultiViewPreprocessor
from swav_plugin.models.find_settings import find_settings
from swav_plugin.models.swav_loss import sinkhorn
from tests.conftest import REPO_ROOT

MEAN, STD = [99.0, 120.5, 80.25], [40.0, 50.0, 60.0]
WHOLE = [dict(type='LoadImage'), dict(type='PackViews')]
CROPPED = [
    dict(type='LoadImage'),
    dict(type='ResizeEdge', scale=30, edge='short', backend='pillow'),
    dict(type='CenterCrop', crop_size=24),
    dict(type='PackViews'),
]


def config(folder: Path, work_dir: Path) -> Config:
    """A run of one step on eight images."""
    dataset = dict(type='ImageFolder', data_root=str(folder))
    views = dict(
        type='MultiCrop',
        num_views=[2, 1],
        sizes=[32, 16],
        crop_ratio_ranges=[(0.3, 1.0), (0.1, 0.3)],
    )
    return Config(
        dict(
            default_scope='swav_plugin',
            work_dir=str(work_dir),
            model=dict(
                type='SwAV',
                data_preprocessor=dict(
                    type='MultiViewPreprocessor', mean=MEAN, std=STD
                ),
                backbone=dict(
                    type='ResNet_CIFAR',
                    depth=18,
                    stem_channels=8,
                    base_channels=8,
                    norm_cfg=dict(type='BN'),
                ),
                neck=dict(
                    type='SwAVNeck',
                    in_channels=64,
                    hid_channels=16,
                    out_channels=8,
                ),
                head=dict(
                    type='SwAVHead',
                    num_prototypes=5,
                    epsilon=0.02,
                    num_iters=7,
                    temperature=0.3,
                ),
            ),
            train_dataloader=dict(
                batch_size=8,
                sampler=dict(type='KeyedSampler', shuffle=True),
                collate_fn=dict(type='collate_views'),
                dataset=dict(
                    dataset,
                    pipeline=[WHOLE[0], views, WHOLE[1]],
                ),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook')),
        )
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for number in range(8):
        pixels = rng.integers(256, size=(32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f'{number}.png')
    return root


@pytest.mark.parametrize('pipeline', [WHOLE, CROPPED])
def test_features_are_those_of_the_validation(
    folder: Path,
    pipeline: list[dict],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runner = Runner.from_cfg(config(folder, tmp_path / 'run'))
    runner.cfg.val_dataloader = dict(
        batch_size=8,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='ImageFolder',
            data_root=str(folder),
            pipeline=pipeline,
            test_mode=True,
        ),
    )
    runner.train()
    theirs: Any = runner.model.eval()
    (batch,) = runner.build_dataloader(runner.cfg.val_dataloader)
    with torch.no_grad():
        inputs = theirs.data_preprocessor(batch)['inputs']
        expected = theirs.backbone(inputs)[-1].mean((2, 3))
        embeddings = theirs.neck(theirs.extract_feat(inputs))
        prototypes = theirs.head.prototypes[0].weight
        scores = embeddings @ F.normalize(prototypes).T
    capsys.readouterr()

    path = tmp_path / 'run/epoch_1.pth'
    written = [
        path,
        publish(path, tmp_path / 'a.pth').path,
        write_weights(path, tmp_path / 'b.safetensors', 'safetensors').path,
        write_weights(path, tmp_path / 'c.pth', 'mmpretrain').path,
        extract(path, tmp_path / 'd.pth', 'backbone', False).path,
    ]
    for file in written:
        model: Any = get_model(file, 'cpu')
        features, _ = extract_features(model, folder)
        torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)
    assert 'does not say how' not in capsys.readouterr().out
    assert (expected - expected.mean(0)).abs().max() > 1e-3

    # The same weights without what is said of them are off.
    torch.save(theirs.state_dict(), tmp_path / 'bare.pth')
    bare, _ = extract_features(get_model(tmp_path / 'bare.pth'), folder)
    assert (bare - expected).abs().max() > 1e-3

    model = get_model(path, 'cpu')
    probabilities = (scores / 0.3).softmax(1).max(1).values
    found = assign_clusters(model, folder)
    torch.testing.assert_close(found.confidence, probabilities)
    codes = sinkhorn(scores, 0.02, 7).max(1).values
    found = assign_clusters(model, folder, balanced=True)
    torch.testing.assert_close(found.confidence, codes, rtol=0, atol=1e-4)


def test_what_a_file_has_no_place_for_is_reported(tmp_path: Path) -> None:
    content = dict(
        meta=dict(model_settings=ModelSettings(size=32).to_plain()),
        state_dict=resnet18().state_dict(),
    )
    torch.save(content, tmp_path / 'a.pth')
    written = write_weights(tmp_path / 'a.pth', tmp_path / 'b.pth', 'timm')
    assert written.settings == ModelSettings(size=32)
    assert Checkpoint(tmp_path / 'b.pth').settings is None


def shipped(name: str) -> ModelSettings | None:
    """The settings of a recipe, whose preprocessor is built from it."""
    cfg = Config.fromfile(REPO_ROOT / f'configs/selfsup/swav/{name}.py')
    model = nn.Module()
    arguments = dict(cfg.model.data_preprocessor)
    arguments.pop('type')
    model.data_preprocessor = MultiViewPreprocessor(**arguments)
    return find_settings(model, cfg)


def test_sizes_of_our_recipes() -> None:
    for name, size, resize in (
        ('swav_demo_digits', 32, 37),
        ('swav_demo_images', 64, 73),
        ('swav_resnet18_1xb256-mcrop-2-4-coslr-200e_cifar10-32-18', 32, 32),
        (
            'swav_resnet18_1xb256-mcrop-2-6-coslr-800e_imagenette-128-64',
            128,
            128,
        ),
        (
            'swav_vit-small-p16_1xb128-mcrop-2-4-coslr-200e_imagenette-224-96',
            224,
            256,
        ),
        ('swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96', 224, 256),
    ):
        found = shipped(name)
        assert found is not None
        assert (found.size, found.resize) == (size, resize), name
    found = shipped('swav_resnet18_1xb256-mcrop-2-6-coslr-1000e_cifar10-32-18')
    assert found is not None
    assert found.mean == pytest.approx((125.307, 122.961, 113.8575))
    assert found.std == pytest.approx((62.985, 62.0925, 66.708))


@pytest.mark.parametrize(
    ('loader', 'swaps', 'order'),
    [
        ('LoadImage', False, 'RGB'),
        ('LoadImageFromFile', True, 'RGB'),
        ('mmcv.LoadImageFromFile', False, 'BGR'),
    ],
)
def test_order_of_channels(loader: str, swaps: bool, order: str) -> None:
    model = nn.Module()
    model.data_preprocessor = ImgDataPreprocessor(MEAN, STD, bgr_to_rgb=swaps)
    pipeline = [
        dict(type=loader),
        dict(type='RandomResizedCrop', scale=(48, 48)),
    ]
    cfg = dict(
        train_dataloader=dict(
            dataset=dict(dataset=dict(datasets=[dict(pipeline=pipeline)]))
        )
    )
    found = find_settings(model, cfg)
    assert found is not None
    assert (found.channel_order, found.size) == (order, 48)
    assert found.mean == pytest.approx(MEAN)
    pipeline.append(dict(type='LoadAnnotations'))
    assert find_settings(model, cfg) is None


def test_nothing_is_said_of_models_that_do_not_normalize() -> None:
    assert find_settings(nn.Linear(1, 1), {}) is None
    model = nn.Module()
    model.data_preprocessor = MultiViewPreprocessor(MEAN, STD)
    assert find_settings(model, {}) is None
