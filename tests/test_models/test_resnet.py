"""ResNetWithStem against mmpretrain's and torchvision's ResNet."""

import mmpretrain.models
import pytest
import torch
import torchvision

from swav_plugin.models.resnet import ResNetWithStem, resnet_arguments
from swav_plugin.registry import MODELS


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('deep_stem', [False, True])
def test_stages_are_mmpretrains(depth: int, deep_stem: bool) -> None:
    torch.manual_seed(0)
    sizes = dict(base_channels=8, stem_channels=8, deep_stem=deep_stem)
    theirs = mmpretrain.models.ResNet(depth, out_indices=(0, 1, 2, 3), **sizes)
    theirs.init_weights()
    theirs.eval()
    ours = ResNetWithStem(depth, **sizes)
    ours.eval()
    # The same keys in the same order: optimizer states fit as well.
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 48)
    stem, *stages = ours(images)
    for ours_of_stage, theirs_of_stage in zip(stages, theirs(images)):
        assert torch.equal(ours_of_stage, theirs_of_stage)
    assert torch.equal(theirs.layer1(theirs.maxpool(stem)), theirs(images)[0])


def test_outputs_are_torchvisions_in_training_mode() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50().double().train()
    ours = MODELS.build(
        dict(
            type='swav_plugin.ResNetWithStem',
            depth=50,
            norm_cfg=dict(type='BN'),
        )
    )
    weights = theirs.state_dict()
    del weights['fc.weight'], weights['fc.bias']
    ours.double().load_state_dict(weights)
    ours.train()
    images = torch.randn(2, 3, 64, 64).double()
    maps = theirs.relu(theirs.bn1(theirs.conv1(images)))
    expected = [maps.clone()]
    maps = theirs.maxpool(maps)
    for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        maps = stage(maps)
        expected.append(maps)
    # Wholly equal: a stem that layer1 changes in place would differ.
    outputs = ours(images)
    assert len(outputs) == 5
    for output, maps in zip(outputs, expected):
        torch.testing.assert_close(output, maps, rtol=0, atol=1e-9)


def test_outputs_come_in_the_order_of_the_network() -> None:
    backbone = ResNetWithStem(
        18, out_indices=(4, 0), stem_channels=8, base_channels=8
    )
    assert [maps.shape[1] for maps in backbone(torch.ones(1, 3, 64, 64))] == [
        8,
        64,
    ]


def test_freezing_covers_the_stem() -> None:
    backbone = ResNetWithStem(
        18, frozen_stages=4, stem_channels=8, base_channels=8
    )
    backbone.train()
    assert not any(p.requires_grad for p in backbone.parameters())
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    backbone(torch.randn(2, 3, 64, 64))
    after = backbone.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize('indices', [(5,), (-1,), ()])
def test_outputs_that_do_not_exist_are_refused(indices: tuple) -> None:
    with pytest.raises(ValueError, match=r'0 \(the stem\) to 4') as error:
        ResNetWithStem(18, out_indices=indices)
    assert str(indices) in str(error.value)


@pytest.mark.parametrize(
    ('depth', 'stem', 'base'),
    [(18, 8, 8), (34, 64, 16), (50, 16, 8), (101, 8, 8)],
)
def test_arguments_of_weights(depth: int, stem: int, base: int) -> None:
    backbone = mmpretrain.models.ResNet(
        depth, stem_channels=stem, base_channels=base
    )
    assert resnet_arguments(backbone.state_dict()) == dict(
        depth=depth, stem_channels=stem, base_channels=base
    )


def test_no_arguments_of_other_weights() -> None:
    deep_stem = mmpretrain.models.ResNetV1c(depth=18, base_channels=8)
    short = mmpretrain.models.ResNet(
        18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        base_channels=8,
    )
    for weights in ({}, deep_stem.state_dict(), short.state_dict()):
        with pytest.raises(
            ValueError,
            match='not the weights of a ResNet '
            'with depth 18, 34, 50, 101, 152 and a stem of',
        ):
            resnet_arguments(weights)
