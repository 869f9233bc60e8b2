"""A map of embeddings."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from swav_plugin.engine.errors import UsageError
from swav_plugin.report import embedding_map
from swav_plugin.report.curves import COLORS
from swav_plugin.report.embedding_map import draw_map, project


def test_groups_of_embeddings_are_apart() -> None:
    rng = np.random.default_rng(0)
    centers = np.repeat(np.eye(3), 10, axis=0)
    rows = torch.from_numpy(centers + rng.normal(0, 0.01, centers.shape))
    method, points = project(rows)
    assert method == 't-SNE' and points.shape == (30, 2)
    labels = np.repeat(np.arange(3), 10)
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).all()
    assert (project(rows)[1] == points).all()  # the same each time


def test_embeddings_that_are_all_the_same_are_drawn() -> None:
    _, points = project(torch.ones(12, 4))
    assert np.isfinite(points).all()


def test_umap_is_taken_if_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class UMAP:
        def __init__(self, n_neighbors: int, random_state: int) -> None:
            assert n_neighbors in (11, 14) and random_state == 0

        def fit_transform(self, rows: np.ndarray) -> np.ndarray:
            return rows[:, :2]

    module = ModuleType('umap')
    module.UMAP = UMAP  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, 'umap', module)
    monkeypatch.setattr(embedding_map, 'find_spec', lambda _: True)
    rows = torch.rand(12, 5, generator=torch.Generator().manual_seed(0))
    kinds = [f'kind {number:02}' for number in range(12)]
    found = draw_map(rows, kinds, ['<name>'] * 12)
    assert found.method == 'UMAP' and found.picture.count('<circle') == 12
    assert '&lt;name&gt;' in found.picture and '<name>' not in found.picture
    assert [color for color, _ in found.legend.values()] == [*COLORS]
    many = draw_map(
        rows.repeat(2, 1)[:15],
        [*kinds, 'kind 12', 'kind 12', 'kind 00'],
        ['a'] * 15,
    )
    assert len(many.legend) == len(COLORS)
    assert many.legend['others'] == ('#9aa3af', 2)
    assert many.legend['kind 12'][1] == 2


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match='9 images are too few'):
        project(torch.zeros(9, 2))
    monkeypatch.setattr(embedding_map, 'find_spec', lambda _: None)
    with pytest.raises(UsageError, match='pip install scikit-learn'):
        project(torch.zeros(10, 2))
