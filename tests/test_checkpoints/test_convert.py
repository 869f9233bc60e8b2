"""Other libraries load what is written, and compute the same features."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from mmengine.runner import load_checkpoint
from mmpretrain.models import ResNet
from PIL import Image
from torch import Tensor, nn

from swav_plugin.checkpoints import convert_state_dict
from swav_plugin.checkpoints.convert import (
    pick_parts,
    split_weights,
    to_detectron2,
    to_mmdet,
    to_mmpretrain,
    to_official,
    to_ours,
    to_torchvision,
)
from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.checkpoints.write import write_weights
from swav_plugin.models import SwAV

from .layouts import LAYOUTS, make_model, mmselfsup, released

Weights = dict[str, Tensor]


@pytest.fixture
def photos(test_data: Path) -> Tensor:
    """Four photos, (4, 3, 64, 64) float64, normalized."""
    files = sorted((test_data / 'photos').glob('*.JPEG'))[:4]
    images = [
        np.asarray(Image.open(file).convert('RGB').resize((64, 64)))
        for file in files
    ]
    assert len(images) == 4
    pixels = torch.tensor(np.stack(images)).permute(0, 3, 1, 2).double() / 255
    return (pixels - 0.45) / 0.225


@pytest.fixture
def model() -> SwAV:
    """A SwAV whose statistics are not those of an untrained one."""
    torch.manual_seed(0)
    model = make_model()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith('running_mean'):
                tensor.normal_(std=0.1)
            elif name.endswith('running_var'):
                tensor.uniform_(0.5, 2)
            elif name.endswith('num_batches_tracked'):
                tensor.fill_(7)
    return model.eval()


@pytest.fixture
def write(model: SwAV, tmp_path: Path) -> Callable[[str], Path]:
    """Write a training's checkpoint of the model for a library."""

    def convert(layout: str) -> Path:
        content = dict(state_dict=model.state_dict(), optimizer={})
        torch.save(content, tmp_path / 'in.pth')
        out = tmp_path / 'out.pth'
        write_weights(tmp_path / 'in.pth', out, layout)
        return out

    return convert


def check_equal(found: Any, wanted: Tensor) -> None:
    """Compare two computations in float64, of the same operators."""
    assert wanted.dtype == torch.float64 and wanted.std() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_torchvision(write: Callable, model: SwAV, photos: Tensor) -> None:
    weights = torch.load(write('torchvision'), weights_only=True)
    resnet = torchvision.models.resnet18()
    keys = resnet.load_state_dict(weights, strict=False)
    assert keys.missing_keys == ['fc.weight', 'fc.bias']
    assert keys.unexpected_keys == []
    resnet.fc = nn.Identity()
    check_equal(resnet.double().eval()(photos), model.double()(photos))


@torch.no_grad()
def test_timm(write: Callable, model: SwAV, photos: Tensor) -> None:
    timm = pytest.importorskip('timm')
    # Strict: every tensor of the network is in the file, and no other.
    resnet = timm.create_model(
        'resnet18', num_classes=0, checkpoint_path=str(write('timm'))
    )
    check_equal(resnet.double().eval()(photos), model.double()(photos))


@torch.no_grad()
def test_timm_builds_a_resnet50_of_a_published_file(tmp_path: Path) -> None:
    timm = pytest.importorskip('timm')
    resnet = torchvision.models.resnet50().eval()
    weights = {f'module.{k}': v for k, v in resnet.state_dict().items()}
    torch.save(weights, tmp_path / 'in.pth.tar')
    write_weights(tmp_path / 'in.pth.tar', tmp_path / 'out.pth', 'timm')
    found = timm.create_model(
        'resnet50', num_classes=0, checkpoint_path=str(tmp_path / 'out.pth')
    )
    resnet.fc = nn.Identity()
    images = torch.randn(1, 3, 32, 32).double()
    check_equal(found.double().eval()(images), resnet.double()(images))


