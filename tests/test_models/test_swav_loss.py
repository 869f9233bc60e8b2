"""swav_loss against the float64 reference, over ranks and at the edges."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swav_plugin.models.swav_loss import (
    harden,
    sinkhorn,
    sinkhorn_with_queue,
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
    # Scores are rounded to float32 once they are divided by epsilon.
    np.testing.assert_allclose(
        codes.numpy(), expected, atol=3e-7 / min(epsilon, 0.1)
    )
    assert codes.dtype == torch.float32


def test_float64_scores_keep_their_precision() -> None:
    scores = (unit(48, 16) @ unit(30, 16, seed=1).T).double()
    expected = reference.sinkhorn(scores.numpy(), 0.05, 3)
    np.testing.assert_allclose(sinkhorn(scores).numpy(), expected, atol=1e-13)


@pytest.mark.parametrize('scale', [1e1, 1e3, 1e6])
def test_sinkhorn_is_right_for_any_finite_score(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = scale * torch.randn(40, 8, generator=generator).double()
    scores[:, 3] = -scale  # a prototype that is far from every sample
    scores[5] = -3 * scale  # a sample that is far from every prototype
    expected = reference.sinkhorn(scores.numpy(), 0.05, 3)
    codes = sinkhorn(scores)
    np.testing.assert_allclose(codes.numpy(), expected, atol=1e-7)


def test_sinkhorn_stays_finite_where_float32_ends() -> None:
    scores = torch.tensor([[3e38, -3e38, 0], [-3e38, 3e38, 1]])
    codes = sinkhorn(scores, epsilon=0.05, num_iters=100)
    torch.testing.assert_close(codes.sum(1), torch.ones(2))


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


@pytest.mark.parametrize('arguments', [(0.0, 3), (-1.0, 3), (0.05, 0)])
def test_bad_arguments_are_named(arguments: tuple) -> None:
    with pytest.raises(ValueError, match=f'epsilon={arguments[0]}'):
        sinkhorn(torch.zeros(2, 2), *arguments)


@pytest.mark.parametrize('epsilon', [0.02, 0.05, 0.5])
def test_queue_takes_part_but_gets_no_codes(epsilon: float) -> None:
    prototypes, rows = unit(300, 16), unit(700, 16, seed=1)
    scores = rows[-60:] @ prototypes.T
    expected = reference.sinkhorn(
        (rows @ prototypes.T).double().numpy(), epsilon, 3
    )[-60:]
    codes = sinkhorn_with_queue(scores, rows[:-60], prototypes, epsilon)
    np.testing.assert_allclose(codes.numpy(), expected, atol=2e-6)
    # A buffer is memory only: what it holds does not matter.
    buffer = torch.full((700, 300), float('nan'))
    again = sinkhorn_with_queue(
        scores, rows[:-60], prototypes, epsilon, 3, buffer
    )
    assert torch.equal(again, codes)


def test_blocks_do_not_change_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    prototypes, rows = unit(30, 16), unit(70, 16, seed=1)
    scores = rows[60:] @ prototypes.T
    whole = sinkhorn_with_queue(scores, rows[:60], prototypes)
    monkeypatch.setattr(
        'swav_plugin.models.swav_loss._CPU_BLOCK_BYTES', 7 * 30 * 4
    )
    blocks = sinkhorn_with_queue(scores, rows[:60], prototypes)
    torch.testing.assert_close(blocks, whole, atol=1e-6, rtol=0)


def _codes_of_rank(rank: int, rows: Tensor, prototypes: Tensor) -> Tensor:
    """Codes of this rank's part of `rows`, without and with a queue."""
    world_size = torch.distributed.get_world_size()
    own = rows.chunk(world_size)[rank]
    queued = unit(64, rows.shape[1], seed=2)[rank::world_size]
    return torch.stack(
        [
            sinkhorn(own @ prototypes.T),
            sinkhorn_with_queue(own @ prototypes.T, queued, prototypes),
        ]
    )


@pytest.mark.parametrize('world_size', [2, 4, 8])
def test_ranks_equal_one_process(world_size: int) -> None:
    rows, prototypes = unit(32, 16), unit(30, 16, seed=1)
    queued = unit(64, 16, seed=2)
    codes = torch.cat(
        run_on_ranks(_codes_of_rank, world_size, rows, prototypes), dim=1
    )
    one_process = torch.stack(
        [
            sinkhorn(rows @ prototypes.T),
            sinkhorn_with_queue(rows @ prototypes.T, queued, prototypes),
        ]
    )
    torch.testing.assert_close(codes, one_process, atol=1e-6, rtol=0)
    expected = reference.sinkhorn(
        (rows @ prototypes.T).double().numpy(), 0.05, 3
    )
    np.testing.assert_allclose(codes[0].numpy(), expected, atol=1e-6)


def _codes_with_a_dead_prototype(rank: int) -> Tensor:
    scores = unit(16, 16, seed=rank) @ unit(30, 16, seed=9).T
    if rank == 0:
        # Its column of the kernel is all zero in float32, on this rank alone.
        scores[:, 7] = -1e4
    return sinkhorn(scores)


def test_an_all_zero_column_on_one_rank_neither_hangs_nor_differs() -> None:
    codes = torch.cat(run_on_ranks(_codes_with_a_dead_prototype, 2))
    scores = torch.cat(
        [unit(16, 16, seed=r) @ unit(30, 16, seed=9).T for r in range(2)]
    )
    scores[:16, 7] = -1e4
    expected = reference.sinkhorn(scores.double().numpy(), 0.05, 3)
    np.testing.assert_allclose(codes.numpy(), expected, atol=1e-6)


def _codes_of_uneven_ranks(rank: int, scores: Tensor) -> Tensor:
    return sinkhorn(scores[:5] if rank == 0 else scores[5:])


def test_ranks_may_hold_different_numbers_of_rows() -> None:
    scores = unit(16, 16) @ unit(30, 16, seed=1).T
    codes = torch.cat(run_on_ranks(_codes_of_uneven_ranks, 2, scores))
    torch.testing.assert_close(codes, sinkhorn(scores), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    'num_views,num_coded', [(2, 2), (2, 1), (8, 2), (3, 3), (8, 1)]
)
def test_loss_equals_the_double_loop(num_views: int, num_coded: int) -> None:
    scores = unit(num_views, 5, 16) @ unit(30, 16, seed=1).T
    codes = torch.stack([sinkhorn(view) for view in scores[:num_coded]])
    expected = reference.swapped_prediction_loss(
        scores.double().numpy(), codes.double().numpy(), 0.1
    )
    assert swapped_prediction_loss(scores, codes).item() == pytest.approx(
        expected, rel=3e-7
    )


@pytest.mark.parametrize('num_views,num_coded', [(2, 2), (4, 2), (3, 1)])
def test_gradient_is_that_of_the_loss(num_views: int, num_coded: int) -> None:
    scores = unit(num_views, 3, 6).double().requires_grad_()
    codes = torch.stack(
        [sinkhorn(view) for view in scores.detach()[:num_coded]]
    )
    assert torch.autograd.gradcheck(
        lambda x: swapped_prediction_loss(x, codes, 0.3), scores
    )


def test_gradients_add_up_over_two_backward_passes() -> None:
    scores = unit(4, 3, 6).requires_grad_()
    codes = torch.full((2, 3, 6), 1 / 6)
    loss = swapped_prediction_loss(scores, codes)
    loss.backward(retain_graph=True)
    once = scores.grad.clone()
    (3 * loss).backward()
    torch.testing.assert_close(scores.grad, 4 * once)


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
