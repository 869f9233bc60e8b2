"""Models read from weights alone, against those that the weights are of."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmpretrain.models import ImageClassifier

from swav_plugin.checkpoints import (
    Checkpoint,
    convert_state_dict,
    read_checkpoint,
)
from swav_plugin.checkpoints.model_settings import KEY
from swav_plugin.models import SwAV
from swav_plugin.models.pretrained import (
    fill_model,
    model_of_checkpoint,
    model_of_config,
)
from swav_plugin.registry import MODELS
from tests.test_checkpoints.foreign import CASES, make_network


def swav(
    backbone: dict | None = None,
    neck: dict | None = None,
    head: dict | None = None,
) -> SwAV:
    """A narrow SwAV with random weights and statistics, in eval mode."""
    torch.manual_seed(0)
    small = dict(type='ResNet', depth=18, base_channels=8, stem_channels=8)
    model: SwAV = MODELS.build(
        dict(
            type='SwAV',
            data_preprocessor=dict(
                type='MultiViewPreprocessor',
                mean=[123.675, 116.28, 103.53],
                std=[58.14, 57.12, 57.375],
            ),
            backbone={**small, **(backbone or {})},
            neck={
                **dict(type='SwAVNeck', in_channels=64, hid_channels=24),
                **(neck or {}),
            },
            head={**dict(type='SwAVHead', num_prototypes=7), **(head or {})},
        )
    )
    for name, buffer in model.named_buffers():
        if name.endswith('running_mean'):
            buffer.uniform_(-0.1, 0.1)
        if name.endswith('running_var'):
            buffer.uniform_(0.5, 1.5)
    return model.eval()


def upstream_names(model: SwAV) -> dict[str, torch.Tensor]:
    """The weights of a model as upstream's files name them."""
    names = {}
    for key, value in model.state_dict().items():
        if key.startswith('head.prototypes.'):
            number = key.split('.')[2]
            several = len(model.head.prototypes) > 1
            key = f'prototypes{f".prototypes{number}" * several}.weight'
        key = key.replace('neck.projection.', 'projection_head.')
        names[f'module.{key.replace("backbone.", "")}'] = value
    return names


@pytest.mark.parametrize('layout', ['ours', 'upstream'])
@pytest.mark.parametrize(
    ('backbone', 'neck', 'head'),
    [
        ({}, {}, {}),
        (
            dict(type='ResNet_CIFAR', depth=50, stem_channels=16),
            dict(in_channels=256, hid_channels=0, out_channels=16),
            dict(num_prototypes=[5, 7, 3] + [2] * 8),
        ),
        (
            dict(base_channels=16),
            dict(in_channels=128, norm_cfg=None),
            dict(queue_length=64),
        ),
    ],
)
def test_swav_is_read_from_weights(
    backbone: dict,
    neck: dict,
    head: dict,
    layout: str,
    tmp_path: Path,
) -> None:
    theirs = swav(backbone, neck, head)
    weights = theirs.state_dict()
    if layout == 'upstream':
        weights = {
            key: value
            for key, value in upstream_names(theirs).items()
            if 'queue' not in key
        }
    torch.save(weights, tmp_path / 'w.pth')
    ours = model_of_checkpoint(Checkpoint(tmp_path / 'w.pth')).eval()
    assert isinstance(ours, SwAV)
    images = torch.randint(256, (3, 3, 64, 64), dtype=torch.uint8)
    scores = []
    with torch.no_grad():
        for model in (theirs, ours):
            inputs = model.data_preprocessor(dict(inputs=images))['inputs']
            features = model.extract_feat(inputs)
            scores.append([features, *model.head(model.neck(features))])
    assert len(scores[0]) == 1 + len(theirs.head.num_prototypes)
    for expected, found in zip(*scores, strict=True):
        assert expected.std(0).mean() > 1e-5
        assert torch.equal(expected, found)


@pytest.mark.parametrize('name', CASES)
def test_files_of_other_projects(name: str, tmp_path: Path) -> None:
    """Their weights all arrive; test_foreign compares the outputs."""
    case, path = CASES[name], tmp_path / 'weights.any'
    case.save(case.write(make_network(**case.network)), path)
    model = model_of_checkpoint(Checkpoint(path))
    assert isinstance(model, SwAV)
    is_cifar = case.network.get('is_cifar', False)
    assert type(model.backbone).__name__ == 'ResNet' + '_CIFAR' * is_cifar
    weights = convert_state_dict(read_checkpoint(path))
    for key, value in model.state_dict().items():
        if not key.endswith('num_batches_tracked'):
            assert torch.equal(value, weights[key].float()), key


