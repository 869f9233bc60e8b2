"""swav_loss against the float64 reference, over ranks and at the edges.

Where a tolerance is in float32, 2**-24 = 6e-8 is the error of one rounding.
"""

import math
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swav_plugin.models.swav_loss import (
    harden,
    sinkhorn,
    swapped_prediction_loss,
)
from tests import reference
from tests.distributed import run_on_ranks


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1)


@pytest.mark.parametrize('epsilon', [0.01, 0.03, 0.05, 1.0])
@pytest.mark.parametrize('num_iters', [1, 3, 10])
def test_sinkhorn_equals_the_reference(epsilon: float, num_iters: int) -> None:
    scores = unit(48, 16) @ unit(30, 16, seed=1).T
    expected = reference.sinkhorn(scores.numpy(), epsilon, num_iters)
    codes = sinkhorn(scores, epsilon, num_iters)
    # An exponent is at most 2 / epsilon and is rounded a few times; so is each
    # of the sums it enters. A code is at most 1.
    np.testing.assert_allclose(
        codes.numpy(), expected, atol=3e-7 / min(epsilon, 0.1)
    )
    assert codes.dtype == torch.float32


@pytest.mark.parametrize('epsilon', [0.01, 0.05, 1.0])
def test_float64_scores_keep_their_precision(epsilon: float) -> None:
    scores = (unit(48, 16) @ unit(30, 16, seed=1).T).double()
    expected = reference.sinkhorn(scores.numpy(), epsilon, 3)
    codes = sinkhorn(scores, epsilon).numpy()
    np.testing.assert_allclose(codes, expected, atol=1e-13)


def spread_scores(scale: float) -> Tensor:
    """(40, 8) in float64, spread over some multiples of `scale`."""
    generator = torch.Generator().manual_seed(0)
    scores = scale * torch.randn(40, 8, generator=generator).double()
    scores[:, 3] = -scale  # a prototype that is far from every sample
    scores[5] = -3 * scale  # a sample that is far from every prototype
    return scores


@pytest.mark.parametrize('scale', [1e1, 1e3, 1e4, 1e6])
def test_sinkhorn_is_right_for_any_finite_score(scale: float) -> None:
    scores = spread_scores(scale)
    expected = reference.sinkhorn(scores.numpy(), 0.05, 3)
    # The reference rounds exponents as large as scale / 0.05.
    np.testing.assert_allclose(
        sinkhorn(scores).numpy(),
        expected,
        atol=max(1e-13, 1e-16 * scale / 0.05),
    )
    # The same scores in float32: shifted, then rounded a few times.
    expected = reference.sinkhorn(scores.float().numpy(), 0.05, 3)
    np.testing.assert_allclose(
        sinkhorn(scores.float()).numpy(), expected, atol=1e-6
    )


@pytest.mark.parametrize('num_iters', [1, 3, 100])
@pytest.mark.parametrize('scale', [1e1, 1e4, 1e30, 8e37])
def test_codes_of_huge_scores_sum_to_one(scale: float, num_iters: int) -> None:
    codes = sinkhorn(spread_scores(scale).float(), num_iters=num_iters)
    torch.testing.assert_close(codes.sum(1), torch.ones(40))


def test_sinkhorn_stays_finite_where_float32_ends() -> None:
    scores = torch.tensor([[3e38, -3e38, 0], [-3e38, 3e38, 1]])
    codes = sinkhorn(scores, epsilon=0.05, num_iters=100)
    torch.testing.assert_close(codes.sum(1), torch.ones(2))


