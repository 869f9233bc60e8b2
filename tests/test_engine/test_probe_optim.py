"""The optimizer of a probe: its groups, and how schedulers change them."""

from typing import Any

import pytest
import torch
from mmengine.optim import MultiStepLR, build_optim_wrapper
from torch import nn

from swav_plugin.models import MultiLinearHead


def probe() -> nn.Module:
    model = nn.Module()
    model.backbone = nn.Linear(2, 2)
    model.head = MultiLinearHead(
        dict(feature4=(2, 1), feature5=(3, 4)),
        num_classes=5,
        learning_rates=[0.3, 0.01],
    )
    return model


def build(model: nn.Module, **changes: Any) -> Any:
    return build_optim_wrapper(
        model,
        dict(
            constructor='swav_plugin.ProbeOptimConstructor',
            optimizer=dict(type='SGD', weight_decay=0.1),
        )
        | changes,
    )


@pytest.mark.parametrize('is_wrapped', [False, True])
@pytest.mark.parametrize('optimizer', ['SGD', 'swav_plugin.LARS', 'AdamW'])
def test_a_group_for_each_rate(optimizer: str, is_wrapped: bool) -> None:
    model = probe()
    wrapper = build(
        nn.DataParallel(model) if is_wrapped else model,
        optimizer=dict(type=optimizer, weight_decay=0.1),
    )
    groups = wrapper.optimizer.param_groups
    assert [group['lr'] for group in groups] == [0.3, 0.01]
    assert [group['weight_decay'] for group in groups] == [0.1, 0.1]
    for place, group in enumerate(groups):
        expected = [
            parameter
            for linears in model.head.classifiers.values()
            for parameter in linears[place].parameters()
        ]
        assert [*map(id, group['params'])] == [*map(id, expected)]


def test_a_scheduler_scales_all_rates() -> None:
    wrapper = build(probe())
    scheduler = MultiStepLR(wrapper, milestones=[1, 2], gamma=0.1)
    found = []
    for _ in range(3):
        found.append([g['lr'] for g in wrapper.optimizer.param_groups])
        wrapper.step()
        scheduler.step()
    torch.testing.assert_close(
        torch.tensor(found),
        torch.tensor([[0.3, 0.01], [0.03, 0.001], [0.003, 0.0001]]),
    )


@pytest.mark.parametrize(
    'changes',
    [
        dict(optimizer=dict(type='SGD', lr=0.1)),
        dict(paramwise_cfg=dict(bias_decay_mult=0)),
    ],
)
def test_rates_are_given_once(changes: dict) -> None:
    with pytest.raises(ValueError, match='are in model.head.learning_rates'):
        build(probe(), **changes)


def test_other_models_are_refused() -> None:
    with pytest.raises(ValueError, match='a Linear with head NoneType; leave'):
        build(nn.Linear(2, 2))
