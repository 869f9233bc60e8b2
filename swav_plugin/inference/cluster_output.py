"""Write the clusters of a folder: a table, sorted images and a page."""

import csv
import os
import shutil
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from swav_plugin.engine.wording import counted

from .agreement import Agreement, agreement
from .clusters import Clusters
from .gallery import (
    MAX_PICTURES,
    Gallery,
    Picture,
    Section,
    Strip,
    pictures_per_strip,
    to_html,
)

_FEWEST, _MOST = 4, 12  # pictures of a prototype
_MAX_NAME_BYTES = 255  # of a file, on the usual file systems


# Folders that split a dataset, without the year or number after the name.
_SPLITS = frozenset(
    'dev eval evaluation holdout test testing train training trainval '
    'unlabeled unlabelled val valid validation'.split()
)
_COLLAPSED = 0.5  # share of the images on one prototype
_FEW = 10  # images, of which half may well be alike


class NamedImages(NamedTuple):
    """Images, what to call them, and their classes.

    Attributes:
        files: N paths.
        names: Those relative to the folder that was given; in other cases the
            paths.
        classes: N folders of the first level, or of the one below where the
            first is 'train' and 'val'; None if images are outside those, or
            there is only one.
    """

    files: list[str]
    names: list[str]
    classes: list[str] | None

    @property
    def labels(self) -> np.ndarray:
        """Return the classes as integers: (N,)."""
        return np.unique(self.classes or [], return_inverse=True)[1]


def name_images(files: list[str], source: str) -> NamedImages:
    """Name images by their paths below the folder they were searched in.

    Args:
        files: N paths, as `extract_features` returns them.
        source: What it was given.
    """
    root = os.path.expanduser(source)
    if not os.path.isdir(root):
        return NamedImages(files, files, None)
    names = [os.path.relpath(file, root) for file in files]
    return NamedImages(files, names, find_classes(names))


def find_classes(names: list[str]) -> list[str] | None:
    """Return the class folder of each image, if there are classes.

    >>> find_classes(['train/cat/1.png', 'train/dog/2.png', 'val/cat/3.png'])
    ['cat', 'dog', 'cat']
    """
    folders = [name.split(os.sep)[:-1] for name in names]
    while folders and all(folders):
        first = {each[0] for each in folders}
        if not {each.lower().rstrip('-_0123456789') for each in first} <= (
            _SPLITS
        ):
            break
        folders = [each[1:] for each in folders]
    if not all(folders) or len({each[0] for each in folders}) < 2:
        return None
    return [each[0] for each in folders]


