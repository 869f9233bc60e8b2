"""Statistics of health against NumPy in float64, written from the formulas."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swav_plugin.models import SwAVHead
from swav_plugin.models.health import (
    prototype_cosines,
    stopping_score,
    summarize,
    view_distances,
    without_colors,
)
from swav_plugin.models.swav_loss import sinkhorn

from ..distributed import run_on_ranks

V, A, B, D, K = 4, 2, 12, 6, 10
NUM_STEPS = 3


def embeddings(seed: int, num_images: int = B) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (V, num_images, D)
    rows = torch.randn(shape, generator=generator, dtype=torch.float64)
    return F.normalize(rows + torch.arange(D) / 4, dim=-1)


def make_head(num_prototypes: Any = K, **kwargs: Any) -> SwAVHead:
    torch.manual_seed(0)
    return SwAVHead(D, num_prototypes, **kwargs).double()


def np_entropy(masses: np.ndarray) -> np.ndarray:
    shares = masses / masses.sum(-1, keepdims=True)
    return -(shares * np.log(np.where(shares > 0, shares, 1))).sum(-1)


def np_softmax(scores: np.ndarray) -> np.ndarray:
    exponents = np.exp(scores - scores.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def reference(steps: list[Tensor], head: SwAVHead) -> dict[str, float]:
    """Compute all statistics from the rows themselves."""
    weight = head.prototypes[0].weight.detach().numpy()
    weight = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    scores = [step.numpy() @ weight.T for step in steps]  # (V, B, K) each
    codes = np.stack(
        [
            sinkhorn(torch.from_numpy(rows), head.epsilon).numpy()
            for step in scores
            for rows in step[:A]
        ]
    )
    predictions = [np_softmax(step / head.temperature) for step in scores]
    losses = [
        np.mean(
            [
                -(codes[A * n + a] * np.log(predictions[n][v])).sum(1).mean()
                for a in range(A)
                for v in range(V)
                if v != a
            ]
        )
        for n in range(len(steps))
    ]
    assigned = np.concatenate([p[:A].reshape(-1, K) for p in predictions])
    rows = np.concatenate([step[:A].numpy().reshape(-1, D) for step in steps])
    nearest = np.concatenate([s.argmax(2) for s in scores], 1)  # (V, all B)
    shares = np.bincount(nearest[:A].ravel(), minlength=K) / nearest[:A].size
    cosines = rows @ rows.T
    own_entropy = np_entropy(assigned).mean()
    return dict(
        loss_share=np.mean(losses) / math.log(K),
        code_entropy=np_entropy(codes).mean(),
        code_entropy_share=np_entropy(codes).mean() / math.log(K),
        prediction_entropy=own_entropy,
        prediction_entropy_share=own_entropy / math.log(K),
        information=np_entropy(assigned.mean(0)) - own_entropy,
        effective_prototypes=math.exp(np_entropy(assigned.mean(0))),
        effective_share=math.exp(np_entropy(assigned.mean(0))) / K,
        largest_share=shares.max(),
        dead_prototypes=(shares == 0).sum(),
        dead_share=(shares == 0).mean(),
        agreement=(nearest[0] == nearest[1]).mean(),
        chance_agreement=(shares**2).sum(),
        rank_me=math.exp(np_entropy(np.linalg.svd(rows)[1])),
        rank_me_share=math.exp(np_entropy(np.linalg.svd(rows)[1])) / D,
        embedding_std=rows.std(0).mean() * math.sqrt(D),
        embedding_cosine=cosines[~np.eye(len(rows), dtype=bool)].mean(),
    )


def test_statistics_are_those_of_the_rows() -> None:
    head = make_head()
    statistics = head.start_statistics()
    steps = [embeddings(seed) for seed in range(NUM_STEPS)]
    for step in steps:
        head.loss(step)
    head.collect_statistics()
    expected = reference(steps, head)
    found = summarize(statistics.epoch)
    assert found == pytest.approx(expected, abs=1e-9)
    assert found['dead_prototypes'] > 0  # or it shows nothing
    assert stopping_score(found) == pytest.approx(
        expected['information'] * math.log(expected['rank_me']), abs=1e-9
    )


def test_windows_and_epochs_end_on_their_own() -> None:
    head = make_head()
    statistics = head.start_statistics()
    steps = [embeddings(seed) for seed in range(NUM_STEPS)]
    for step in steps:
        statistics.end_window()
        head.loss(step)
        head.collect_statistics()
    for sums, of in (
        (statistics.window, steps[-1:]),
        (statistics.recent, steps[-2:]),
        (statistics.epoch, steps),
    ):
        assert summarize(sums) == pytest.approx(reference(of, head), abs=1e-9)
    statistics.end_epoch()
    assert summarize(statistics.epoch) == {}
    assert summarize(statistics.window) != {}


def test_embeddings_on_a_line_have_rank_one() -> None:
    head = make_head()
    statistics = head.start_statistics()
    head.loss(F.normalize(torch.ones(V, B, D).double(), dim=-1))
    head.collect_statistics()
    found = summarize(statistics.epoch)
    # The square root of a rounding of 1e-16 is 1e-8, with a weight of
    # -1e-8 ln 1e-8 for each of D.
    assert found['rank_me'] == pytest.approx(1, abs=1e-5)
    assert found['embedding_std'] == pytest.approx(0, abs=1e-7)
    assert found['embedding_cosine'] == pytest.approx(1, abs=1e-12)
    assert found['information'] == pytest.approx(0, abs=1e-12)
    assert found['largest_share'] == 1
    assert found['dead_prototypes'] == K - 1


def test_of_several_sets_the_weakest_is_described() -> None:
    head = make_head([K, K])
    with torch.no_grad():  # all the same
        head.prototypes[1].weight.copy_(torch.ones(K, D))
    statistics = head.start_statistics()
    for seed in range(NUM_STEPS):
        head.loss(embeddings(seed))
    head.collect_statistics()
    found = summarize(statistics.epoch)
    assert found['information'] == pytest.approx(0, abs=1e-12)
    assert found['effective_share'] == pytest.approx(1, abs=1e-12)
    cosines = head.prototype_cosines()
    assert cosines['prototype_cosine_mean'] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize('block', [3, K, 1024])
def test_prototype_cosines(block: int) -> None:
    weight = torch.randn(K, D, generator=torch.Generator().manual_seed(1))
    rows = weight.double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    others = (rows @ rows.T)[~np.eye(K, dtype=bool)]
    found = prototype_cosines(weight, block)
    # float32: products of D numbers below 1.
    assert found['prototype_cosine_max'] == pytest.approx(
        others.max(), abs=D * 2**-23
    )
    assert found['prototype_cosine_mean'] == pytest.approx(
        others.mean(), abs=D * 2**-23
    )
    assert prototype_cosines(weight[:1]) == {}


def test_a_queue_is_compared_with_the_batch() -> None:
    head = make_head(queue_length=2 * B)
    statistics = head.start_statistics()
    steps = [embeddings(seed) for seed in range(2)]
    head.loss(steps[0])
    head.collect_statistics()  # it is not full, so it is not in use
    assert 'queue_overlap' not in summarize(statistics.epoch)
    statistics.end_epoch()
    head.loss(steps[1])
    head.collect_statistics()
    weight = head.prototypes[0].weight.detach().numpy()
    fresh, queued = (
        np.concatenate(
            [
                np_softmax(step[:A].numpy() @ weight.T / head.temperature)
                .reshape(-1, K)
                for step in rows
            ]
        ).mean(0)
        for rows in (steps[1:], steps)
    )  # fmt: skip
    assert summarize(statistics.epoch)['queue_overlap'] == pytest.approx(
        np.minimum(fresh, queued).sum(), abs=1e-6
    )


def test_distances_of_views() -> None:
    torch.manual_seed(0)
    views, others = torch.randn(2, B, 3, 4, 4, dtype=torch.float64)
    distances = np.array(
        [[((a - b) ** 2).sum() for b in others.numpy()] for a in views.numpy()]
    )
    same, other = view_distances(views, others)
    assert float(same) == pytest.approx(np.diag(distances).mean(), abs=1e-12)
    is_other = ~np.eye(B, dtype=bool)
    assert float(other) == pytest.approx(distances[is_other].mean(), abs=1e-12)


def test_colors_are_left_out() -> None:
    torch.manual_seed(0)
    views = torch.rand(B, 1, 4, 4, dtype=torch.float64)
    gains = torch.rand(2, B, 3, 1, 1, dtype=torch.float64) + 0.5
    jittered = [without_colors(views * gain + 3 * gain) for gain in gains]
    torch.testing.assert_close(*jittered, rtol=0, atol=1e-12)
    numbers = jittered[0].flatten(1)
    torch.testing.assert_close(
        numbers.square().mean(1), torch.ones(B).double(), rtol=0, atol=1e-12
    )


def _collect(rank: int, num_ranks: int) -> dict[str, float]:
    head = make_head(queue_length=2 * B)
    statistics = head.start_statistics()
    for seed in range(NUM_STEPS):
        mine = slice(rank * B // num_ranks, (rank + 1) * B // num_ranks)
        rows = embeddings(seed)[:, mine]
        head.loss(rows)
    head.collect_statistics()
    return summarize(statistics.epoch)


def test_two_ranks_have_the_statistics_of_one() -> None:
    (alone,) = run_on_ranks(_collect, 1, 1)
    for found in run_on_ranks(_collect, 2, 2):
        assert found == pytest.approx(alone, abs=1e-9)


def test_what_is_not_finite_is_dropped() -> None:
    head = make_head()
    statistics = head.start_statistics()
    head.loss(embeddings(0))
    head.collect_statistics()
    before = summarize(statistics.epoch)
    head.loss(embeddings(1) * float('inf'))
    head.collect_statistics()
    assert summarize(statistics.epoch) == before


def test_a_restored_state_goes_on() -> None:
    head = make_head()
    statistics = head.start_statistics()
    head.loss(embeddings(0))
    head.collect_statistics()
    state = statistics.state()
    expected = summarize(statistics.epoch)
    statistics.end_epoch()
    statistics.restore(state)
    assert summarize(statistics.epoch) == expected
    # One of another model: begin anew.
    other = make_head(K + 1).start_statistics()
    other.restore(state)
    assert summarize(other.epoch) == {}
