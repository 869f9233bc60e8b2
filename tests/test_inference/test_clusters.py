"""Assignments against NumPy and the training's Sinkhorn; merging."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier
from torch import Tensor

from swav_plugin.apis import assign_clusters
from swav_plugin.inference import clusters as module
from swav_plugin.inference.clusters import (
    assign_embeddings,
    balancing_weights,
    merge_prototypes,
    unit_prototypes,
)
from swav_plugin.models import SwAVHead
from swav_plugin.models.swav_loss import sinkhorn

from .networks import COLORS, network_for, write_colors

FILES = [''] * 50


def head_and_embeddings(
    num_images: int = 50, num_prototypes: int = 6
) -> tuple[SwAVHead, Tensor]:
    """A head whose prototypes are not of unit norm, in float64."""
    torch.manual_seed(0)
    head = SwAVHead(8, [num_prototypes, 3]).double()
    head.prototypes[0].weight.data *= torch.rand(num_prototypes, 1) + 0.5
    embeddings = torch.randn(num_images, 8, dtype=torch.float64)
    return head, F.normalize(embeddings + 1, dim=1)


def test_nearest_equals_numpy() -> None:
    head, embeddings = head_and_embeddings()
    found = assign_embeddings(head, embeddings, FILES)
    prototypes = head.prototypes[0].weight.detach().numpy()
    prototypes = prototypes / np.linalg.norm(prototypes, axis=1)[:, None]
    cosines = embeddings.numpy() @ prototypes.T
    weights = np.exp(cosines / head.temperature)
    nearest = cosines.argmax(1)
    rows = np.arange(len(cosines))
    assert found.prototype.tolist() == nearest.tolist()
    np.testing.assert_allclose(
        found.confidence,
        weights[rows, nearest] / weights.sum(1),
        atol=1e-12,
        rtol=0,
    )
    np.testing.assert_allclose(
        found.distance, 1 - cosines[rows, nearest], atol=1e-12, rtol=0
    )
    counts = np.bincount(nearest, minlength=6).tolist()
    assert found.counts.tolist() == counts


@pytest.mark.parametrize('num_iters', [1, 3, 20])
@pytest.mark.parametrize('block', [7, 100, 10_000])
def test_balanced_equals_sinkhorn_of_the_whole_set(
    num_iters: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, '_BLOCK_SCORES', block)
    head, embeddings = head_and_embeddings()
    head.num_iters = num_iters
    prototypes = unit_prototypes(head)
    scores = embeddings @ prototypes.T
    codes = sinkhorn(scores, head.epsilon, num_iters)
    weights = balancing_weights(
        embeddings, prototypes, head.epsilon, num_iters
    )
    ours = (scores / head.epsilon + weights).softmax(1)
    torch.testing.assert_close(ours, codes, atol=1e-12, rtol=0)
    found = assign_embeddings(head, embeddings, FILES, balanced=True)
    assert torch.equal(found.prototype, codes.argmax(1))
    torch.testing.assert_close(
        found.confidence, codes.amax(1), atol=1e-12, rtol=0
    )
    # The distance is to the prototype that was assigned, not to the nearest.
    cosines = scores.gather(1, codes.argmax(1, keepdim=True))[:, 0]
    torch.testing.assert_close(found.distance, 1 - cosines, atol=1e-12, rtol=0)


def test_balanced_evens_out_a_collapsed_model() -> None:
    head, embeddings = head_and_embeddings()
    embeddings = F.normalize(embeddings + 20, dim=1)
    nearest = assign_embeddings(head, embeddings, FILES)
    balanced = assign_embeddings(head, embeddings, FILES, balanced=True)
    assert nearest.counts.max() == 50
    assert balanced.counts.max() < 25


def test_groups_equal_scikit_learns_ward() -> None:
    cluster = pytest.importorskip('sklearn.cluster')
    rng = np.random.default_rng(0)
    means = rng.normal(size=(40, 5))
    counts = rng.integers(1, 6, size=40)
    # Ward of the images first joins those of a prototype, at no cost.
    prototype = np.repeat(np.arange(40), counts)
    images = means[prototype]
    for num_groups in (1, 2, 10, 39, 40):
        ward = cluster.AgglomerativeClustering(num_groups)
        theirs = ward.fit_predict(images)
        ours = merge_prototypes(
            torch.from_numpy(images), torch.from_numpy(prototype), num_groups
        )
        pairs = {*zip(ours.tolist(), theirs.tolist())}
        assert len(pairs) == num_groups
        sizes = torch.bincount(ours).tolist()
        assert sizes == sorted(sizes, reverse=True)
        assert len(sizes) == num_groups


def test_groups_are_of_prototypes_that_have_images() -> None:
    embeddings = torch.eye(3)[[0, 0, 1, 2]]
    prototype = torch.tensor([90, 90, 5, 7])
    groups = merge_prototypes(embeddings, prototype, 3)
    assert groups.tolist() == [0, 0, 1, 2]
    for num_groups in (0, 4):
        with pytest.raises(ValueError) as error:
            merge_prototypes(embeddings, prototype, num_groups)
        assert str(error.value) == (
            f'got {num_groups} groups, but only 3 prototypes have images; '
            'ask for 1 to 3 groups.'
        )


def test_colors_are_found(tmp_path: Path) -> None:
    folder = write_colors(tmp_path / 'colors')
    model = network_for(folder)
    found = assign_clusters(model, str(folder), num_groups=3, size=32)
    colors = [Path(file).parent.name for file in found.files]
    assert found.group is not None
    assert len({*zip(colors, found.group.tolist())}) == len(COLORS)
    assert found.counts[-1] == 0 and found.counts.sum() == len(colors)
    own = [colors.index(name) for name in COLORS]
    assert [int(found.prototype[i]) for i in own] == [0, 2, 4]
    assert float(found.distance[own].max()) < 1e-5  # the prototype itself


def test_a_model_without_parts_is_refused_before_images_are_read() -> None:
    backbone = ImageClassifier(dict(type='ResNet', depth=18)).eval()
    with pytest.raises(ValueError, match='has no neck and no prototypes, so'):
        assign_clusters(backbone, 'no/such/folder')
