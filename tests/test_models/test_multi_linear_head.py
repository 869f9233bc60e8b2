"""FeatureNorm against torch's; probes against one run for each rate.

In float64: rounding of a step enters the next ones.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn

from swav_plugin.models import MultiLinearHead
from swav_plugin.models.multi_linear_head import FeatureNorm
from tests.distributed import run_on_ranks

SHAPES = dict(feature4=(3, 4), feature5=(5, 1))


def features(seed: int, num_images: int = 6) -> dict[str, Tensor]:
    """(N, C, windows) of each feature, neither centered nor scaled."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 3
        + 2
        * torch.randn(
            num_images, *shape, generator=generator, dtype=torch.float64
        )
        for name, shape in SHAPES.items()
    }


def labels(seed: int, num_images: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(7, (num_images,), generator=generator)


def test_norm_is_that_of_torch() -> None:
    """mmselfsup's is a BatchNorm2d of the pooled (C, 2, 2) map."""
    ours = FeatureNorm(3).double()
    theirs = nn.BatchNorm2d(3, affine=False).double()
    for seed in range(4):
        rows = features(seed)['feature4']
        expected = theirs(rows.unflatten(2, (2, 2))).flatten(2)
        torch.testing.assert_close(ours(rows), expected)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    ours.eval(), theirs.eval()
    rows = features(9)['feature4'][:1]
    before = ours.running_mean.clone()
    torch.testing.assert_close(
        ours(rows), theirs(rows.unflatten(2, (2, 2))).flatten(2)
    )
    assert torch.equal(ours.running_mean, before)


def norm_rank(rank: int, splits: list[int]) -> tuple[Tensor, ...]:
    norm = FeatureNorm(3).double()
    for seed in range(2):
        rows = features(seed, sum(splits))['feature4'] + 1000
        own = norm(rows.split(splits)[rank])
    return own, norm.running_mean, norm.running_var


@pytest.mark.parametrize('splits', [[3, 3], [2, 1, 5]])
def test_norm_sees_the_images_of_all_ranks(splits: list[int]) -> None:
    """Also if ranks have unequal shares, and far from zero."""
    num_images = sum(splits)
    expected, mean, var = norm_rank(0, [num_images])
    ranks = run_on_ranks(norm_rank, len(splits), splits)
    # A variance of 4 as the difference of two squares of 1000: 1e6 / 4 * 2e-16
    # is 6e-11.
    torch.testing.assert_close(
        torch.cat([rows for rows, _, _ in ranks]), expected, atol=1e-9, rtol=0
    )
    for _, running_mean, running_var in ranks:
        torch.testing.assert_close(running_mean, mean, atol=1e-9, rtol=0)
        torch.testing.assert_close(running_var, var, atol=1e-9, rtol=0)
        assert torch.equal(running_mean, ranks[0][1])
        assert torch.equal(running_var, ranks[0][2])


def test_norm_of_one_number_is_refused() -> None:
    with pytest.raises(ValueError, match='batch_size to 2 or more'):
        FeatureNorm(5)(torch.zeros(1, 5, 1))
    FeatureNorm(5)(torch.zeros(1, 5, 2))


def make_head(**changes: Any) -> MultiLinearHead:
    torch.manual_seed(0)
    arguments: dict[str, Any] = dict(
        shapes=SHAPES, num_classes=7, learning_rates=[0.1, 0.5, 0.02]
    )
    return MultiLinearHead(**arguments | changes).double()


class Probe(nn.Module):
    """The parts of a model that an optimizer constructor looks at."""

    def __init__(self, head: MultiLinearHead) -> None:
        super().__init__()
        self.head = head


def train(head: MultiLinearHead, optimizer: dict, num_steps: int = 8) -> None:
    """Some steps with the rate falling by half at the fourth."""
    wrapper = build_optim_wrapper(
        Probe(head),
        dict(
            type='OptimWrapper',
            optimizer=optimizer,
            constructor='swav_plugin.ProbeOptimConstructor',
        ),
    )
    for step in range(num_steps):
        if step == 4:
            for group in wrapper.param_groups:
                group['lr'] *= 0.5
        losses = head.loss(features(step), labels(step))
        wrapper.update_params(sum(losses.values()))


SGD = dict(type='SGD', momentum=0.9, nesterov=True, weight_decay=1e-2)


@pytest.mark.parametrize(
    'optimizer', [SGD, dict(type='swav_plugin.LARS', weight_decay=1e-2)]
)
def test_probes_equal_a_training_for_each_rate(optimizer: dict) -> None:
    together = make_head()
    train(together, optimizer)
    for index, rate in enumerate([0.1, 0.5, 0.02]):
        alone = make_head(learning_rates=[rate])
        train(alone, optimizer)
        for name in SHAPES:
            for key in ('weight', 'bias'):
                torch.testing.assert_close(
                    getattr(together.classifiers[name][index], key),
                    getattr(alone.classifiers[name][0], key),
                    rtol=0,
                    atol=1e-12,
                )
    weights = [each.weight for each in together.classifiers['feature4']]
    assert (weights[0] - weights[1]).abs().max() > 1e-5


def test_a_probe_is_what_it_says() -> None:
    """Batch norm, linear and cross-entropy of torch, in a plain loop."""
    head = make_head()
    norm = nn.BatchNorm1d(5, affine=False).double()
    weight = head.classifiers['feature5'][1].weight.detach().clone()
    weight.requires_grad_()
    bias = torch.zeros(7, dtype=torch.float64, requires_grad=True)
    reference = torch.optim.SGD(
        [weight, bias], lr=0.5, momentum=0.9, nesterov=True, weight_decay=1e-2
    )
    for step in range(4):
        rows = norm(features(step)['feature5'][..., 0])
        loss = F.cross_entropy(rows @ weight.T + bias, labels(step))
        reference.zero_grad()
        loss.backward()
        reference.step()
    train(head, SGD, num_steps=4)
    probe = head.classifiers['feature5'][1]
    torch.testing.assert_close(probe.weight.data, weight.data)
    torch.testing.assert_close(probe.bias.data, bias.data)
    head.eval(), norm.eval()
    rows = features(9)
    torch.testing.assert_close(
        head(rows)[:, 4],  # feature5 is the second of two, with 3 rates each
        norm(rows['feature5'][..., 0]) @ weight.T + bias,
    )


def test_how_probes_start_and_are_named() -> None:
    head = make_head(num_classes=3000)
    assert head.probes == [
        'feature4/lr0.1',
        'feature4/lr0.5',
        'feature4/lr0.02',
        'feature5/lr0.1',
        'feature5/lr0.5',
        'feature5/lr0.02',
    ]
    assert [*head.loss(features(0), labels(0))][0] == 'feature4/lr0.1/loss'
    assert make_head(learning_rates=[0.3]).probes == ['feature4', 'feature5']
    for linears in head.classifiers.values():
        assert linears[0].weight.std().item() == pytest.approx(0.01, rel=0.03)
        for linear in linears:
            assert torch.equal(linear.weight, linears[0].weight)
            assert not linear.bias.any()
    rows = features(0)
    without = make_head(batch_norm=False)
    torch.testing.assert_close(
        without(rows)[:, 0],
        without.classifiers['feature4'][0](rows['feature4'].flatten(1)),
    )


def test_float32_under_autocast() -> None:
    head, half = make_head().float(), make_head().float()
    rows = {name: each.bfloat16() for name, each in features(0).items()}
    expected = head.loss({k: v.float() for k, v in rows.items()}, labels(0))
    with torch.autocast('cpu', torch.bfloat16):
        losses = half.loss(rows, labels(0))
    assert losses == expected
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


@pytest.mark.parametrize('rates', [[], [0.1, 0.1], [0.0], [-0.1]])
def test_rates_that_can_not_be(rates: list[float]) -> None:
    with pytest.raises(ValueError, match=r'learning_rates=\[.*; give one or'):
        make_head(learning_rates=rates)
