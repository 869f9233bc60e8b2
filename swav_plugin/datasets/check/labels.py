"""Read the splits of sets with one label for each image.

Each function takes the root of a set and says whether it may have any size.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from torchvision.datasets import CIFAR10

from swav_plugin.shipped import TOOLS

from ..image_folder import ImageFolder
from ..image_search import class_names
from ..list_file import normal
from .split import DatasetSplit

CONVERTERS = f'{TOOLS}/dataset_converters'


def read_imagenet(root: Path, any_size: bool) -> Iterator[DatasetSplit]:
    """Read train and val."""
    train = _class_folders('train', root / 'train')
    yield train
    yield _imagenet_val(root, train)


def read_imagenet_subset(
    percent: int, root: Path, any_size: bool
) -> Iterator[DatasetSplit]:
    """Read the list of 1 % or 10 % of the images, and val."""
    train = _class_folders('train', root / 'train')
    name = f'train_{percent}percent'
    list_file = root / f'meta/{name}.txt'
    split, labels = _listed(
        name,
        root / 'train',
        list_file,
        len(train.classes),
        f'write it with {CONVERTERS}/imagenet.py',
    )
    for path, label in zip(split.images, labels):
        folder = normal(Path(path).relative_to(root / 'train').parts[0])
        if folder != train.classes[label]:
            raise ValueError(
                f'{list_file} gives {path} label {label}, which is that of '
                f'{train.classes[label]}; labels are indices of the sorted '
                'class folders of train.'
            )
    yield split._replace(classes=train.classes)
    yield _imagenet_val(root, train)


def _imagenet_val(root: Path, train: DatasetSplit) -> DatasetSplit:
    """Read val, from class folders or a list."""
    folder = root / 'val'
    if folder.is_dir() and class_names(folder):
        val = _class_folders('val', folder)
        _check_same_classes(train, val)
        return val
    return _listed(
        'val',
        folder,
        root / 'meta/val.txt',
        len(train.classes),
        f'val has no class folders; write it with {CONVERTERS}/imagenet.py',
    )[0]


def reader_of_lists(
    name: str, num_classes: int
) -> Callable[[Path, bool], Iterator[DatasetSplit]]:
    """Return a reader of meta/train.txt and meta/val.txt.

    Their paths are relative to the root.
    """

    def read(root: Path, any_size: bool) -> Iterator[DatasetSplit]:
        for split in ('train', 'val'):
            yield _listed(
                split,
                root,
                root / f'meta/{split}.txt',
                num_classes,
                f'write it with {CONVERTERS}/{name}.py',
            )[0]

    return read


def read_cifar10(root: Path, any_size: bool) -> Iterator[DatasetSplit]:
    """Read the published batches and verify them, or class folders."""
    folder = root / CIFAR10.base_folder
    if not folder.is_dir():
        yield from _train_and('test', root)
        return
    for split, batches in (
        ('train', CIFAR10.train_list),
        ('test', CIFAR10.test_list),
    ):
        paths = [folder / name for name, _ in batches]
        for path, (_, md5) in zip(paths, batches):
            if hashlib.md5(path.read_bytes()).hexdigest() != md5:
                raise ValueError(
                    f'{path} is not the published file: its checksum '
                    'differs; download it again.'
                )
        # The published files hold 10,000 images each, of all classes.
        yield DatasetSplit(
            split,
            [],
            [f'label {i}' for i in range(10)],
            set(range(10)),
            others=[str(path) for path in paths],
            packed=10_000 * len(paths),
        )


def read_folder(root: Path, any_size: bool) -> Iterator[DatasetSplit]:
    """Read class folders: those of train and val, or else of root itself."""
    if (root / 'train').is_dir() and (root / 'val').is_dir():
        yield from _train_and('val', root)
    else:
        yield _class_folders('all', root)


def _train_and(other: str, root: Path) -> Iterator[DatasetSplit]:
    """Read the class folders of train and of another folder."""
    train = _class_folders('train', root / 'train')
    yield train
    test = _class_folders(other, root / other)
    _check_same_classes(train, test)
    yield test


def _class_folders(name: str, root: Path) -> DatasetSplit:
    """Read a folder that has one folder for each class."""
    dataset = ImageFolder(root, lazy_init=True)
    infos = dataset.load_data_list()
    if 'gt_label' not in infos[0]:
        loose = next(
            info['img_path']
            for info in infos
            if Path(info['img_path']).parent == root
        )
        raise ValueError(
            f'{loose} is outside class folders, so no image of {root} has a '
            'label; move it into one.'
        )
    classes = dataset.metainfo['classes']
    used = {info['gt_label'] for info in infos}
    if len(used) < len(classes):
        empty = min(set(range(len(classes))) - used)
        raise ValueError(f'{root / classes[empty]} has no images.')
    images = [info['img_path'] for info in infos]
    note = f', in {dataset.found[0].describe_rest()}'
    return DatasetSplit(name, images, classes, used, note=note)


def _listed(
    name: str, root: Path, list_file: Path, num_classes: int, hint: str
) -> tuple[DatasetSplit, list[int]]:
    """Read a list file; also return the label of each image."""
    if not list_file.is_file():
        raise FileNotFoundError(f'there is no {list_file}; {hint}.')
    # A list file is absolute or relative to the root of its images.
    dataset = ImageFolder(
        root, ann_file=os.path.abspath(list_file), lazy_init=True
    )
    infos = dataset.load_data_list()
    labels = [info.get('gt_label', -1) for info in infos]
    for info, label in zip(infos, labels):
        if not 0 <= label < num_classes:
            raise ValueError(
                f'{list_file} gives {info["img_path"]} '
                + ('no label' if label < 0 else f'label {label}')
                + f'; expected 0 to {num_classes - 1}.'
            )
    return DatasetSplit(
        name,
        [info['img_path'] for info in infos],
        [f'label {i}' for i in range(num_classes)],
        set(labels),
        others=[str(list_file)],
    ), labels


def _check_same_classes(train: DatasetSplit, val: DatasetSplit) -> None:
    """Refuse folders with different names, which would shift the labels."""
    others = sorted(set(train.classes) ^ set(val.classes))
    if others:
        raise ValueError(
            f'{train.name} and {val.name} have different class folders, so '
            f'their labels differ: only one of them has {others[0]}.'
        )
