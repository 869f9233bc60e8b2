"""Layouts of other SwAV checkpoints, and weights that do not load."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from swav_plugin.checkpoints.keys import (
    convert_state_dict,
    load_backbone,
    load_model,
    load_shared_head,
    read_checkpoint,
)
from swav_plugin.models import ResLayerExtraNorm, SwAV
from swav_plugin.registry import MODELS

Weights = dict[str, Tensor]


def make_model(depth: int = 18, queue_length: int = 4) -> SwAV:
    return MODELS.build(
        dict(
            type='SwAV',
            backbone=dict(
                type='ResNet', depth=depth, norm_cfg=dict(type='BN')
            ),
            neck=dict(
                type='SwAVNeck',
                in_channels=512 if depth == 18 else 2048,
                hid_channels=6,
                out_channels=4,
            ),
            head=dict(
                type='SwAVHead', num_prototypes=5, queue_length=queue_length
            ),
        )
    )


def released() -> Weights:
    """Random weights under the names of upstream's files."""
    torch.manual_seed(0)
    weights = torchvision.models.resnet18().state_dict()
    weights = {k: v for k, v in weights.items() if not k.startswith('fc.')}
    for key, value in weights.items():
        if value.is_floating_point():
            weights[key] = torch.rand_like(value)
    head = torch.nn.Sequential(
        torch.nn.Linear(512, 6),
        torch.nn.BatchNorm1d(6),
        torch.nn.ReLU(),
        torch.nn.Linear(6, 4),
    )
    for key, value in head.state_dict().items():
        weights[f'projection_head.{key}'] = value
    weights['prototypes.weight'] = torch.rand(5, 4)
    return {f'module.{key}': value for key, value in weights.items()}


def mmselfsup(prototypes: str) -> Weights:
    """The same weights as mmselfsup and mmpretrain name them."""
    weights = {}
    for key, value in released().items():
        key = key.removeprefix('module.')
        if key.startswith('projection_head.'):
            rest = key.removeprefix('projection_head.')
            weights[f'neck.projection_neck.{rest}'] = value
            if rest.startswith('1.'):
                weights[f'neck.norm.{rest[2:]}'] = value
        elif key == 'prototypes.weight':
            weights[prototypes] = value
        else:
            weights[f'backbone.{key}'] = value
    weights['data_preprocessor.mean'] = torch.zeros(3)
    return weights


LAYOUTS: dict[str, Callable[[], Any]] = {
    'released': released,
    'training': lambda: dict(epoch=3, state_dict=released()),
    'mmselfsup 0.x': lambda: dict(
        state_dict=mmselfsup('head.prototypes.weight')
    ),
    'mmpretrain': lambda: dict(
        meta={}, state_dict=mmselfsup('head.loss_module.prototypes.weight')
    ),
    'ours': lambda: dict(state_dict=convert_state_dict(released())),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_tensor_arrives(layout: str, tmp_path: Path) -> None:
    path = tmp_path / 'weights.pth'
    torch.save(LAYOUTS[layout](), path)
    model = make_model()
    num_filled = load_model(model, path)
    weights = released()
    assert num_filled == len(weights)
    own = model.state_dict()
    names = {
        'layer1.0.conv1.weight': 'backbone.layer1.0.conv1.weight',
        'layer4.0.downsample.1.running_var': (
            'backbone.layer4.0.downsample.1.running_var'
        ),
        'projection_head.0.bias': 'neck.projection.0.bias',
        'projection_head.1.running_var': 'neck.projection.1.running_var',
        'projection_head.3.weight': 'neck.projection.3.weight',
        'prototypes.weight': 'head.prototypes.0.weight',
    }
    for theirs, ours in names.items():
        assert torch.equal(own[ours], weights[f'module.{theirs}']), ours
    backbone = [k for k in own if k.startswith('backbone.')]
    for key in backbone:
        theirs = 'module.' + key.removeprefix('backbone.')
        assert torch.equal(own[key], weights[theirs]), key


def test_released_weights_compute_what_they_did(tmp_path: Path) -> None:
    path = tmp_path / 'weights.pth.tar'
    resnet = torchvision.models.resnet18().eval()
    torch.save(
        {
            f'module.{k}': v
            for k, v in resnet.state_dict().items()
            if not k.startswith('fc.')
        },
        path,
    )
    model = make_model().eval()
    load_backbone(model.backbone, path)
    resnet.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 64, 64).double()
    torch.testing.assert_close(
        model.double()(images), resnet.double()(images), rtol=0, atol=1e-9
    )