def test_samples_that_share_one_prototype_wear_no_weight_out() -> None:
    # Ten samples have prototype 0 alone, one has the other nine: its weight
    # grows by about ten with each sweep and leaves the range of float32.
    scores = torch.full((11, 10), -1e3)
    scores[:10, 0] = scores[10] = 1
    codes = sinkhorn(scores, num_iters=100)
    expected = torch.zeros(11, 10)
    expected[:10, 0] = 1
    expected[10, 1:] = 1 / 9
    torch.testing.assert_close(codes, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_codes_of_half_precision_scores_are_float32(
    dtype: torch.dtype,
) -> None:
    scores = (unit(48, 16) @ unit(30, 16, seed=1).T).to(dtype)
    expected = sinkhorn(scores.float())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        codes = sinkhorn(scores)
    assert torch.equal(codes, expected)


def test_a_single_sample_is_shared_by_all_prototypes() -> None:
    # One sample has to feed every prototype equally.
    codes = sinkhorn(torch.tensor([[1.0, 0.5, -1.0, 0.0]]))
    torch.testing.assert_close(codes, torch.full((1, 4), 0.25))


@pytest.mark.parametrize(
    'arguments', [(0.0, 3), (-1.0, 3), (math.nan, 3), (0.05, 0)]
)
def test_bad_arguments_are_named(arguments: tuple) -> None:
    with pytest.raises(ValueError, match=f'epsilon={arguments[0]}'):
        sinkhorn(torch.zeros(2, 2), *arguments)


def _codes_of_rank(rank: int, scores: Tensor, queued: Tensor) -> Tensor:
    """Codes of this rank's part of `scores`, without and with a queue."""
    world_size = torch.distributed.get_world_size()
    own = scores.chunk(world_size)[rank]
    every_row = torch.cat([queued[rank::world_size], own])
    return torch.stack([sinkhorn(own), sinkhorn(every_row)[-len(own) :]])


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('world_size', [2, 4, 8])
def test_ranks_equal_one_process(world_size: int, dtype: torch.dtype) -> None:
    prototypes = unit(30, 16, seed=1)
    scores = (unit(32, 16) @ prototypes.T).to(dtype)
    queued = (unit(64, 16, seed=2) @ prototypes.T).to(dtype)
    codes = torch.cat(
        run_on_ranks(_codes_of_rank, world_size, scores, queued), dim=1
    )
    # What the package promises; in float64 no more than rounding.
    atol = 1e-6 if dtype == torch.float32 else 1e-13
    one_process = torch.stack(
        [sinkhorn(scores), sinkhorn(torch.cat([queued, scores]))[-32:]]
    )
    torch.testing.assert_close(codes, one_process, atol=atol, rtol=0)
    for found, rows in zip(codes, [scores, torch.cat([queued, scores])]):
        expected = reference.sinkhorn(rows.double().numpy(), 0.05, 3)[-32:]
        np.testing.assert_allclose(found.numpy(), expected, atol=atol)


def _codes_with_a_dead_prototype(rank: int) -> Tensor:
    scores = (unit(16, 16, seed=rank) @ unit(30, 16, seed=9).T).double()
    if rank == 0:
        # Its column of the kernel is all zero, on this rank alone.
        scores[:, 7] = -1e4
    return sinkhorn(scores)


def test_an_all_zero_column_on_one_rank_neither_hangs_nor_differs() -> None:
    codes = torch.cat(run_on_ranks(_codes_with_a_dead_prototype, 2))
    scores = torch.cat(
        [unit(16, 16, seed=r) @ unit(30, 16, seed=9).T for r in range(2)]
    )
    scores[:16, 7] = -1e4
    expected = reference.sinkhorn(scores.double().numpy(), 0.05, 3)
    np.testing.assert_allclose(codes.numpy(), expected, atol=1e-13)


def _codes_of_uneven_ranks(rank: int, scores: Tensor) -> Tensor:
    return sinkhorn(scores[:5] if rank == 0 else scores[5:])


def test_ranks_may_hold_different_numbers_of_rows() -> None:
    scores = (unit(16, 16) @ unit(30, 16, seed=1).T).double()
    codes = torch.cat(run_on_ranks(_codes_of_uneven_ranks, 2, scores))
    torch.testing.assert_close(codes, sinkhorn(scores), atol=1e-13, rtol=0)


@pytest.mark.parametrize(
    'num_views,num_assigned', [(2, 2), (2, 1), (8, 2), (3, 3), (8, 1)]
)
def test_loss_equals_the_double_loop(
    num_views: int, num_assigned: int
) -> None:
    scores = (unit(num_views, 5, 16) @ unit(30, 16, seed=1).T).double()
    codes = torch.stack([sinkhorn(view) for view in scores[:num_assigned]])
    expected = reference.swapped_prediction_loss(
        scores.numpy(), codes.numpy(), 0.1
    )
    loss = swapped_prediction_loss(scores, codes)
    assert loss.item() == pytest.approx(expected, rel=1e-13)
    loss = swapped_prediction_loss(scores.float(), codes.float())
    # Scores / T are at most 10, a loss at least ln 30: rounding a score / T or
    # a code moves it by no more than 10 / 3.4 * 2**-24, a few times.
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('num_views,num_assigned', [(2, 2), (4, 2), (3, 1)])
def test_gradient_is_that_of_the_loss(
    num_views: int, num_assigned: int
) -> None:
    scores = unit(num_views, 3, 6).double().requires_grad_()
    codes = torch.stack(
        [sinkhorn(view) for view in scores.detach()[:num_assigned]]
    )
    assert torch.autograd.gradcheck(
        lambda x: swapped_prediction_loss(x, codes, 0.3), scores
    )


def test_no_gradient_flows_into_codes() -> None:
    scores, codes = (
        unit(3, 3, 6).requires_grad_(),
        torch.full((2, 3, 6), 1 / 6),
    )
    codes.requires_grad_()
    swapped_prediction_loss(scores, codes).backward()
    assert codes.grad is None and scores.grad.abs().sum() > 0


@pytest.mark.parametrize('scale', [1e4, 1e36])
def test_loss_and_gradient_of_huge_scores_are_finite(scale: float) -> None:
    scores = (scale * unit(3, 4, 6)).requires_grad_()
    codes = torch.stack([sinkhorn(view) for view in scores.detach()[:2]])
    loss = swapped_prediction_loss(scores, codes)
    loss.backward()
    assert loss.isfinite() and scores.grad.isfinite().all()


def test_log_softmax_is_taken_once_for_each_view() -> None:
    # Not once for each of the 14 pairs.
    with mock.patch.object(F, 'log_softmax', wraps=F.log_softmax) as function:
        swapped_prediction_loss(unit(8, 3, 6), torch.full((2, 3, 6), 1 / 6))
    assert [call.args[0].shape for call in function.call_args_list] == [
        (8, 3, 6)
    ]


def test_loss_is_float32_under_autocast() -> None:
    scores = (unit(4, 3, 6) / 0.1).bfloat16()
    codes = torch.full((2, 3, 6), 1 / 6)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = swapped_prediction_loss(scores, codes)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, swapped_prediction_loss(scores.float(), codes))


@pytest.mark.parametrize(
    'scores,codes',
    [((1, 2, 4), (1, 2, 4)), ((3, 2, 4), (2, 3, 4)), ((2, 2, 4), (3, 2, 4))],
)
def test_shapes_that_do_not_match_are_shown(
    scores: tuple, codes: tuple
) -> None:
    with pytest.raises(ValueError) as error:
        swapped_prediction_loss(torch.zeros(scores), torch.zeros(codes))
    assert str(scores) in str(error.value) and str(codes) in str(error.value)


def test_hard_codes_keep_the_largest_entry() -> None:
    codes = torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.35, 0.25]])
    expected = torch.tensor([[0.0, 1, 0], [1, 0, 0]])
    assert torch.equal(harden(codes), expected)
