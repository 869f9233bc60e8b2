"""Check that a dataset is complete: in a minute, not in the middle of a run.

``tools/check_dataset.py`` is the command.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from swav_plugin.compat.moved import moved_names

from ..coco import read_coco
from ..transforms.loading import UnreadableImage
from .annotations import (
    read_cityscapes,
    read_coco_splits,
    read_voc07,
    read_voc0712,
    read_voc12aug,
)
from .labels import (
    read_cifar10,
    read_folder,
    read_imagenet,
    read_imagenet_subset,
    reader_of_lists,
)
from .split import (
    DatasetSplit,
    check_counts,
    check_files,
    check_pixels,
    describe_split,
)

__all__ = ['NAMES', 'DatasetReport', 'check', 'read_coco']

__getattr__ = moved_names(__name__)


class DatasetReport(NamedTuple):
    """The findings of a check.

    Args:
        lines: Counts of each split.
        problem: The first thing that is wrong; None if nothing is.
        digest: Hash of the names and sizes of all images and masks, and of
            the contents of annotations and lists; '' if there is a problem.
            A different digest means that the dataset was changed.
        remarks: What is missing but can be computed, or odd but usable.
    """

    lines: list[str]
    problem: str | None
    digest: str = ''
    remarks: tuple[str, ...] = ()


class KnownDataset(NamedTuple):
    """A dataset that can be checked.

    Args:
        read: Reads the splits under a root; the second argument says whether
            the dataset may have any size.
        num_images: Published size of each split; empty if any size will do.
        num_classes: Published number of classes.
    """

    read: Callable[[Path, bool], Iterator[DatasetSplit]]
    num_images: dict[str, int] = {}
    num_classes: int = 0


def check(
    name: str,
    root: str | os.PathLike,
    any_size: bool = False,
    decode: bool = False,
    skip_unreadable: bool = False,
) -> DatasetReport:
    """Check a dataset for what is missing or wrong.

    All files must exist and not be empty, labels must be those of known
    classes, and counts must be the published ones.

    Args:
        name: One of `NAMES`.
        root: Its folder, as in configs, such as data/imagenet.
        any_size: Only report counts, for a part of a published set.
        decode: Read all images and masks, which takes as long as an epoch.
        skip_unreadable: Accept empty image files, as the datasets' own
            `skip_unreadable` leaves them out.

    Raises:
        ValueError: There is no such name.
    """
    if name not in _SETS:
        raise ValueError(
            f'there is no dataset {name!r} to check; known are '
            f'{", ".join(NAMES)}.'
        )
    known = _SETS[name]
    root = str(Path(os.path.expanduser(root)))
    lines: list[str] = []
    remarks: list[str] = []
    digest = hashlib.sha256()
    try:
        if not os.path.isdir(root):
            raise FileNotFoundError(f'{root} is not a folder.')
        for split in known.read(Path(root), any_size):
            lines.append(describe_split(split))
            remarks += [f'{split.name}: {line}' for line in split.remarks]
            others = [*split.masks, *split.others]
            sizes = check_files(split.images, may_be_bad=skip_unreadable)
            sizes += check_files(others)
            for path, size in zip([*split.images, *others], sizes):
                line = f'{path.removeprefix(root)} {size}\n'
                digest.update(line.encode(errors='surrogateescape'))
            for path in split.others:
                digest.update(Path(path).read_bytes())
            if known.num_images and not any_size:
                check_counts(
                    split, known.num_images[split.name], known.num_classes
                )
            if decode:
                check_pixels(split)
    except (OSError, ValueError, UnreadableImage) as error:
        return DatasetReport(lines, str(error), remarks=tuple(remarks))
    return DatasetReport(lines, None, digest.hexdigest(), tuple(remarks))


_IMAGENET_VAL = dict(val=50_000)
_COCO = dict(train2017=118_287, val2017=5_000)
# Numbers are those that the makers of each set published. The subsets are of
# SimCLR (arXiv:2002.05709); VOC12Aug is made of VOC2012 and SBD.
_SETS = dict(
    imagenet=KnownDataset(
        read_imagenet, dict(train=1_281_167, **_IMAGENET_VAL), 1000
    ),
    imagenet_1percent=KnownDataset(
        partial(read_imagenet_subset, 1),
        dict(train_1percent=12_811, **_IMAGENET_VAL),
        1000,
    ),
    imagenet_10percent=KnownDataset(
        partial(read_imagenet_subset, 10),
        dict(train_10percent=128_116, **_IMAGENET_VAL),
        1000,
    ),
    places205=KnownDataset(
        reader_of_lists('places205', 205),
        dict(train=2_448_873, val=20_500),
        205,
    ),
    inaturalist2018=KnownDataset(
        reader_of_lists('inaturalist2018', 8142),
        dict(train=437_513, val=24_426),
        8142,
    ),
    cifar10=KnownDataset(read_cifar10, dict(train=50_000, test=10_000), 10),
    folder=KnownDataset(read_folder),
    voc07=KnownDataset(read_voc07, dict(trainval=5_011, test=4_952), 20),
    voc0712=KnownDataset(
        read_voc0712,
        {
            'VOC2007 trainval': 5_011,
            'VOC2007 test': 4_952,
            'VOC2012 trainval': 11_540,
        },
        20,
    ),
    coco=KnownDataset(partial(read_coco_splits, True), _COCO, 80),
    coco_boxes=KnownDataset(partial(read_coco_splits, False), _COCO, 80),
    voc12aug=KnownDataset(
        read_voc12aug, dict(train=1_464, aug=9_118, val=1_449), 21
    ),
    cityscapes=KnownDataset(read_cityscapes, dict(train=2_975, val=500), 19),
)
NAMES = tuple(_SETS)


def published_images(name: str) -> dict[str, int]:
    """Return how many images each split of a set has; {} if any number.

    >>> published_images('voc07')
    {'trainval': 5011, 'test': 4952}
    """
    return dict(_SETS[name].num_images)
