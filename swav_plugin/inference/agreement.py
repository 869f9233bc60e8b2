"""Agreement of clusters with classes: purity, NMI and ARI.

Letters for shapes: N images, G clusters, Y classes.
"""

from typing import NamedTuple

import numpy as np


class Agreement(NamedTuple):
    """Agreement of the clusters of N images with their classes.

    Attributes:
        purity: Share of images in the most frequent class of their cluster.
            Grows with the number of clusters: it is 1 if each image has its
            own.
        nmi: Normalized mutual information: that of clusters and classes, over
            the mean of their entropies. 1 if they are the same, 0 if clusters
            say nothing about classes. Also grows with the number of clusters.
        ari: Adjusted Rand index: the share of pairs of images on which both
            agree, scaled to be 0 for random clusters and 1 for the classes.
    """

    purity: float
    nmi: float
    ari: float


def agreement(clusters: np.ndarray, classes: np.ndarray) -> Agreement:
    """Compare clusters with classes.

    Args:
        clusters: (N,) integers, N >= 1.
        classes: (N,) integers.

    Source: Strehl and Ghosh 2002 (NMI, with the arithmetic mean, as
    scikit-learn); Hubert and Arabie 1985 (ARI).

    >>> agreement(np.array([0, 0, 1, 1]), np.array([5, 5, 3, 3]))
    Agreement(purity=1.0, nmi=1.0, ari=1.0)
    """
    table = _count_pairs(clusters, classes)  # (G, Y)
    by_cluster, by_class = table.sum(1), table.sum(0)
    num = table.sum()
    purity = table.max(1).sum() / num

    # I = H(clusters) + H(classes) - H(both)
    entropies = _entropy(by_cluster), _entropy(by_class)
    shared = max(0.0, sum(entropies) - _entropy(table))
    # Without entropy all images are in one cluster and in one class.
    nmi = 2 * shared / sum(entropies) if sum(entropies) else 1.0

    together = _num_pairs(table)
    in_cluster, in_class = _num_pairs(by_cluster), _num_pairs(by_class)
    by_chance = in_cluster * in_class / max(1.0, _num_pairs(num))
    most = (in_cluster + in_class) / 2
    is_trivial = most == by_chance  # all images alone, or all together
    ari = 1.0 if is_trivial else (together - by_chance) / (most - by_chance)
    return Agreement(float(purity), float(nmi), float(ari))


def _count_pairs(clusters: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Count the images of each cluster in each class: (G, Y) float64."""
    names, rows = np.unique(clusters, return_inverse=True)
    labels, columns = np.unique(classes, return_inverse=True)
    table = np.zeros((len(names), len(labels)))
    np.add.at(table, (rows, columns), 1)
    return table


def _entropy(counts: np.ndarray) -> float:
    """Return the entropy of a distribution, given as counts, in nats."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum() + 0.0)


def _num_pairs(counts: np.ndarray) -> float:
    """Count the pairs of images that share a cell."""
    return float((counts * (counts - 1) / 2).sum())
