"""SwAVHead: codes with and without queue, on any number of ranks.

In float64, unless float32 is what is tested.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swav_plugin.models import SwAVHead
from swav_plugin.models.swav_loss import (
    harden,
    sinkhorn,
    swapped_prediction_loss,
)
from tests import reference
from tests.distributed import run_on_ranks

DIM, NUM_PROTOTYPES, NUM_VIEWS = 16, 30, 4


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return F.normalize(noise, dim=-1)


def make_head(queue_length: int = 0, **kwargs: object) -> SwAVHead:
    torch.manual_seed(0)
    kwargs = dict(num_prototypes=NUM_PROTOTYPES) | kwargs
    return SwAVHead(DIM, queue_length=queue_length, **kwargs).double()


@pytest.mark.parametrize('epsilon', [0.02, 0.05, 0.5])
@pytest.mark.parametrize('queue_length', [0, 24])
def test_losses_of_six_steps_equal_the_reference(
    queue_length: int, epsilon: float
) -> None:
    head = make_head(queue_length, epsilon=epsilon)
    single = make_head(queue_length, epsilon=epsilon).float()
    prototypes = head.prototypes[0].weight.detach().numpy()
    queue = reference.Queue(2, queue_length or 10**9)
    for step in range(6):
        embeddings = unit(NUM_VIEWS, 8, DIM, seed=step)
        expected, _ = reference.batch_loss(
            embeddings.numpy(), prototypes, queue, 2, epsilon, 3, 0.1
        )
        loss = head.loss(embeddings)
        assert loss.dtype == torch.float64
        assert loss.item() == pytest.approx(expected, abs=1e-12)
        # 2**-24 in a score is that over epsilon in the logarithm of a code,
        # and a code weighs log-probabilities of up to 20.
        loss = single.loss(embeddings.float())
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected, abs=1e-6 / epsilon)


def _losses(rank: int, queue_length: int, hard: bool) -> Tensor:
    """Losses and prototype gradients of six steps on this rank's images."""
    world_size = torch.distributed.get_world_size()
    return _six_steps(queue_length, hard, rank, world_size)


def _six_steps(
    queue_length: int, hard: bool, rank: int, world_size: int
) -> Tensor:
    head = make_head(
        queue_length, num_prototypes=[30, 20], hard_assignment=hard
    )
    results = []
    for step in range(6):
        # Strided, as the sampler deals images out to ranks.
        images = unit(NUM_VIEWS, 16, DIM, seed=step)[:, rank::world_size]
        loss = head.loss(images)
        loss.backward()
        gradients = [p.weight.grad.flatten() for p in head.prototypes]
        results.append(torch.cat([loss.detach()[None], *gradients]))
    return torch.stack(results)


@pytest.mark.parametrize('world_size', [2, 4, 8])
@pytest.mark.parametrize(
    'queue_length,hard', [(0, False), (48, False), (48, True)]
)
def test_ranks_equal_one_process(
    world_size: int, queue_length: int, hard: bool
) -> None:
    ranks = torch.stack(run_on_ranks(_losses, world_size, queue_length, hard))
    one_process = _six_steps(queue_length, hard, 0, 1)
    # DDP averages over ranks what each computes.
    torch.testing.assert_close(ranks.mean(0), one_process, atol=1e-12, rtol=0)


def test_the_queue_is_used_once_full_and_changes_codes() -> None:
    images = [unit(NUM_VIEWS, 8, DIM, seed=step) for step in range(4)]
    without = [make_head().loss(x).item() for x in images]
    head = make_head(16)
    losses = [head.loss(x).item() for x in images]
    assert losses[:2] == pytest.approx(without[:2], abs=1e-12)
    assert all(abs(a - b) > 1e-3 for a, b in zip(losses[2:], without[2:]))


def test_a_paused_queue_neither_fills_nor_is_used() -> None:
    head, plain = make_head(8), make_head()
    head.loss(unit(NUM_VIEWS, 8, DIM))  # full by now
    content = head.queue.features.clone()
    head.pause_queue()
    images = unit(NUM_VIEWS, 8, DIM, seed=1)
    expected = plain.loss(images).item()
    assert head.loss(images).item() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(head.queue.features, content)
    head.start_queue()
    assert abs(head.loss(images).item() - expected) > 1e-3


