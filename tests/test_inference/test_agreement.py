"""Purity, NMI and ARI against scikit-learn."""

import numpy as np
import pytest

from swav_plugin.inference.agreement import agreement

metrics = pytest.importorskip('sklearn.metrics')


def purity(clusters: np.ndarray, classes: np.ndarray) -> float:
    """Count, cluster by cluster, the images of its most frequent class."""
    return sum(
        np.bincount(classes[clusters == each]).max()
        for each in np.unique(clusters)
    ) / len(classes)


@pytest.mark.parametrize('num_clusters', [1, 2, 7, 60])
@pytest.mark.parametrize('num_classes', [1, 3, 60])
@pytest.mark.parametrize('is_related', [False, True])
def test_equals_scikit_learn(
    num_clusters: int, num_classes: int, is_related: bool
) -> None:
    rng = np.random.default_rng(num_clusters * 100 + num_classes)
    classes = rng.integers(num_classes, size=60)
    clusters = rng.integers(num_clusters, size=60)
    if is_related:
        clusters[::2] = classes[::2] % num_clusters
    found = agreement(clusters * 10 + 3, classes)
    assert found.purity == purity(clusters, classes)
    expected = metrics.normalized_mutual_info_score(classes, clusters)
    assert found.nmi == pytest.approx(expected, abs=1e-12)
    expected = metrics.adjusted_rand_score(classes, clusters)
    assert found.ari == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ('clusters', 'classes'),
    [
        (np.arange(6), np.arange(6)),
        (np.zeros(6, int), np.zeros(6, int)),
        (np.arange(6), np.zeros(6, int)),
        (np.zeros(6, int), np.arange(6)),
        (np.zeros(1, int), np.zeros(1, int)),
    ],
)
def test_all_alone_and_all_together(
    clusters: np.ndarray, classes: np.ndarray
) -> None:
    found = agreement(clusters, classes)
    expected = metrics.normalized_mutual_info_score(classes, clusters)
    assert found.nmi == pytest.approx(expected, abs=1e-12)
    assert found.ari == metrics.adjusted_rand_score(classes, clusters)
