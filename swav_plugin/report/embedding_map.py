"""Draw embeddings in two dimensions. N images, D embedding size."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from torch import Tensor

from swav_plugin.engine.errors import UsageError

from .curves import COLORS, svg

LEAST = 10  # images, for neighbors to mean something
_SIDE = 720
_OTHERS = 'others'
_OTHERS_COLOR = '#9aa3af'


class Map(NamedTuple):
    """A map of images.

    Attributes:
        method: 'UMAP' or 't-SNE'.
        picture: An <svg> element.
        legend: Color and number of images of each kind, by name.
    """

    method: str
    picture: str
    legend: dict[str, tuple[str, int]]


def draw_map(
    embeddings: Tensor, kinds: Sequence[str], names: Sequence[str]
) -> Map:
    """Draw a map on which images with like embeddings are close.

    Args:
        embeddings: (N, D).
        kinds: What colors N points; the most frequent have colors.
        names: What a point tells, besides its kind.

    Raises:
        UsageError: There are too few images, or no package for it.
    """
    method, points = project(embeddings)
    counts = Counter(kinds).most_common()
    shown = [kind for kind, _ in counts[: len(COLORS)]]
    if len(counts) > len(shown):
        shown.pop()  # one color less: the others are gray
    colors = dict(zip(sorted(shown), COLORS))
    legend = {kind: (colors[kind], dict(counts)[kind]) for kind in colors}
    rest = len(kinds) - sum(count for _, count in legend.values())
    if rest:
        legend[_OTHERS] = (_OTHERS_COLOR, rest)
    low, high = points.min(0), points.max(0)
    scale = (_SIDE - 20) / max(float((high - low).max()), 1e-12)
    placed = (points - low) * scale + 10
    height = float(placed[:, 1].max()) + 10
    parts = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" '
        f'fill="{colors.get(kind, _OTHERS_COLOR)}" fill-opacity=".75">'
        f'<title>{escape(f"{kind}: {name}")}</title></circle>'
        for (x, y), kind, name in zip(placed, kinds, names)
    ]
    picture = svg(f'{method} of embeddings', _SIDE, height, parts)
    return Map(method, picture, legend)


def project(embeddings: Tensor) -> tuple[str, np.ndarray]:
    """Project embeddings to a plane: (N, D) -> (N, 2).

    By UMAP if it is installed, else by scikit-learn's t-SNE; each time the
    same on one machine.

    Raises:
        UsageError: There are too few, or neither is installed.
    """
    num = len(embeddings)
    if num < LEAST:
        raise UsageError(f'{num} images are too few; it takes {LEAST}')
    rows = embeddings.float().numpy()
    if find_spec('umap'):
        import umap

        neighbors = min(15, num - 1)
        mapper = umap.UMAP(n_neighbors=neighbors, random_state=0)
        return 'UMAP', np.asarray(mapper.fit_transform(rows))
    if not find_spec('sklearn'):
        raise UsageError(
            'it needs scikit-learn or umap-learn: pip install scikit-learn'
        )
    from sklearn.manifold import TSNE

    mapper = TSNE(
        perplexity=min(30.0, (num - 1) / 3),
        # Of embeddings that are all the same there are no components.
        init='pca' if rows.std(0).max() > 1e-6 else 'random',
        random_state=0,
    )
    return 't-SNE', mapper.fit_transform(rows)
