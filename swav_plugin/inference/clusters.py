"""Assign images to prototypes, and merge prototypes into groups.

Letters for shapes: N images, D embedding size, K prototypes, G groups.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .features import Images, extract_features

_BLOCK_SCORES = 2**24  # scores held at once: 64 MB


class Clusters(NamedTuple):
    """The prototype of each of N images.

    Attributes:
        prototype: (N,) int64, an index into the first set of prototypes.
        confidence: (N,) share of that prototype in the image's softmax at the
            temperature of the head; if balanced, in its code.
        distance: (N,) 1 - cosine of embedding and prototype, from 0 to 2.
            Half the squared Euclidean distance, as both have unit norm.
        files: N paths; '' for an image that did not come from a file.
        num_prototypes: K.
        group: (N,) int64, if prototypes were merged; group 0 has the most
            images.
    """

    prototype: Tensor
    confidence: Tensor
    distance: Tensor
    files: list[str]
    num_prototypes: int
    group: Tensor | None = None

    @property
    def counts(self) -> Tensor:
        """Return how many images each prototype has: (K,)."""
        return torch.bincount(self.prototype, minlength=self.num_prototypes)


def assign_clusters(
    model: Any,
    images: Images,
    balanced: bool = False,
    num_groups: int | None = None,
    **options: Any,
) -> Clusters:
    """Assign each image to a prototype of a pretrained SwAV.

    Args:
        model: A `SwAV` in eval mode: a backbone, a neck and prototypes.
        images: As for `extract_features`.
        balanced: Assign all images together, so that prototypes get about
            equally many (Sinkhorn with epsilon and sweeps of the head, as in
            training, but over the whole set). Otherwise each image gets the
            nearest prototype.
        num_groups: Also merge prototypes into so many groups; see
            `merge_prototypes`.
        options: Those of `extract_features`, such as `size` and
            `batch_size`.

    Raises:
        ValueError: The model lacks a neck or prototypes, or fewer prototypes
            than groups have images; besides what `extract_features` raises.
    """
    check_has_prototypes(model)
    check_num_groups(num_groups, model.head)
    embeddings, files = extract_features(
        model, images, layer='embedding', **options
    )
    return assign_embeddings(
        model.head, embeddings, files, balanced, num_groups
    )


def check_has_prototypes(model: Any) -> None:
    """Check that a model can assign images to prototypes.

    Raises:
        ValueError: It lacks a neck or prototypes.
    """
    parts = dict(
        neck=getattr(model, 'neck', None),
        prototypes=getattr(getattr(model, 'head', None), 'prototypes', None),
    )
    missing = [name for name, part in parts.items() if part is None]
    if missing:
        raise ValueError(
            f'this {type(model).__name__} has no {" and no ".join(missing)}, '
            'so its images belong to no cluster; give a checkpoint of SwAV '
            'pretraining that still has them, not a backbone alone.'
        )


def check_num_groups(num_groups: int | None, head: Any) -> None:
    """Check that prototypes can be merged into so many groups.

    Raises:
        ValueError: There are too few, whichever images there are.
    """
    most = len(head.prototypes[0].weight)
    if num_groups is not None and not 1 <= num_groups <= most:
        raise ValueError(
            f'got {num_groups:,} groups, but the network has {most:,} '
            f'prototypes; ask for 1 to {most:,} groups.'
        )


@torch.no_grad()
def assign_embeddings(
    head: Any,
    embeddings: Tensor,
    files: list[str],
    balanced: bool = False,
    num_groups: int | None = None,
) -> Clusters:
    """Assign (N, D) embeddings of unit norm to the prototypes of a head.

    Args:
        head: A `SwAVHead`.
        embeddings: On any device.
        files: Where each came from.
        balanced: As for `assign_clusters`.
        num_groups: The same.
    """
    prototypes = unit_prototypes(head)
    temperature, weights = head.temperature, None
    if balanced:
        temperature = head.epsilon
        weights = balancing_weights(
            embeddings, prototypes, head.epsilon, head.num_iters
        )
    rows = []
    for scores in _score_blocks(embeddings, prototypes):
        logits = scores / temperature
        if weights is not None:
            logits += weights
        confidence, prototype = logits.softmax(1).max(1)
        # Rounding may leave a cosine a little above 1.
        distance = (1 - scores.gather(1, prototype[:, None])[:, 0]).clamp_(0)
        rows.append((prototype.cpu(), confidence.cpu(), distance.cpu()))
    prototype, confidence, distance = map(torch.cat, zip(*rows))
    group = None
    if num_groups is not None:
        group = merge_prototypes(embeddings, prototype, num_groups)
    return Clusters(
        prototype, confidence, distance, files, len(prototypes), group
    )


def unit_prototypes(head: Any) -> Tensor:
    """Return the first set of prototypes with unit norm: (K, D)."""
    # An optimizer step leaves prototypes a little off unit length.
    return F.normalize(head.prototypes[0].weight.detach(), dim=1)


@torch.no_grad()
def balancing_weights(
    embeddings: Tensor, prototypes: Tensor, epsilon: float, num_iters: int
) -> Tensor:
    """Return what to add to scores / epsilon to get Sinkhorn's codes: (K,).

    `softmax(scores / epsilon + weights)` equals `swav_loss.sinkhorn(scores)`
    of the whole set. Scores are computed block by block, once for each sweep:
    those of a million images to 3000 prototypes would take 12 GB.

    Args:
        embeddings: (N, D) of unit norm.
        prototypes: (K, D) of unit norm.
        epsilon: Entropy weight, > 0.
        num_iters: Sweeps, >= 1.
    """
    weights = None
    for _ in range(num_iters):
        masses = []
        for scores in _score_blocks(embeddings, prototypes):
            logits = scores / epsilon
            if weights is not None:  # each sample sums to 1 from here on
                logits = (logits + weights).log_softmax(1) - weights
            masses.append(logits.logsumexp(0))
        weights = -torch.stack(masses).logsumexp(0)
    assert weights is not None
    return weights


def _score_blocks(embeddings: Tensor, prototypes: Tensor) -> Iterator[Tensor]:
    """Yield the scores of some (N, D) embeddings at a time: (rows, K)."""
    num_rows = max(1, _BLOCK_SCORES // len(prototypes))
    for block in embeddings.split(num_rows):
        yield block.to(prototypes) @ prototypes.T


@torch.no_grad()
def merge_prototypes(
    embeddings: Tensor, prototype: Tensor, num_groups: int
) -> Tensor:
    """Merge prototypes into groups whose images are alike.

    Starts from the images of each prototype and merges, again and again, the
    two groups whose union adds least to the squared distances of images from
    the mean embedding of their group. Distances between the prototypes
    themselves say less: training spreads them evenly, so on handwritten
    digits 10 groups of theirs reach an NMI of 0.54, these 0.67.

    Args:
        embeddings: (N, D).
        prototype: (N,) int64, the one that each image belongs to.
        num_groups: G, at least 1.

    Returns:
        (N,) int64 groups, 0 for the one with the most images.

    Raises:
        ValueError: Fewer than G prototypes have images.

    Source: Ward 1963.
    """
    used, member, counts = prototype.unique(
        return_inverse=True, return_counts=True
    )
    if not 1 <= num_groups <= len(used):
        raise ValueError(
            f'got {num_groups} groups, but only {len(used)} prototypes have '
            f'images; ask for 1 to {len(used)} groups.'
        )
    sums = torch.zeros(len(used), embeddings.shape[1], dtype=torch.float64)
    sums.index_add_(0, member, embeddings.double())
    merged = torch.from_numpy(
        _merge((sums / counts[:, None]).numpy(), counts.numpy(), num_groups)
    )[member]
    by_size = torch.bincount(merged).argsort(descending=True, stable=True)
    return by_size.argsort()[merged]


def _merge(means: np.ndarray, counts: np.ndarray, num: int) -> np.ndarray:
    """Merge clusters, given as means and counts, until `num` are left.

    Args:
        means: (G, D) float64.
        counts: (G,).
        num: 1 <= num <= G.

    Returns:
        (G,) which of 0 ... num - 1 each belongs to.
    """
    means, counts = means.copy(), counts.astype(float)
    groups = np.arange(len(means))
    costs = np.stack(
        [_merging_costs(means, counts, i) for i in range(len(means))]
    )
    partners = costs.argmin(1)
    for _ in range(len(means) - num):
        first = int(costs[np.arange(len(means)), partners].argmin())
        kept, gone = sorted((first, int(partners[first])))
        groups[groups == gone] = kept
        total = counts[kept] + counts[gone]
        means[kept] += (means[gone] - means[kept]) * (counts[gone] / total)
        counts[kept], counts[gone] = total, np.inf
        costs[kept] = costs[:, kept] = _merging_costs(means, counts, kept)
        costs[gone] = costs[:, gone] = np.inf
        # A merged cluster is no cheaper a partner than either of its parts
        # was, so all others keep theirs.
        stale = np.isin(partners, (kept, gone))
        stale[kept] = True
        partners[stale] = costs[stale].argmin(1)
    return np.unique(groups, return_inverse=True)[1]


def _merging_costs(
    means: np.ndarray, counts: np.ndarray, index: int
) -> np.ndarray:
    """Return what merging one cluster with each of the others costs: (G,)."""
    squares = ((means - means[index]) ** 2).sum(1)
    costs = squares / (1 / counts + 1 / counts[index])
    costs[~np.isfinite(counts)] = np.inf  # merged already
    costs[index] = np.inf
    return costs