def test_prototypes_are_normalized_before_they_score() -> None:
    head = make_head()
    head.prototypes[0].weight.data.mul_(7)
    images = unit(NUM_VIEWS, 8, DIM)
    loss = head.loss(images).item()
    norms = head.prototypes[0].weight.norm(dim=1)
    assert norms.tolist() == pytest.approx([1] * NUM_PROTOTYPES, abs=1e-12)
    assert loss == pytest.approx(make_head().loss(images).item(), abs=1e-12)


def test_several_sets_of_prototypes_are_averaged() -> None:
    images = unit(NUM_VIEWS, 8, DIM)
    both = make_head(num_prototypes=[30, 20])
    losses = []
    for prototypes in both.prototypes:
        single = make_head(num_prototypes=len(prototypes.weight))
        single.prototypes[0].load_state_dict(prototypes.state_dict())
        losses.append(single.loss(images).item())
    expected = np.mean(losses)
    assert both.loss(images).item() == pytest.approx(expected, abs=1e-12)


def test_hard_assignment_rounds_the_codes() -> None:
    images = unit(NUM_VIEWS, 8, DIM)
    head = make_head(hard_assignment=True)
    loss = head.loss(images)
    scores = torch.stack([head(view)[0] for view in images])
    codes = torch.stack([harden(sinkhorn(view)) for view in scores[:2]])
    assert loss.item() == pytest.approx(
        swapped_prediction_loss(scores, codes).item(), abs=1e-12
    )


def test_a_dropped_gradient_freezes_without_decay_or_momentum() -> None:
    head = make_head()
    optimizer = torch.optim.SGD(
        head.parameters(), lr=1, momentum=0.9, weight_decay=0.1
    )
    head.loss(unit(NUM_VIEWS, 8, DIM)).backward()
    before = head.prototypes[0].weight.detach().clone()
    head.drop_prototype_gradients()
    optimizer.step()
    assert torch.equal(head.prototypes[0].weight, before)
    assert not optimizer.state


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_get_full_precision_codes(
    dtype: torch.dtype,
) -> None:
    embeddings = unit(NUM_VIEWS, 8, DIM).to(dtype)
    expected = make_head(8).float()
    head = make_head(8).float()
    for _ in range(2):
        plain = expected.loss(embeddings.float())
        with torch.autocast('cpu', dtype=torch.bfloat16):
            loss = head.loss(embeddings)
        assert loss.dtype == torch.float32
        assert loss.item() == plain.item()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(
            head.predict(embeddings[0]),
            expected.predict(embeddings[0].float()),
        )


@pytest.mark.parametrize(
    'argument',
    [
        dict(num_prototypes=[]),
        dict(num_prototypes=0),
        dict(queue_length=-8),
        dict(num_assign_views=0),
        dict(temperature=0),
        dict(epsilon=0),
        dict(epsilon=float('nan')),
        dict(num_iters=0),
    ],
)
def test_arguments_out_of_range_are_shown(argument: dict) -> None:
    ((name, value),) = argument.items()
    with pytest.raises(ValueError, match='got ') as error:
        make_head(**argument)
    assert f'{name}={value}' in str(error.value).replace('=[0]', '=0')


def test_more_assigned_views_than_views_are_refused() -> None:
    with pytest.raises(ValueError, match='4 views .* num_assign_views=6'):
        make_head(num_assign_views=6).loss(unit(NUM_VIEWS, 8, DIM))


def test_a_batch_of_one_image_works() -> None:
    # All codes are uniform, so the loss is the mean cross entropy with them.
    head = make_head()
    embeddings = unit(NUM_VIEWS, 1, DIM)
    expected, _ = reference.batch_loss(
        embeddings.numpy(),
        head.prototypes[0].weight.detach().numpy(),
        reference.Queue(2, 10**9),
        2,
        0.05,
        3,
        0.1,
    )
    assert head.loss(embeddings).item() == pytest.approx(expected, abs=1e-12)
