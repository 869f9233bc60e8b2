"""Draw embeddings in two dimensions. N images, D embedding size."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.page import read_template

from .curves import COLORS, elide, svg

LEAST = 10  # images, for neighbors to mean something
_SIDE = 720
_NAMES_HEIGHT = 76  # two lines that tell of a dot, on phones in large letters
_OTHERS = 'others'
_OTHERS_COLOR = '#9aa3af'


class Map(NamedTuple):
    """A map of images.

    Attributes:
        method: 'UMAP' or 't-SNE'.
        picture: An <svg> element. A dot that is pointed at or tapped tells
            its name below the map; `map.css.j2` does that.
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
        _dot(x, y, colors.get(kind, _OTHERS_COLOR), kind, name, height)
        for (x, y), kind, name in zip(placed, kinds, names)
    ]
    picture = svg(
        f'{method} of embeddings', _SIDE, height + _NAMES_HEIGHT, parts
    )
    return Map(method, picture, legend)


def _dot(
    x: float, y: float, color: str, kind: str, name: str, height: float
) -> str:
    """Draw an image as a dot, with its name in a line below the map.

    Without tabindex a tap would reach no dot on a phone; -1 because nobody
    wants to go through thousands of them by key.
    """
    lines = ''.join(
        f'<tspan x="10" y="{height + line:.1f}">{escape(elide(words, 56))}'
        '</tspan>'
        for line, words in ((30, kind), (62, name))
    )
    return (
        f'<g class="dot" tabindex="-1"><circle cx="{x:.1f}" cy="{y:.1f}" '
        f'r="4" fill="{color}" fill-opacity=".75"/>'
        f'<title>{escape(f"{kind}: {name}")}</title>'
        f'<text>{lines}</text></g>'
    )


def to_html(title: str, found: Map) -> str:
    """Write a map as one HTML file that needs no other."""
    page = read_template(Path(__file__).with_name('map_page.html.j2'))
    # File names need not be UTF-8.
    return (
        page.render(title=title, map=found).encode('utf-8', 'replace').decode()
    )


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
