"""Find the datasets of the benchmarks, or smaller ones that stand in."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from swav_plugin.datasets.check import check
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import named_path


class DatasetFolder(NamedTuple):
    """A dataset that a benchmark reads.

    Args:
        name: As `--dataset NAME=PATH` takes it, and `datasets.check`.
        folder: Below `--root`; configs read it below data/.
    """

    name: str
    folder: str


class UnfitDataset(UsageError):
    """A set that stands in for a published one can't be used for this."""


class FoundDataset(NamedTuple):
    """A dataset as it was found.

    Args:
        dataset: Which one.
        root: Its folder.
        problem: Why it can't be used; None if it can.
        is_stand_in: It is complete, but not of the published size.
        digest: Hash of its files; another one means that the set changed.
    """

    dataset: DatasetFolder
    root: Path
    problem: str | None
    is_stand_in: bool = False
    digest: str = ''

    @property
    def title(self) -> str:
        """Name the folder in a report."""
        return os.path.basename(os.path.abspath(self.root)) or str(self.root)


def parse_paths(
    options: Sequence[str], known: Mapping[str, DatasetFolder]
) -> dict[str, Path]:
    """Read `--dataset NAME=PATH` options.

    Args:
        options: 'NAME=PATH' each.
        known: All datasets by name.

    Raises:
        UsageError: A name is unknown or a folder does not exist.
    """
    paths: dict[str, Path] = {}
    for option in options:
        name, _, path = option.partition('=')
        path = os.path.expanduser(path)
        if name not in known or not path:
            raise UsageError(
                f'--dataset takes NAME=PATH with one of the names '
                f'{", ".join(known)}, but got {option!r}'
            )
        folder = Path(named_path('--dataset', path))
        if not folder.is_dir():
            raise UsageError(
                f'--dataset {option}: there is no such folder, '
                f'{os.path.abspath(folder)}'
            )
        if paths.setdefault(name, folder) != folder:
            raise UsageError(
                f'--dataset names {name} twice, {paths[name]} and {folder}; '
                'give one of them'
            )
    return paths


def find_datasets(
    datasets: Iterable[DatasetFolder],
    root: Path,
    paths: Mapping[str, Path],
    skip_unreadable: bool = False,
) -> dict[str, FoundDataset]:
    """Check every dataset, each once; return them by name.

    Args:
        datasets: To look for.
        root: Folder of all datasets.
        paths: Folders of those that are elsewhere, by name.
        skip_unreadable: Empty image files do not matter: they are left out.
    """
    found = {}
    for dataset in dict.fromkeys(datasets):
        # imagenet_1percent is a list of images of imagenet, and is found
        # where that is.
        folder = paths.get(dataset.name) or paths.get(dataset.folder)
        found[dataset.name] = look_at(
            dataset, folder or root / dataset.folder, skip_unreadable
        )
    return found


def look_at(
    dataset: DatasetFolder, root: Path, skip_unreadable: bool = False
) -> FoundDataset:
    """Check that a dataset is there and complete, and note its size."""
    if not root.is_dir():
        return FoundDataset(
            dataset,
            root,
            f'there is no folder {root} (--dataset {dataset.name}=PATH if it '
            'is elsewhere)',
        )
    name = dataset.name
    if name == 'cifar10' and not (root / 'cifar-10-batches-py').is_dir():
        return FoundDataset(
            dataset, root, f'there is no {root}/cifar-10-batches-py'
        )
    report = check(name, root, skip_unreadable=skip_unreadable)
    if report.problem is None:
        return FoundDataset(dataset, root, None, digest=report.digest)
    if name == 'voc0712' and not all(voc0712_lists(root)):
        return FoundDataset(
            dataset,
            root,
            f'{root} has no ImageSets/Main/trainval.txt with '
            'VOC2007/ImageSets/Main/test.txt, nor train.txt with val.txt',
        )
    report = check(name, root, any_size=True, skip_unreadable=skip_unreadable)
    return FoundDataset(dataset, root, report.problem, True, report.digest)


def voc0712_lists(root: Path) -> tuple[list[str], list[str]]:
    """Find the lists to train on and to test on, relative to the root.

    As published, if VOC2007's test set is there; else train and val.
    """

    def present(name: str) -> list[str]:
        paths = [
            f'{year}/ImageSets/Main/{name}.txt'
            for year in ('VOC2007', 'VOC2012')
        ]
        return [path for path in paths if (root / path).is_file()]

    if (root / 'VOC2007/ImageSets/Main/test.txt').is_file():
        return present('trainval'), ['VOC2007/ImageSets/Main/test.txt']
    return present('train'), present('val')
