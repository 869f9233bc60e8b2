"""`DatasetSplit`: one part of a dataset, and the checks of its files."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from ..transforms.loading import UnreadableImage, read_rgb
from ..transforms.pillow_files import open_image, stat_file

IGNORED = 255  # in masks: the pixel has no class


class DatasetSplit(NamedTuple):
    """One part of a dataset.

    Args:
        name: Such as 'train'.
        images: Their files.
        classes: Names, or labels if there are no names.
        used: Indices of the classes that occur; None if only masks tell.
        masks: Files with a class for each pixel, in the order of images.
        others: Annotations and lists, or files that images are packed in.
        packed: How many more images are inside of `others`.
        note: For the report.
        remarks: What is odd, but usable, a line each.
    """

    name: str
    images: Sequence[str]
    classes: Sequence[str]
    used: set[int] | None = None
    masks: Sequence[str] = ()
    others: Sequence[str] = ()
    packed: int = 0
    note: str = ''
    remarks: Sequence[str] = ()

    @property
    def num_images(self) -> int:
        """Number of images, packed ones included."""
        return len(self.images) + self.packed


def describe_split(split: DatasetSplit) -> str:
    """Return one line of counts."""
    line = f'{split.name}: {split.num_images:,} image'
    line += 's' * (split.num_images != 1)
    seen = split.classes if split.used is None else split.used
    line += ' with masks' * (split.used is None)
    line += f' of {len(seen):,} class{"es" * (len(seen) != 1)}'
    if split.used is not None:
        unused = len(split.classes) - len(split.used)
        if unused:
            line += f' ({unused:,} more have no images)'
    return line + split.note


_MOST_FAULTS = 100  # that are named


def check_files(paths: Sequence[str], may_be_bad: bool = False) -> list[int]:
    """Return sizes in bytes; refuse files that are missing or empty.

    Args:
        paths: The files.
        may_be_bad: Take them all the same; a missing one has size 0.
    """
    # In blocks: a task for each of a million files would cost half a minute.
    blocks = [paths[i : i + 1000] for i in range(0, len(paths), 1000)]
    # Most of the time is spent waiting for a disk, perhaps over a network.
    with ThreadPoolExecutor(16) as pool:
        found = [each for block in pool.map(_sizes, blocks) for each in block]
    if may_be_bad:
        return [each if isinstance(each, int) else 0 for each in found]
    found = [
        f'{path} is empty' if size == 0 else size
        for path, size in zip(paths, found)
    ]
    faults = [each for each in found if isinstance(each, str)]
    if faults:
        shown = '; '.join(faults[:_MOST_FAULTS])
        more = len(faults) - _MOST_FAULTS
        raise ValueError(
            shown
            + f'; and {more:,} more' * (more > 0)
            + f'; {len(faults):,} of {len(paths):,} files are missing or '
            'empty.'
        )
    return [each for each in found if isinstance(each, int)]


def _sizes(paths: Sequence[str]) -> list[int | str]:
    """Return the size of each file, or why there is none, in words."""
    found: list[int | str] = []
    for path in paths:
        try:
            found.append(stat_file(path).st_size)
        except OSError as error:
            found.append(f'{path}: {error.strerror}')
    return found


def check_counts(
    split: DatasetSplit, num_images: int, num_classes: int
) -> None:
    """Refuse a split unless it has the published numbers."""
    if split.num_images != num_images:
        raise ValueError(
            f'{split.name} has {split.num_images:,} images; expected '
            f'{num_images:,}. To check a part of a set, use any_size '
            '(--any-size).'
        )
    if len(split.classes) != num_classes:
        raise ValueError(
            f'{split.name} has {len(split.classes):,} classes; expected '
            f'{num_classes:,}.'
        )
    if split.used is not None:
        unused = sorted(set(range(num_classes)) - split.used)
        if unused:
            raise ValueError(
                f'{split.name} has no images of {len(unused):,} classes such '
                f'as {split.classes[unused[0]]}.'
            )


def check_pixels(split: DatasetSplit) -> None:
    """Read all images and masks; refuse the first that cannot be right."""

    def read(index: int) -> None:
        pixels = read_rgb(split.images[index])
        if split.masks:
            _check_mask(
                split.masks[index], pixels.shape[:2], len(split.classes)
            )

    indices = range(len(split.images))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # In blocks: after an error only the rest of its block is still read.
        for start in range(0, len(indices), 1000):
            list(pool.map(read, indices[start : start + 1000]))


def _check_mask(path: str, shape: tuple[int, ...], num_classes: int) -> None:
    """Refuse a mask whose size is not its image's, or of unknown classes."""
    try:
        with open_image(path) as img:
            mask = np.asarray(img)
    except (OSError, SyntaxError) as error:
        raise UnreadableImage(path, f'{error}') from error
    if mask.shape != shape:
        raise ValueError(
            f'{path} has shape {mask.shape}, but its image {shape}.'
        )
    wrong = set(np.unique(mask).tolist()) - {*range(num_classes), IGNORED}
    if wrong:
        raise ValueError(
            f'{path} has class {min(wrong)}; expected 0 to {num_classes - 1}, '
            f'or {IGNORED} for none.'
        )