@pytest.mark.parametrize('lacking', ['neck.', 'head.'])
def test_without_a_part_it_is_the_backbone(
    lacking: str, tmp_path: Path
) -> None:
    theirs = swav()
    weights = {
        key: value
        for key, value in theirs.state_dict().items()
        if not key.startswith(lacking)
    }
    torch.save(weights, tmp_path / 'w.pth')
    ours = model_of_checkpoint(Checkpoint(tmp_path / 'w.pth')).eval()
    assert isinstance(ours, ImageClassifier) and ours.head is None
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(
            ours.backbone(images)[0], theirs.backbone(images)[0]
        )


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        (
            'neck.projection.5.weight',
            torch.zeros(4, 4),
            r'layers at \[0, 3, 5',
        ),
        ('head.prototypes.1.weight', torch.zeros(4, 9), r'\[128, 9\] values'),
    ],
)
def test_another_head_is_left_out_and_said_so(
    key: str,
    value: torch.Tensor,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = {**swav().state_dict(), key: value}
    torch.save(weights, tmp_path / 'w.pth')
    model = model_of_checkpoint(Checkpoint(tmp_path / 'w.pth'))
    assert isinstance(model, ImageClassifier)
    said = capsys.readouterr().out
    assert re.search(f'w.pth: taking the backbone alone: .*{message}', said)


def test_networks_of_configs(tmp_path: Path) -> None:
    """Such as the demo's, of three stages, whose weights do not tell it."""
    file = Path(__file__).parents[2] / 'configs/selfsup/swav'
    cfg = Config.fromfile(file / 'swav_demo_digits.py')
    torch.manual_seed(0)
    theirs = MODELS.build(cfg.model)
    theirs.init_weights()
    torch.save(theirs.state_dict(), tmp_path / 'w.pth')
    ours = model_of_config(cfg, str(tmp_path / 'w.pth'))
    for expected, found in zip(
        theirs.parameters(), ours.parameters(), strict=True
    ):
        assert torch.equal(expected, found)
    with pytest.raises(ValueError, match='not the weights of a ResNet'):
        model_of_checkpoint(Checkpoint(tmp_path / 'w.pth'))
    said = fill_model(ours, 'random')
    assert said == 'The network is as initialized: no weights were loaded.'
    assert not torch.equal(
        theirs.backbone.conv1.weight, ours.backbone.conv1.weight
    )


def test_prototypes_with_a_bias_leave_the_backbone(tmp_path: Path) -> None:
    """lightly's: features need neither neck nor prototypes."""
    weights = dict(swav().state_dict())
    torch.save(weights, tmp_path / 'w.pth')
    whole = model_of_checkpoint(Checkpoint(tmp_path / 'w.pth'))
    assert isinstance(whole, SwAV)
    weights['head.prototypes.0.bias'] = torch.ones(7)
    torch.save(weights, tmp_path / 'bias.pth')
    model = model_of_checkpoint(Checkpoint(tmp_path / 'bias.pth'))
    assert isinstance(model, ImageClassifier)
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(
        model.eval().backbone(image)[0], whole.eval().backbone(image)[0]
    )


def test_defaults_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a file that does not say how its images were prepared."""
    torch.save(swav().state_dict(), tmp_path / 'w.pth')
    model_of_checkpoint(Checkpoint(tmp_path / 'w.pth'))
    (line,) = capsys.readouterr().out.splitlines()
    for part in (
        f'{tmp_path}/w.pth does not say how its images were prepared',
        'mean 123.675 116.28 103.53 and std 58.14 57.12 57.375',
        'center crop of 224 px, epsilon 0.05, 3 sweeps',
        '--size',
        '--config',
    ):
        assert part in line


def test_bgr_is_made_of_rgb(tmp_path: Path) -> None:
    """Of a network that takes BGR, whose mean and std are in that order."""
    torch.save(swav().state_dict(), tmp_path / 'rgb.pth')
    rgb: Any = model_of_checkpoint(Checkpoint(tmp_path / 'rgb.pth'))
    settings = replace(
        rgb.model_settings,
        mean=rgb.model_settings.mean[::-1],
        std=rgb.model_settings.std[::-1],
        channel_order='BGR',
    )
    weights = swav().state_dict()
    conv = 'backbone.conv1.weight'
    weights[conv] = weights[conv].flip(1)
    content = dict(meta={KEY: settings.to_plain()}, state_dict=weights)
    torch.save(content, tmp_path / 'bgr.pth')
    bgr: Any = model_of_checkpoint(Checkpoint(tmp_path / 'bgr.pth'))
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    expected, found = (
        model.eval().backbone(
            model.data_preprocessor(dict(inputs=images))['inputs']
        )[0]
        for model in (rgb, bgr)
    )
    torch.testing.assert_close(found, expected)


def test_random_weights_are_not_listed(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    fill_model(swav(), 'random')
    printed = capsys.readouterr()
    assert printed.out == printed.err == '' and not caplog.records