@torch.no_grad()
def test_mmpretrain(write: Callable, model: SwAV, photos: Tensor) -> None:
    from mmpretrain.registry import MODELS

    # With the scope in the types, whatever scope another test has left.
    theirs = MODELS.build(
        dict(
            type='mmpretrain.SwAV',
            backbone=dict(
                type='mmpretrain.ResNet', depth=18, norm_cfg=dict(type='BN')
            ),
            neck=dict(
                type='mmpretrain.SwAVNeck',
                in_channels=512,
                hid_channels=6,
                out_channels=4,
                norm_cfg=dict(type='BN1d'),
            ),
            head=dict(
                type='mmpretrain.SwAVHead',
                loss=dict(
                    type='mmpretrain.SwAVLoss',
                    feat_dim=4,
                    num_prototypes=5,
                    epsilon=0.05,
                    temperature=0.1,
                    num_crops=[2, 6],
                ),
            ),
        )
    )
    load_checkpoint(theirs, str(write('mmpretrain')), strict=True)
    theirs, ours = theirs.double().eval(), model.double()
    embeddings = theirs.neck([theirs.backbone(photos)])
    ours_embedded = ours.neck(ours(photos))
    check_equal(embeddings, ours_embedded)
    scores = theirs.head.loss_module.prototypes(embeddings)
    check_equal(scores, ours.head(ours_embedded)[0])


@torch.no_grad()
def test_mmdet(write: Callable, model: SwAV, photos: Tensor) -> None:
    pytest.importorskip('mmdet')
    from mmdet.models import backbones

    path = str(write('mmdet'))
    init = dict(type='Pretrained', checkpoint=path)
    resnet = backbones.ResNet(18, norm_eval=False, init_cfg=init)
    load_checkpoint(backbones.ResNet(18), path, strict=True)
    resnet.init_weights()
    resnet.eval()  # returns nothing
    features = resnet.double()(photos)[-1].mean((2, 3))
    check_equal(features, model.double()(photos))


def test_names_are_those_that_upstream_and_mmselfsup_publish() -> None:
    parts = split_weights(released())
    for names, wanted in (
        (to_official, released()),
        (to_mmpretrain, mmselfsup('head.loss_module.prototypes.weight')),
    ):
        wanted.pop('data_preprocessor.mean', None)
        found = names(parts)
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert torch.equal(found[key], value), key


def weights_in(content: Any) -> Weights:
    return content.get('state_dict', content)


@pytest.mark.parametrize('names', [to_official, to_mmpretrain, to_ours])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_round_trips_are_bit_for_bit(layout: str, names: Callable) -> None:
    before = convert_state_dict(weights_in(LAYOUTS[layout]()))
    written = names(split_weights(before))
    after = convert_state_dict(written)
    assert after.keys() == before.keys()
    for key, value in before.items():
        assert after[key].dtype == value.dtype
        assert torch.equal(after[key], value), key


@pytest.mark.parametrize('names', [to_official, to_mmpretrain, to_ours])
def test_round_trips_of_other_heads(names: Callable) -> None:
    ours = convert_state_dict(released())
    del ours['head.prototypes.0.weight']
    for index in range(12):  # as text, 10 comes before 2
        ours[f'head.prototypes.{index}.weight'] = torch.rand(3 + index, 4)
    found = convert_state_dict(names(split_weights(ours)))
    assert found.keys() == ours.keys()
    assert all(torch.equal(found[key], ours[key]) for key in ours)


def test_a_projection_of_one_layer() -> None:
    ours = {
        key: value
        for key, value in convert_state_dict(released()).items()
        if not key.startswith('neck.')
    }
    ours['neck.projection.0.weight'] = torch.rand(4, 512)
    ours['neck.projection.0.bias'] = torch.rand(4)
    parts = split_weights(ours)
    assert {'module.projection_head.weight', 'module.projection_head.bias'} < (
        to_official(parts).keys()
    )
    # A module of its own, not a sequence, in mmpretrain's neck.
    assert 'neck.projection_neck.weight' in to_mmpretrain(parts)
    assert 'neck.norm.weight' not in to_mmpretrain(parts)


