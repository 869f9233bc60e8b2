"""Write the nearest images and near-duplicates: two tables and a page."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from swav_plugin.engine.wording import counted

from .cluster_output import NamedImages, write_rows
from .gallery import MAX_PICTURES, Gallery, Picture, Section, Strip

_PER_GROUP = 12  # pictures of a group of near-duplicates
_SHARE_OF_QUERIES = 0.7  # of the pictures of a page
_TOO_LARGE = 0.2  # share of the images, for a group of near-duplicates


class Duplicates(NamedTuple):
    """The near-duplicates among N images.

    Attributes:
        threshold: Their least cosine.
        groups: Images of each group.
        nearest: (N,) cosine of each image with the nearest other one.
    """

    threshold: float
    groups: list[list[int]]
    nearest: Tensor


class Found(NamedTuple):
    """The nearest images to Q queries, and the near-duplicates among all.

    Attributes:
        images: The N images that were searched.
        queries: The images that were looked for.
        cosines: (Q, k).
        indices: (Q, k) of the images.
        duplicates: None if they were not looked for.
    """

    images: NamedImages
    queries: NamedImages
    cosines: Tensor
    indices: Tensor
    duplicates: Duplicates | None


def write_tables(folder: Path, found: Found) -> None:
    """Write neighbours.csv and, if they were looked for, duplicates.csv."""
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
    if found.duplicates is None:
        return
    _, groups, nearest = found.duplicates
    write_rows(
        folder / 'duplicates.csv',
        ['group', 'file', 'similarity'],
        (
            (number, names[index], f'{nearest[index]:.6f}')
            for number, group in enumerate(groups)
            for index in group
        ),
    )


def describe_duplicates(duplicates: Duplicates) -> str:
    """Say how many near-duplicates there are, and whether that is likely."""
    threshold, groups, nearest = duplicates
    if not groups:
        return f'no two images have a similarity of {threshold:g} or more'
    told = (
        f'{sum(map(len, groups)):,} images in '
        f'{counted(len(groups), "group")}, similarity {threshold:g} or more'
    )
    largest, total = len(groups[0]), len(nearest)
    if largest > max(2, _TOO_LARGE * total):
        told += (
            f'; the largest group has {largest:,} of {total:,} images: '
            'probably this network needs a higher --duplicates'
        )
    return told


def lay_out(title: str, facts: dict[str, str], found: Found) -> Gallery:
    """Lay out the page: queries with their neighbors, then duplicates.

    Args:
        title: Title of the page.
        facts: What to tell besides numbers of images.
        found: What to show.
    """
    num = len(found.queries.files)
    per_query = 1 + found.indices.shape[1]
    most = max(1, int(_SHARE_OF_QUERIES * MAX_PICTURES) // per_query)
    chosen = np.linspace(0, num - 1, min(num, most)).round().astype(int)
    strips = [_query_strip(found, int(query)) for query in chosen]
    note = 'Each image, then those nearest to it, with the cosine.'
    if len(strips) < num:
        note += (
            f' {len(strips):,} of {num:,} are shown, evenly spaced; the table '
            'has all.'
        )
    facts = facts | {'Images': f'{len(found.images.files):,}'}
    sections = [Section('Neighbors', note, strips)]
    if found.duplicates is not None:
        facts['Near-duplicates'] = describe_duplicates(found.duplicates)
        left = MAX_PICTURES - per_query * len(strips)
        sections.append(
            _duplicate_section(
                found.images, found.duplicates, left // _PER_GROUP
            )
        )
    return Gallery(title, facts, sections)


def _duplicate_section(
    images: NamedImages, duplicates: Duplicates, num_groups: int
) -> Section:
    """Show the largest groups of near-duplicates."""
    _, groups, nearest = duplicates
    strips = [
        Strip(
            f'Group {number}',
            counted(len(group), 'image'),
            [
                _picture(images, index, float(nearest[index]))
                for index in group[:_PER_GROUP]
            ],
        )
        for number, group in enumerate(groups[:num_groups])
    ]
    note = 'Each image with the cosine of the nearest other one.'
    if not groups:
        note = 'None.'
    elif len(strips) < len(groups):
        note += (
            f' The {len(strips):,} largest of {len(groups):,} groups are '
            'shown; the table has all.'
        )
    return Section('Near-duplicates', note, strips)


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


def _picture(images: NamedImages, index: int, cosine: float) -> Picture:
    """Show an image with its similarity."""
    name = images.names[index]
    return Picture(images.files[index], name, f'{cosine:.3f}')
