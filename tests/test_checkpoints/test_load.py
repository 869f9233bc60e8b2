"""Models are filled from every layout, or it is an error."""

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from swav_plugin.checkpoints import (
    Checkpoint,
    load_backbone,
    load_model,
    load_shared_head,
)
from swav_plugin.models import ResLayerExtraNorm

from .layouts import LAYOUTS, make_model, released


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


@pytest.mark.parametrize('dtype', [torch.complex64, torch.int8, torch.bool])
def test_numbers_of_another_kind_are_refused(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    backbone = make_model().backbone
    weights = dict(backbone.state_dict())
    ones = torch.ones_like(weights['conv1.weight'])
    weights['conv1.weight'] = ones.to(dtype)
    torch.save(weights, tmp_path / 'w.pth')
    with pytest.raises(ValueError, match=f'conv1.weight holds {dtype} in pl'):
        load_backbone(backbone, tmp_path / 'w.pth')
    weights['conv1.weight'] = ones.half()
    torch.save(weights, tmp_path / 'w.pth')
    load_backbone(backbone, tmp_path / 'w.pth')
    assert bool((backbone.conv1.weight == 1).all())


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


@pytest.mark.parametrize('key', ['conv1.weight', 'layer4.1.bn2.bias'])
def test_a_dry_run_finds_the_same_mistakes(tmp_path: Path, key: str) -> None:
    path = tmp_path / 'weights.pth'
    torch.save(released(), path)
    backbone = make_model().backbone
    head = ResLayerExtraNorm(18, dict(type='BN'))
    parts = (backbone, load_backbone), (head, load_shared_head)
    before = [
        {name: value.clone() for name, value in part.state_dict().items()}
        for part, _ in parts
    ]
    for (part, load), state in zip(parts, before):
        count = load(part, path, dry_run=True)
        for name, value in part.state_dict().items():
            assert torch.equal(value, state[name]), name
        assert load(part, path) == count
    weights = released()
    del weights[f'module.{key}']
    torch.save(weights, path)
    with pytest.raises(ValueError, match=f'not in the file .{key}'):
        load_backbone(backbone, path, dry_run=True)


def test_one_reading_fills_several(tmp_path: Path) -> None:
    path = tmp_path / 'weights.pth'
    torch.save(released(), path)
    checkpoint = Checkpoint(path)
    model = make_model()
    load_backbone(model.backbone, checkpoint, dry_run=True)
    path.unlink()
    load_backbone(model.backbone, checkpoint)
    load_model(model, checkpoint)
    conv = released()['module.conv1.weight']
    assert torch.equal(model.backbone.conv1.weight, conv)


def test_the_old_name_of_an_argument(tmp_path: Path) -> None:
    path = tmp_path / 'weights.pth'
    torch.save(released(), path)
    with pytest.warns(FutureWarning, match=r'path=.* now checkpoint='):
        assert load_model(make_model(), path=path) == len(released())