def test_a_neck_without_norm_does_not_fit_mmpretrain() -> None:
    weights = released()
    for name in [*weights]:
        if 'projection_head.1.' in name:
            del weights[name]
    for end in ('weight', 'bias'):
        old = weights.pop(f'module.projection_head.3.{end}')
        weights[f'module.projection_head.2.{end}'] = old
    parts = split_weights(weights)
    assert to_official(parts).keys() == weights.keys()
    with pytest.raises(CheckpointError, match='the neck has no norm'):
        to_mmpretrain(parts)


def test_the_queue_and_classifiers_are_left_out() -> None:
    weights = dict(make_model().state_dict())
    weights['head.fc.weight'] = torch.full((3, 2), torch.nan)
    weights['backbone.fc.weight'] = torch.rand(3, 2)
    parts = split_weights(weights)
    assert set(parts.others) == {
        'backbone.fc.weight',
        'head.fc.weight',
        'head.queue.features',
        'head.queue.num_rows',
    }
    written = to_ours(parts).keys()
    assert written == weights.keys() - {*parts.others}
    backbone = pick_parts(weights, with_head=False)
    assert {*backbone.others} == weights.keys() - {
        f'backbone.{key}' for key in backbone.backbone
    }


def test_a_bias_of_prototypes_is_not_lost() -> None:
    weights = dict(make_model().state_dict())
    weights['head.prototypes.0.bias'] = torch.ones(5)
    with pytest.raises(CheckpointError, match='the prototypes have a bias'):
        pick_parts(weights, with_head=True)
    assert pick_parts(weights, with_head=False).backbone


def test_wide_networks_are_not_torchvisions() -> None:
    weights = released()
    weights['module.conv1.weight'] = torch.rand(128, 3, 7, 7)
    parts = split_weights(weights)
    with pytest.raises(CheckpointError, match='has 128 channels'):
        to_torchvision(parts)
    assert to_official(parts).keys() == weights.keys()
    weights['module.conv1.weight'] = torch.rand(64, 3, 3, 3)
    with pytest.raises(CheckpointError, match='kernel of 3 x 3'):
        to_torchvision(split_weights(weights))


@pytest.mark.parametrize('names', [to_torchvision, to_official, to_detectron2])
def test_only_resnets_have_names_that_all_know(names: Callable) -> None:
    parts = split_weights({'backbone.patch_embed.weight': torch.rand(2)})
    with pytest.raises(CheckpointError, match='no backbone that is a ResNet'):
        names(parts)
    assert to_mmpretrain(parts)


def test_other_norms_are_kept_and_refused_where_unknown() -> None:
    resnet = ResNet(18, norm_cfg=dict(type='GN', num_groups=4))
    weights = {f'backbone.{k}': v for k, v in resnet.state_dict().items()}
    parts = split_weights(weights)
    assert parts.others == []
    assert to_ours(parts).keys() == weights.keys()
    assert to_mmpretrain(parts).keys() == weights.keys()
    assert to_mmdet(parts).keys() == resnet.state_dict().keys()
    for names in (to_torchvision, to_official, to_detectron2):
        with pytest.raises(CheckpointError, match='conv1.weight, gn1.weight'):
            names(parts)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_tensors_are_dense_and_their_own(dtype: torch.dtype) -> None:
    weights = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in convert_state_dict(released()).items()
    }
    conv = weights['backbone.conv1.weight']
    weights['backbone.conv1.weight'] = conv.to(
        memory_format=torch.channels_last
    )
    block = torch.rand(2, 64).to(dtype)
    weights['backbone.bn1.weight'], weights['backbone.bn1.bias'] = block
    weights['head.prototypes.0.weight'] = torch.rand(4, 5).to(dtype).T
    found = to_ours(split_weights(weights))
    storages = {value.untyped_storage().data_ptr() for value in found.values()}
    assert len(storages) == len(found)
    for key, value in found.items():
        assert value.is_contiguous() and value.dtype == weights[key].dtype
        assert torch.equal(value, weights[key]), key
        assert value.untyped_storage().nbytes() == value.nbytes
    weights['backbone.bn1.weight'] = block[0].float().to_sparse()
    with pytest.raises(CheckpointError, match='bn1.weight is sparse'):
        split_weights(weights)
