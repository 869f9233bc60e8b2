"""A small SwAV, and random weights for it in every known layout."""

from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor

from swav_plugin.checkpoints import convert_state_dict
from swav_plugin.models import SwAV
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
