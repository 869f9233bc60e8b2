"""Compute one layer of a network: what its features are.

Letters for shapes: B images, C channels of a feature, K prototypes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models import ResNet
from torch import Tensor, nn

from swav_plugin.models.feature_pooling import (
    GRIDS,
    MMSELFSUP_WINDOWS,
    pool_feature,
    pool_output,
)
from swav_plugin.models.resnet import stem_and_stages
from swav_plugin.models.swav_head import SwAVHead
from swav_plugin.models.swav_neck import SwAVNeck

LAYERS = ('avgpool', *GRIDS, 'embedding', 'scores')

# What a model needs for a layer, besides a backbone and a data_preprocessor.
_PARTS: dict[str, dict[str, type]] = dict(
    embedding=dict(neck=SwAVNeck),
    scores=dict(neck=SwAVNeck, head=SwAVHead),
)


def check_layer(model: nn.Module, layer: str) -> None:
    """Check that a model is ready and has a layer.

    Raises:
        ValueError: It does not, or is in training mode, or has no backbone
            or nothing that normalizes images.
    """
    missing = [
        name
        for name in ('backbone', 'data_preprocessor')
        if not hasattr(model, name)
    ]
    if missing:
        raise ValueError(
            f'this {type(model).__name__} has no {" and no ".join(missing)}; '
            'build the model with get_model, which also takes weights of '
            'torchvision and timm.'
        )
    if layer not in LAYERS:
        raise ValueError(
            f'there is no layer {layer!r}; use one of {", ".join(LAYERS)}.'
        )
    if model.training:
        raise ValueError(
            'the model is in training mode, where batch norm mixes the images '
            'of a batch; call model.eval() first.'
        )
    backbone = model.backbone
    if layer in GRIDS and not isinstance(backbone, ResNet):
        raise ValueError(
            f'layer {layer!r} is of ResNets, but the backbone is a '
            f"{type(backbone).__name__}; use layer 'avgpool'."
        )
    for name, kind in _PARTS.get(layer, {}).items():
        if not isinstance(getattr(model, name, None), kind):
            raise ValueError(
                f'layer {layer!r} needs a SwAV model with its {name}, but '
                f'this {type(model).__name__} has none: give a checkpoint of '
                "a whole SwAV, or use layer 'avgpool'."
            )


def compute_layer(model: Any, images: Tensor, layer: str) -> Tensor:
    """Compute a layer of normalized images: (B, 3, H, W) -> (B, C).

    The windows of 'feature1' to 'feature5' are mmselfsup's on images of
    224 px, and as many adaptive ones on any other.
    """
    backbone = model.backbone
    if layer in GRIDS:
        maps = stem_and_stages(backbone, images)[[*GRIDS].index(layer)]
        side = MMSELFSUP_WINDOWS[layer][0]
        fits = maps.shape[2:] == (side, side)
        return pool_feature(maps, layer, None if fits else GRIDS[layer])
    outputs = backbone(images)
    if layer == 'avgpool':
        return pool_output(outputs, backbone)
    embeddings = model.neck(model.neck.pool(outputs))
    if layer == 'embedding':
        return embeddings
    with torch.autocast(images.device.type, enabled=False):
        return torch.cat(
            [
                # As in `SwAVHead.predict`.
                F.linear(embeddings, F.normalize(prototypes.weight, dim=1))
                for prototypes in model.head.prototypes
            ],
            dim=1,
        )


def used_modules(model: Any, layer: str) -> list[nn.Module]:
    """Return the modules that a layer comes from."""
    names = ['data_preprocessor', 'backbone', *_PARTS.get(layer, ())]
    return [getattr(model, name) for name in names]
