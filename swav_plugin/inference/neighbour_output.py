"""Write the nearest images and near-duplicates: two tables and a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from .cluster_output import NamedImages, write_rows
from .gallery import MAX_PICTURES, Gallery, Picture, Section, Strip

_PER_GROUP = 12  # pictures of a group of near-duplicates
_SHARE_OF_QUERIES = 0.7  # of the pictures of a page
_TOO_LARGE = 0.2  # share of the images, for a group of near-duplicates


class Found(NamedTuple):
    """The nearest images to Q queries, and the near-duplicates among all.

    Attributes:
        images: The N images that were searched.
        queries: The images that were looked for.
        cosines: (Q, k).
        indices: (Q, k) of the images.
        groups: Images of each group of near-duplicates.
        nearest: (N,) cosine of each image with the nearest other one.
    """

    images: NamedImages
    queries: NamedImages
    cosines: Tensor
    indices: Tensor
    groups: list[list[int]]
    nearest: Tensor


def write_tables(folder: Path, found: Found) -> None:
    """Write neighbors.csv and duplicates.csv."""
    names = found.images.names
    write_rows(
        folder / 'neighbours.csv',
        ['query', 'rank', 'file', 'similarity'],
        (
            (query, rank, names[index], f'{cosine:.6f}')
            for query, cosines, indices in zip(
                found.queries.names, found.cosines, found.indices
            )
            for rank, (cosine, index) in enumerate(
                zip(cosines.tolist(), indices.tolist()), start=1
            )
        ),
    )
    write_rows(
        folder / 'duplicates.csv',
        ['group', 'file', 'similarity'],
        (
            (number, names[index], f'{found.nearest[index]:.6f}')
            for number, group in enumerate(found.groups)
            for index in group
        ),
    )


def describe_duplicates(found: Found, threshold: float) -> str:
    """Say how many near-duplicates there are, and whether that is likely."""
    if not found.groups:
        return f'no two images have a similarity of {threshold:g} or more'
    num = sum(map(len, found.groups))
    told = (
        f'{num:,} images in {len(found.groups):,} groups, similarity '
        f'{threshold:g} or more'
    )
    largest = len(found.groups[0])
    total = len(found.images.files)
    if largest > max(2, _TOO_LARGE * total):
        told += (
            f'; the largest has {largest:,} of {total:,} images, so that is '
            'probably too low a limit for this network: raise --duplicates'
        )
    return told


def lay_out(
    title: str, facts: dict[str, str], found: Found, threshold: float
) -> Gallery:
    """Lay out the page: queries with their neighbors, then duplicates.

    Args:
        title: Of the page.
        facts: What to tell besides numbers of images.
        found: What to show.
        threshold: Least similarity of near-duplicates.
    """
    num = len(found.queries.files)
    per_query = 1 + found.indices.shape[1]
    most = max(1, int(_SHARE_OF_QUERIES * MAX_PICTURES) // per_query)
    chosen = np.linspace(0, num - 1, min(num, most)).round().astype(int)
    strips = [_query_strip(found, int(query)) for query in chosen]
    note = 'Each image, then those nearest to it, with the cosine.'
    if len(strips) < num:
        note += (
            f' {len(strips):,} of {num:,}, evenly spaced; the table has all.'
        )
    left = MAX_PICTURES - per_query * len(strips)
    groups = found.groups[: left // _PER_GROUP]
    about = describe_duplicates(found, threshold)
    facts = facts | {
        'Images': f'{len(found.images.files):,}',
        'Near-duplicates': about,
    }
    if len(groups) < len(found.groups):
        about += f'; the {len(groups):,} largest groups are shown'
    return Gallery(
        title,
        facts,
        [
            Section('Neighbors', note, strips),
            Section(
                'Near-duplicates',
                f'{about[0].upper()}{about[1:]}.',
                [
                    _group_strip(found, number, group)
                    for number, group in enumerate(groups)
                ],
            ),
        ],
    )


def _query_strip(found: Found, query: int) -> Strip:
    """Show a query and its neighbors."""
    own = Picture(
        found.queries.files[query], found.queries.names[query], 'query'
    )
    pictures = [own] + [
        _picture(found.images, index, cosine)
        for index, cosine in zip(
            found.indices[query].tolist(), found.cosines[query].tolist()
        )
    ]
    return Strip(own.name, '', pictures)


def _group_strip(found: Found, number: int, group: Sequence[int]) -> Strip:
    """Show the first images of a group of near-duplicates."""
    pictures = [
        _picture(found.images, index, float(found.nearest[index]))
        for index in group[:_PER_GROUP]
    ]
    return Strip(f'Group {number}', f'{len(group):,} images', pictures)


def _picture(images: NamedImages, index: int, cosine: float) -> Picture:
    """Show an image with its similarity."""
    name = images.names[index]
    return Picture(images.files[index], name, f'{cosine:.3f} · {name}')
