"""Counts against numbers that others published, and by hand."""

import pytest
import torch
from torchvision.models import ResNet50_Weights

from swav_plugin.models.complexity import count_flops, count_parameters
from swav_plugin.models.swav import SwAV
from swav_plugin.registry import MODELS

C, H, D, K, A, L = 2048, 2048, 128, 3000, 2, 64


@pytest.fixture(scope='module')
def model() -> SwAV:
    return MODELS.build(
        dict(
            type='SwAV',
            backbone=dict(type='ResNet', depth=50),
            neck=dict(
                type='SwAVNeck',
                in_channels=C,
                hid_channels=H,
                out_channels=D,
            ),
            head=dict(
                type='SwAVHead',
                num_prototypes=K,
                queue_length=L,
                num_assign_views=A,
            ),
        )
    )


def test_parameters_of_each_part(model: SwAV) -> None:
    model.backbone.conv1.weight.requires_grad_(False)
    parts = {part.name: part[1:] for part in count_parameters(model)}
    model.backbone.conv1.weight.requires_grad_(True)
    stem = 64 * 3 * 7 * 7
    # torchvision's whole network, less its classifier.
    published = ResNet50_Weights.DEFAULT.meta['num_params']
    trained, frozen, buffers = parts['backbone']
    assert trained + frozen == published - 1000 * (C + 1)
    assert frozen == stem
    assert parts['neck'] == (C * H + H + 2 * H + H * D + D, 0, 2 * H + 1)
    assert parts['head.prototypes'] == (K * D, 0, 0)
    assert parts['head.queue'] == (0, 0, A * L * D + 1)
    saved = sum(value.numel() for value in model.state_dict().values())
    assert sum(map(sum, parts.values())) == saved


def test_flops_of_a_view(model: SwAV) -> None:
    published = 1e9 * ResNet50_Weights.DEFAULT.meta['_ops']  # 4.089e9
    ours = C * H + H * D + K * D - 1000 * C
    counted = count_flops(model, 224, 224)
    # Published to three digits after the point.
    assert counted == pytest.approx(published + ours, abs=0.001e9)
    # Convolutions grow with the area, the rest does not.
    fixed = C * H + H * D + K * D
    assert count_flops(model, 448, 224) - fixed == 2 * (counted - fixed)
    # The model is still there, and can compute.
    assert model.training
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, C)
