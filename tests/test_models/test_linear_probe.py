"""LinearProbe: features of a backbone that nothing can change."""

from typing import Any
from unittest import mock

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmpretrain.structures import DataSample

from swav_plugin.models import LinearProbe
from swav_plugin.models.feature_pooling import GRIDS, pool_feature
from swav_plugin.registry import MODELS

BACKBONE = dict(
    type='ResNetWithStem',
    depth=18,
    stem_channels=8,
    base_channels=8,
    norm_cfg=dict(type='BN'),
)
FEATURES = [*GRIDS, 'avgpool']


def build(**changes: Any) -> LinearProbe:
    torch.manual_seed(0)
    config: dict[str, Any] = dict(
        type='LinearProbe',
        data_preprocessor=dict(
            type='MultiViewPreprocessor', mean=[120.0] * 3, std=[60.0] * 3
        ),
        backbone=BACKBONE,
        features=FEATURES,
        windows='adaptive',
        head=dict(
            type='MultiLinearHead', num_classes=4, learning_rates=[0.1, 0.2]
        ),
    )
    return MODELS.build(config | changes)


def batch(num_images: int = 5) -> dict:
    generator = torch.Generator().manual_seed(0)
    return dict(
        inputs=torch.randint(
            256,
            (num_images, 3, 64, 64),
            generator=generator,
            dtype=torch.uint8,
        ),
        data_samples=[
            DataSample().set_gt_label(i % 4) for i in range(num_images)
        ],
    )


def test_features_are_those_of_the_backbone() -> None:
    # Layouts, and so kernels, differ: in float64.
    model = build().double()
    images = model.data_preprocessor(batch())['inputs']
    rows = model.extract_feat(images)
    assert [*rows] == FEATURES
    model.backbone.eval()
    maps = model.backbone(images)
    for index, (name, grid) in enumerate(GRIDS.items()):
        assert rows[name].shape == (5, maps[index].shape[1], grid**2)
        torch.testing.assert_close(
            rows[name].flatten(1), pool_feature(maps[index], name, grid)
        )
    torch.testing.assert_close(rows['avgpool'][..., 0], maps[-1].mean((2, 3)))


@pytest.mark.parametrize(
    'depth, widths',
    [
        (18, [9216, 2304, 2048, 2304, 2048]),
        (34, [9216, 2304, 2048, 2304, 2048]),
        (50, [9216, 9216, 8192, 9216, 8192]),
        (101, [9216, 9216, 8192, 9216, 8192]),
    ],
)
def test_widths_of_the_classifiers(depth: int, widths: list[int]) -> None:
    """From the backbone alone; ResNet-50's are mmselfsup's."""
    model = build(
        backbone=dict(type='ResNetWithStem', depth=depth),
        windows='mmselfsup',
        features=[*GRIDS],
    )
    assert [
        linears[0].in_features for linears in model.head.classifiers.values()
    ] == widths


@pytest.mark.parametrize(
    'backbone, width',
    [
        (dict(type='ResNet', depth=34), 512),
        (
            dict(
                type='VisionTransformer',
                arch='deit-tiny',
                img_size=224,
                out_type='cls_token',
            ),
            192,
        ),
    ],
)
def test_other_backbones_have_avgpool(backbone: dict, width: int) -> None:
    model = build(backbone=backbone, features=['avgpool'])
    assert model.head.classifiers['avgpool'][0].in_features == width


def test_nothing_changes_the_backbone() -> None:
    """Neither steps with decay nor statistics, whatever mode is asked for."""
    model = build()
    model.head.train()
    for module in model.backbone.modules():
        if hasattr(module, 'running_mean'):
            torch.nn.init.normal_(module.running_mean)
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    wrapper = build_optim_wrapper(
        model,
        dict(
            constructor='swav_plugin.ProbeOptimConstructor',
            optimizer=dict(type='SGD', weight_decay=0.1),
        ),
    )
    own = {
        id(p)
        for group in wrapper.optimizer.param_groups
        for p in group['params']
    }
    assert own == {id(p) for p in model.head.parameters()}
    assert not any(p.requires_grad for p in model.backbone.parameters())
    first = [p.clone() for p in model.head.parameters()]
    for _ in range(2):
        model.train()
        with mock.patch.object(
            model.backbone, 'forward', wraps=model.backbone.forward
        ) as forward:
            losses = model.train_step(batch(), wrapper)
        # Once for all features and rates.
        assert forward.call_count == 1
    assert len(losses) == 1 + 12
    model.eval().train()
    assert not any(module.training for module in model.backbone.modules())
    assert model.head.training
    after = model.backbone.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(
        torch.equal(a, b) for a, b in zip(first, model.head.parameters())
    )


def test_predictions() -> None:
    model = build().eval()
    scores = model.test_step(batch())
    expected = model(**model.data_preprocessor(batch()))
    assert expected.shape == (5, 12, 4)
    assert scores[0].probes == model.head.probes
    torch.testing.assert_close(
        torch.stack([sample.scores for sample in scores]), expected
    )
    assert scores[3].gt_label == 3
    images = model.data_preprocessor(batch())['inputs']
    assert len(model(images, mode='predict')) == 5


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(features=[]), r'features=\[\]; give one or more, each once'),
        (dict(features=['avgpool'] * 2), 'each once'),
        (dict(features=['neck']), "no feature 'neck'"),
        (dict(windows='some'), "windows='some'; use 'mmselfsup' or"),
        (
            dict(backbone=dict(type='ResNet', depth=18)),
            "'feature1' needs output 0 of the backbone; "
            'set model.backbone.type',
        ),
        (dict(backbone=BACKBONE | dict(out_indices=(4,))), "'feature1' needs"),
    ],
)
def test_what_the_backbone_does_not_have(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_wrong_use() -> None:
    model = build()
    images = model.data_preprocessor(batch())['inputs']
    with pytest.raises(ValueError, match='leave MultiView and MultiCrop out'):
        model([images, images], mode='loss')
    with pytest.raises(ValueError, match="got mode='train'; use"):
        model(images, mode='train')
    with pytest.warns(FutureWarning, match="'page' is now 'mmselfsup'"):
        model = build(windows='page')
    assert model.windows == 'mmselfsup'
    with pytest.raises(ValueError, match='images of 224x224'):
        model(images)


def test_the_layout_follows_the_device() -> None:
    # The meta device stands in for a GPU: it has layouts but no numbers.
    model = build()
    seen: list[torch.Tensor] = []
    model.backbone.register_forward_pre_hook(
        lambda _, args: seen.append(args[0])
    )
    for device in ('cpu', 'meta'):
        model.to(device)
        model.extract_feat(torch.zeros(2, 3, 224, 224, device=device))
        for tensor in (model.backbone.layer2[0].conv1.weight, seen[-1]):
            assert (device == 'meta') == tensor.is_contiguous(
                memory_format=torch.channels_last
            )