def test_several_sets_of_prototypes_keep_their_order() -> None:
    weights = {
        f'module.prototypes.prototypes{i}.weight': torch.full((2, 2), i)
        for i in (0, 1)
    }
    converted = convert_state_dict(weights)
    assert converted['head.prototypes.1.weight'][0, 0] == 1


def test_a_bare_backbone_is_enough_for_a_backbone(tmp_path: Path) -> None:
    path = tmp_path / 'backbone.pth'
    model, other = make_model(), make_model()
    torch.save(model.backbone.state_dict(), path)
    assert load_backbone(other.backbone, path) == 120
    assert torch.equal(
        other.backbone.conv1.weight, model.backbone.conv1.weight
    )


def test_a_missing_tensor_is_an_error_with_both_lists(tmp_path: Path) -> None:
    path = tmp_path / 'weights.pth'
    weights = released()
    weights['module.stem.weight'] = weights.pop('module.conv1.weight')
    torch.save(weights, path)
    backbone = make_model().backbone
    before = backbone.bn1.weight.clone()
    with pytest.raises(ValueError) as error:
        load_backbone(backbone, path)
    assert '1 tensors are not in the file (conv1.weight)' in str(error.value)
    assert 'stem.weight' in str(error.value)
    assert torch.equal(backbone.bn1.weight, before)  # nothing half loaded


def test_another_depth_and_another_width_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'weights.pth'
    torch.save(released(), path)
    with pytest.raises(ValueError, match='not in the file .*, and'):
        load_backbone(make_model(50).backbone, path)
    deeper = make_model(34)
    torch.save(deeper.state_dict(), path)
    with pytest.raises(
        ValueError,
        match=(
            r'0 tensors are not in the file, 0 .*model \(layer1.2.bn1.bias'
        ),
    ):
        load_backbone(make_model().backbone, path)
    with pytest.raises(ValueError, match='depth and width'):
        load_model(make_model(), path)
    shared_head = nn.Module()
    shared_head.layer4 = make_model().backbone.layer4
    with pytest.raises(ValueError, match=r'model \(layer4.2.bn1.bias'):
        load_shared_head(shared_head, path)
    weights = released()
    weights['module.conv1.weight'] = torch.zeros(32, 3, 7, 7)
    torch.save(weights, path)
    with pytest.raises(ValueError, match=r'\(32, 3, 7, 7\) in the file'):
        load_backbone(make_model().backbone, path)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_the_last_stage_fills_a_shared_head(
    layout: str, tmp_path: Path
) -> None:
    path = tmp_path / 'weights.pth'
    torch.save(LAYOUTS[layout](), path)
    head = ResLayerExtraNorm(18, dict(type='BN'))
    weights = {
        key.removeprefix('module.'): value
        for key, value in released().items()
        if '.layer4.' in key
    }
    assert load_shared_head(head, path) == len(weights) == 30
    own = head.state_dict()
    assert {*own} - {*weights} == {key for key in own if 'layer4' not in key}
    for key, value in weights.items():
        assert torch.equal(own[key], value), key
    assert (head.norm.weight == 1).all()


def test_a_shared_head_of_another_width_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'weights.pth'
    torch.save(released(), path)
    head = ResLayerExtraNorm(18, dict(type='BN'), base_channels=32)
    with pytest.raises(
        ValueError,
        match='does not fill the ResLayerExtraNorm: 0 tensors '
        r'are not in the file, 25 .*layer4.0.bn1.bias is \(512,\) in the '
        r'file and \(256,\) in the model',
    ):
        load_shared_head(head, path)


def test_files_that_are_no_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='no checkpoint .*absent'):
        read_checkpoint(tmp_path / 'absent.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match='holds no weights'):
        read_checkpoint(tmp_path / 'list.pth')


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    torch.save(dict(state_dict=_Evil(str(trace))), path)
    with pytest.raises(ValueError, match='it wants .*open'):
        read_checkpoint(path)
    assert not trace.exists()


class _Evil:
    """Unpickles into a call."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, 'w')
