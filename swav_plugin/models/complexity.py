"""Count the parameters of a model and the work that a view is."""

import copy
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .swav import SwAV
from .swav_head import SwAVHead


class PartSize(NamedTuple):
    """How many numbers a part of a model has.

    Args:
        name: Such as 'backbone' or 'head.prototypes'.
        trained: Parameters that the optimizer changes.
        frozen: Parameters that it does not.
        buffers: Other numbers in a checkpoint: a queue, running means.
    """

    name: str
    trained: int
    frozen: int
    buffers: int


def count_parameters(model: nn.Module) -> list[PartSize]:
    """Count the numbers in the checkpoint of a model, part by part.

    The prototypes and the queue of a `SwAVHead` are parts of their own. Parts
    without any number are left out.

    >>> count_parameters(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    [PartSize(name='0', trained=9, frozen=0, buffers=0),
     PartSize(name='1', trained=6, frozen=0, buffers=7)]
    """
    parts = []
    for name, part in model.named_children():
        if isinstance(part, SwAVHead):
            for inner, child in part.named_children():
                parts.append(_count(f'{name}.{inner}', child))
        else:
            parts.append(_count(name, part))
    return [part for part in parts if any(part[1:])]


def _count(name: str, part: nn.Module) -> PartSize:
    parameters = [*part.parameters()]
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    total = sum(p.numel() for p in parameters)
    saved = sum(each.numel() for each in part.state_dict().values())
    return PartSize(name, trained, total - trained, saved - total)


def count_flops(model: SwAV, height: int, width: int) -> int:
    """Count the multiply-adds of a view on its way to its scores.

    Backbone, neck and prototypes, forward, one view. A multiplication with
    its addition counts once, as in papers: 4.1e9 for a ResNet-50 at 224 px.
    Nothing is computed, and the model stays as it is.

    Source: `torch.utils.flop_counter`, which counts them as two, and leaves
    out norms and activations.
    """
    on_paper = copy.deepcopy(model).to('meta').eval()
    view = torch.empty(1, 3, height, width, device='meta')
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        on_paper.neck(on_paper.extract_feat(view))
    # Autocast, which the head turns off for its scores, knows no meta device.
    prototypes = on_paper.head.prototypes.parameters()
    return counter.get_total_flops() // 2 + sum(p.numel() for p in prototypes)