def write_rows(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a CSV file in UTF-8; names that are not keep their bytes."""
    with open(
        path, 'x', encoding='utf-8', errors='surrogateescape', newline=''
    ) as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(header)
        writer.writerows(rows)


def write_clusters(
    path: Path, clusters: Clusters, images: NamedImages
) -> None:
    """Write prototype, group, confidence and distance of each image.

    The column of groups is empty if prototypes were not merged.
    """
    groups: Sequence[object] = [''] * len(images.files)
    if clusters.group is not None:
        groups = clusters.group.tolist()
    write_rows(
        path,
        ['file', 'prototype', 'group', 'confidence', 'distance'],
        zip(
            images.names,
            clusters.prototype.tolist(),
            groups,
            (f'{each:.6f}' for each in clusters.confidence.tolist()),
            (f'{each:.6f}' for each in clusters.distance.tolist()),
        ),
    )


def sort_images(folder: Path, clusters: Clusters, copy: bool) -> None:
    """Put a link to each image, or a copy, into a folder of its cluster.

    Folders are 'groups/G', or 'prototypes/K' if those were not merged. Links
    hold absolute paths, so the result may be moved. Files keep their names;
    of several with one name in a folder all but the first get a number. Names
    that differ only in case count as one, for file systems that think so.

    Args:
        folder: Where to make those folders.
        clusters: All images are from files.
        copy: Copy images, with their times.
    """
    kind, numbers = 'prototypes', clusters.prototype
    most = clusters.num_prototypes - 1
    if clusters.group is not None:
        kind, numbers = 'groups', clusters.group
        most = int(numbers.max())
    taken: defaultdict[int, set[str]] = defaultdict(set)
    for file, number in zip(clusters.files, numbers.tolist()):
        target = folder / kind / f'{number:0{len(str(most))}}'
        target.mkdir(parents=True, exist_ok=True)
        path = target / _free_name(os.path.basename(file), taken[number])
        if copy:
            shutil.copy2(file, path)
        else:
            path.symlink_to(os.path.abspath(file))


def _free_name(name: str, taken: set[str]) -> str:
    """Return a name that is not taken yet, and take it.

    >>> taken = set()
    >>> [_free_name(name, taken) for name in ('a.jpg', 'A.JPG', 'a.jpg')]
    ['a.jpg', 'A-2.JPG', 'a-3.jpg']
    """
    stem, suffix = os.path.splitext(name)
    number = 1
    while _as_compared(name) in taken:
        number += 1
        end = f'-{number}{suffix}'
        while len(os.fsencode(stem + end)) > _MAX_NAME_BYTES:
            stem = stem[:-1]
        name = stem + end
    taken.add(_as_compared(name))
    return name


def _as_compared(name: str) -> str:
    """Return a name as file systems compare it that ignore case."""
    return unicodedata.normalize('NFC', name).casefold()


def measure_agreement(
    clusters: Clusters, images: NamedImages
) -> dict[str, Agreement]:
    """Compare prototypes, and groups, with class folders; {} without any."""
    if images.classes is None:
        return {}
    kinds = dict(prototypes=clusters.prototype, groups=clusters.group)
    return {
        kind: agreement(numbers.numpy(), images.labels)
        for kind, numbers in kinds.items()
        if numbers is not None
    }


def describe(found: Agreement) -> str:
    """Put purity, NMI and ARI into words."""
    return (
        f'purity {found.purity:.1%}, NMI {found.nmi:.3f}, ARI {found.ari:.3f}'
    )


def describe_spread(clusters: Clusters) -> str:
    """Say how many prototypes have images, and whether one has too many."""
    counts = clusters.counts
    num, used = len(counts), int((counts > 0).sum())
    verb = 'has' if used == num == 1 else 'have'
    told = f'{used:,} of {counted(num, "prototype")} {verb} images'
    warning = describe_collapse(clusters)
    return f'{told}; {warning}' if warning else told


def describe_collapse(clusters: Clusters) -> str:
    """Say whether too many images are on one prototype; '' if not."""
    counts = clusters.counts
    num, total = len(counts), int(counts.sum())
    share = float(counts.max()) / total
    if total <= _FEW or share <= max(_COLLAPSED, 2 / num):
        return ''
    return (
        f'{share:.0%} of the images are on one prototype: they are all alike, '
        'or this network has not learned to tell them apart or has collapsed '
        '(balanced assignment spreads them all the same)'
    )


def lay_out(
    title: str,
    facts: dict[str, str],
    clusters: Clusters,
    images: NamedImages,
    max_pictures: int | None = None,
    fewest: int = _FEWEST,
) -> Gallery:
    """Lay out the page: a strip for each prototype, the largest first.

    Args:
        title: Title of the page.
        facts: What to tell besides numbers of images and prototypes.
        clusters: What to show.
        images: The same images.
        max_pictures: Pictures on the page; by default `MAX_PICTURES`.
        fewest: Pictures of a prototype that has so many images.
    """
    counts = clusters.counts
    by_size = counts.argsort(descending=True, stable=True).tolist()
    used = [prototype for prototype in by_size if counts[prototype]]
    total = MAX_PICTURES if max_pictures is None else max_pictures
    per_strip = pictures_per_strip(len(used), fewest, _MOST, total)
    shown = used[: total // per_strip]
    members = _members(clusters)
    strips = {
        prototype: _strip(
            f'Prototype {prototype}',
            members[prototype],
            per_strip,
            clusters,
            images,
        )
        for prototype in shown
    }
    facts = facts | {
        'Images': f'{len(images.files):,}',
        'Prototypes': describe_spread(clusters),
    }
    for kind, found in measure_agreement(clusters, images).items():
        facts[f'Class folders and {kind}'] = describe(found)
    hint = 'The images nearest to each prototype, with 1 - cosine.'
    if len(shown) < len(used):
        hint += (
            f' The {len(shown):,} largest of {len(used):,} prototypes are '
            'shown; the table has all.'
        )
    if clusters.group is None:
        sections = [Section('Prototypes', hint, [*strips.values()])]
    else:
        facts['Pictures'] = hint
        sections = _group_sections(clusters, images, members, strips)
    empty = sorted({*by_size} - {*used})
    if empty:
        numbers = ', '.join(map(str, empty))
        verb = 'has' if len(empty) == 1 else 'have'
        note = (
            f'{counted(len(empty), "prototype")} {verb} no images: {numbers}.'
        )
        sections.append(Section('Empty prototypes', note, []))
    return Gallery(title, facts, sections)


def write_page(path: Path, gallery: Gallery) -> None:
    """Write a gallery as HTML."""
    with open(path, 'x', encoding='utf-8') as file:
        file.write(to_html(gallery))


def _members(clusters: Clusters) -> dict[int, list[int]]:
    """Return the images of each prototype, from near to far."""
    members: defaultdict[int, list[int]] = defaultdict(list)
    nearest_first = clusters.distance.argsort(stable=True)
    prototypes = clusters.prototype[nearest_first].tolist()
    for index, prototype in zip(nearest_first.tolist(), prototypes):
        members[prototype].append(index)
    return members


def _group_sections(
    clusters: Clusters,
    images: NamedImages,
    members: dict[int, list[int]],
    strips: dict[int, Strip],
) -> list[Section]:
    """Make a section for each group, with the strips of its prototypes."""
    assert clusters.group is not None
    prototypes: defaultdict[int, list[int]] = defaultdict(list)
    for prototype, indices in members.items():
        prototypes[int(clusters.group[indices[0]])].append(prototype)
    sections = []
    for group, numbers in sorted(prototypes.items()):
        indices = [i for number in numbers for i in members[number]]
        source = counted(len(numbers), 'prototype')
        note = f'{_about(indices, images)}, from {source}'
        own = [strip for key, strip in strips.items() if key in numbers]
        sections.append(Section(f'Group {group}', note, own))
    return sections


def _strip(
    title: str,
    indices: list[int],
    num_pictures: int,
    clusters: Clusters,
    images: NamedImages,
) -> Strip:
    """Show the first images of a prototype."""
    pictures = [
        Picture(
            images.files[i],
            images.names[i],
            f'{clusters.distance[i]:.2f}',
            images.classes[i] if images.classes else '',
        )
        for i in indices[:num_pictures]
    ]
    return Strip(title, _about(indices, images), pictures)


def _about(indices: list[int], images: NamedImages) -> str:
    """Say how many images these are, and of which class most of them are."""
    about = counted(len(indices), 'image')
    if images.classes is None:
        return about
    most, count = Counter(images.classes[i] for i in indices).most_common(1)[0]
    return f'{about}, {count / len(indices):.0%} in class {most}'
