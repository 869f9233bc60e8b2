"""Checkpoints of other projects give what plain torch modules give."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from swav_plugin.checkpoints import (
    convert_state_dict,
    describe_checkpoint,
    load_backbone,
    load_model,
    read_checkpoint,
)
from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.models import SwAV
from swav_plugin.registry import MODELS

from .foreign import (
    BACKBONES,
    CASES,
    SIZE,
    Case,
    Network,
    lightly,
    make_network,
    upstream,
)


def _make_model(net: Network, depth: int, is_cifar: bool) -> SwAV:
    """Build our SwAV of the same shape, with other numbers."""
    torch.manual_seed(99)
    sizes = [len(each.weight) for each in net.prototypes]
    kind = 'mmpretrain.ResNet_CIFAR' if is_cifar else 'ResNet'
    return MODELS.build(
        dict(
            type='SwAV',
            backbone=dict(type=kind, depth=depth, norm_cfg=dict(type='BN')),
            neck=dict(
                type='SwAVNeck',
                in_channels=net.neck[0].in_features,
                hid_channels=net.neck[0].out_features,
                out_channels=SIZE,
                norm_cfg=dict(type='BN1d') if len(net.neck) == 4 else None,
            ),
            head=dict(type='SwAVHead', num_prototypes=sizes, queue_length=4),
        )
    )


def _write(case: Case, path: Path) -> Network:
    net = make_network(**case.network)
    case.save(case.write(net), path)
    return net


@pytest.mark.parametrize('name', CASES)
@torch.no_grad()
def test_features_and_scores(name: str, tmp_path: Path) -> None:
    case, path = CASES[name], tmp_path / 'weights.any'
    net = _write(case, path)
    depth = case.network.get('depth', 18)
    is_cifar = case.network.get('is_cifar', False)
    model = _make_model(net, depth, is_cifar).double().eval()
    load_model(model, path)
    images = torch.randn(3, 3, 40, 40, dtype=torch.float64)
    features, scores = net.forward(images)
    found = model(images)
    torch.testing.assert_close(found, features, rtol=0, atol=1e-9)
    for ours, theirs in zip(
        model.head(model.neck(found)), scores, strict=True
    ):
        # Twelve digits: a file may hold the numbers in another order only.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    found = describe_checkpoint(path)
    assert found.layout == case.layout
    assert found.network.startswith(f'a ResNet-{depth}')
    assert found.prototypes == ((SIZE, SIZE),) * len(net.prototypes)
    # Names that are ours already stay.
    converted = convert_state_dict(read_checkpoint(path))
    again = convert_state_dict(converted)
    assert again.keys() == converted.keys()
    assert all(torch.equal(again[key], converted[key]) for key in again)


@pytest.mark.parametrize('name', BACKBONES)
@torch.no_grad()
def test_features_of_backbones(name: str, tmp_path: Path) -> None:
    case, path = BACKBONES[name], tmp_path / 'weights.any'
    net = _write(case, path)
    model = _make_model(net, 18, False).double().eval()
    load_backbone(model.backbone, path)
    images = torch.randn(3, 3, 40, 40, dtype=torch.float64)
    torch.testing.assert_close(
        model(images), net.forward(images)[0], rtol=0, atol=1e-9
    )
    found = describe_checkpoint(path)
    assert found.layout == case.layout
    assert found.lacks == ['neck', 'prototypes', 'queue']
    with pytest.raises(ValueError, match='load its backbone alone, with load'):
        load_model(model, path)


@torch.no_grad()
def test_features_of_timm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    resnet = timm.create_model('resnet18', num_classes=0).double().eval()
    torch.save(resnet.state_dict(), tmp_path / 'w.bin')
    model = _make_model(make_network(), 18, False).double().eval()
    load_backbone(model.backbone, tmp_path / 'w.bin')
    images = torch.randn(3, 3, 40, 40, dtype=torch.float64)
    torch.testing.assert_close(
        model(images), resnet(images), rtol=0, atol=1e-9
    )


def test_prototypes_with_a_bias(tmp_path: Path) -> None:
    net = make_network(has_bias=False)
    weights = lightly(net)
    weights['prototypes.heads.0.bias'] = torch.ones(SIZE)
    torch.save(weights, tmp_path / 'w.ckpt')
    model = _make_model(net, 18, False)
    with pytest.raises(ValueError, match='prototypes with a bias.* backbone'):
        load_model(model, tmp_path / 'w.ckpt')
    load_backbone(model.backbone, tmp_path / 'w.ckpt')


@pytest.mark.parametrize(
    'name', ['teacher and student', 'both in one', 'both in a model']
)
def test_a_choice_between_networks_is_said(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    _write(CASES[name], tmp_path / 'w.pth')
    read_checkpoint(tmp_path / 'w.pth')
    said = ''.join(capsys.readouterr())
    assert (
        "took the weights under 'teacher', not those under 'student'" in said
    )


def test_two_networks_under_one_name_are_refused() -> None:
    one = {'conv1.weight': torch.ones(2), 'model.conv1.weight': torch.ones(2)}
    assert [*convert_state_dict(one)] == ['backbone.conv1.weight']
    one['model.conv1.weight'] = torch.zeros(2)
    with pytest.raises(CheckpointError, match='two networks in the file'):
        convert_state_dict(one)


def test_objects_left_out_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    _write(CASES['lightly'], tmp_path / 'w.ckpt')
    read_checkpoint(tmp_path / 'w.ckpt')
    said = ''.join(capsys.readouterr())
    assert 'only its weights were read' in said
    assert 'argparse.Namespace, builtins.int, pathlib.PosixPath' in said


def test_a_whole_module_is_named(tmp_path: Path) -> None:
    for content in (torch.nn.Linear(2, 2), {'model': torch.nn.Linear(2, 2)}):
        torch.save(content, tmp_path / 'w.pth')
        with pytest.raises(ValueError, match=r'a Linear, in .*state_dict\(\)'):
            read_checkpoint(tmp_path / 'w.pth')


_ZERO = torch.zeros(2, 2)


@pytest.mark.parametrize(
    ('weights', 'words'),
    [
        (
            {'state_dict': {'module.linear.weight': _ZERO}},
            'is a linear classifier without its backbone, .*; give .*trained',
        ),
        ({'queue': _ZERO}, 'is a queue without its network.*beside it'),
        (
            {
                'trunk': {
                    '_feature_blocks.conv1.0.weight': _ZERO,
                    '_feature_blocks.res2.block1-0.proj.0.weight': _ZERO,
                },
                'heads': {'0.projection_head.0.weight': _ZERO},
            },
            'is a VISSL checkpoint of a RegNet; .*give a ResNet',
        ),
        (
            {'trunk': {'_fpw_module.flat_param_0': _ZERO}, 'heads': []},
            'is one of several shards of a network; join',
        ),
        (
            {'blocks.0.attn.q': _ZERO, 'cls_token': _ZERO},
            'is a vision transformer; its weights fit no',
        ),
        (
            {'class_token': _ZERO, 'encoder.layers.ln.weight': _ZERO},
            'is a vision transformer; its weights fit no',
        ),
        (
            {'encoder.pos_embedding': _ZERO},
            'is a vision transformer; its weights fit no',
        ),
        # Also a name that would clear the screen stays in the line.
        ({'a\n\x1b[2J': _ZERO}, r'is an unknown network \(a.n.x1b\[2J, '),
    ],
)
def test_what_a_file_is_that_fills_no_backbone(
    tmp_path: Path, weights: dict[str, Any], words: str
) -> None:
    torch.save(weights, tmp_path / 'w.pth')
    model = _make_model(make_network(), 18, False)
    with pytest.raises(ValueError, match=f'The file {words}') as error:
        load_backbone(model.backbone, tmp_path / 'w.pth')
    assert str(error.value).isprintable()


def test_another_width_is_named(tmp_path: Path) -> None:
    net = make_network()
    wide = {key: value for key, value in upstream(net, '').items()}
    wide['conv1.weight'] = torch.zeros(128, 3, 7, 7)
    torch.save(wide, tmp_path / 'w.pth')
    model = _make_model(net, 18, False)
    words = 'an upstream checkpoint of a ResNet-18-w2'
    with pytest.raises(ValueError, match=words):
        load_backbone(model.backbone, tmp_path / 'w.pth')


def test_words_of_a_description(tmp_path: Path) -> None:
    _write(CASES['EasyCV'], tmp_path / 'w.pth')
    found = describe_checkpoint(tmp_path / 'w.pth')
    assert str(found) == (
        'an EasyCV checkpoint of a ResNet-18 with 5 prototypes, without queue'
    )
    assert found.container == 'torch' and found.has_neck
