"""Is a dataset complete? Found out in a minute, not in the middle of a run.

``tools/check_dataset.py`` is the command.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from torchvision.datasets import CIFAR10

from .image_folder import ImageFolder
from .transforms.loading import UnreadableImage, read_rgb
from .voc07 import CLASSES as VOC_CLASSES
from .voc07 import VOC07

IGNORED = 255  # in masks
_CONVERTERS = 'tools/dataset_converters'


class Report(NamedTuple):
    """What was found.

    Args:
        lines: Counts of each split.
        problem: The first thing that is wrong; None if nothing is.
        digest: Hash of the names and sizes of all images and masks, and of
            what annotations and lists say; '' if there is a problem. Another
            one: the set was changed.
    """

    lines: list[str]
    problem: str | None
    digest: str = ''


class Split(NamedTuple):
    """One part of a dataset.

    Args:
        name: Such as 'train'.
        images: Their files.
        classes: Names, or labels where there are no names.
        used: Places of the classes that occur; None where only masks tell.
        masks: Files with a class for each pixel, in the order of images.
        others: Annotations and lists, or what has images packed in it.
        packed: How many more images lie inside `others`.
        note: For the report.
    """

    name: str
    images: Sequence[str]
    classes: Sequence[str]
    used: set[int] | None = None
    masks: Sequence[str] = ()
    others: Sequence[str] = ()
    packed: int = 0
    note: str = ''

    @property
    def num_images(self) -> int:
        """How many images there are."""
        return len(self.images) + self.packed


class Known(NamedTuple):
    """A dataset that can be checked.

    Args:
        read: Reads the splits under a root; the second argument says whether
            the set may be of any size.
        num_images: Of each split as published; empty for sets of any size.
        num_classes: As published.
    """

    read: Callable[[Path, bool], Iterator[Split]]
    num_images: dict[str, int] = {}
    num_classes: int = 0


def check(
    name: str,
    root: str | os.PathLike,
    any_size: bool = False,
    decode: bool = False,
) -> Report:
    """Look for what is missing or wrong in a dataset.

    All files are looked for, must not be empty, and labels must be those of
    known classes. Counts must be the published ones.

    Args:
        name: One of `NAMES`.
        root: Its folder, as configs name it, such as data/imagenet.
        any_size: Only report counts, for a part of a published set.
        decode: Read all images and masks, which takes as long as an epoch.

    Raises:
        ValueError: There is no such name.
    """
    if name not in _SETS:
        raise ValueError(
            f'there is no dataset {name!r} to check; known are '
            f'{", ".join(NAMES)}.'
        )
    known = _SETS[name]
    root = str(Path(root))
    lines: list[str] = []
    digest = hashlib.sha256()
    try:
        if not os.path.isdir(root):
            raise FileNotFoundError(f'{root} is not a folder.')
        for split in known.read(Path(root), any_size):
            lines.append(_describe(split))
            files = [*split.images, *split.masks, *split.others]
            for path, size in zip(files, _check_files(files)):
                digest.update(f'{path.removeprefix(root)} {size}\n'.encode())
            for path in split.others:
                digest.update(Path(path).read_bytes())
            if known.num_images and not any_size:
                _check_counts(split, known)
            if decode:
                _decode(split)
    except (OSError, ValueError, UnreadableImage) as error:
        return Report(lines, str(error))
    return Report(lines, None, digest.hexdigest())


def _describe(split: Split) -> str:
    """One line of counts."""
    line = f'{split.name}: {split.num_images:,} images'
    if split.used is None:
        line += f' with masks of {len(split.classes):,} classes'
    else:
        line += f' of {len(split.used):,} classes'
        unused = len(split.classes) - len(split.used)
        if unused:
            line += f' ({unused:,} more have no images)'
    return line + split.note


def _check_files(paths: Sequence[str]) -> list[int]:
    """Sizes in bytes; refuse files that are missing or empty, by the first."""
    # In blocks: a task for each of a million files would cost half a minute.
    blocks = [paths[i : i + 1000] for i in range(0, len(paths), 1000)]
    # Most of the time is spent waiting for a disk, perhaps over a network.
    with ThreadPoolExecutor(16) as pool:
        found = [each for block in pool.map(_sizes, blocks) for each in block]
    faults = [each for each in found if isinstance(each, str)]
    if faults:
        raise ValueError(
            f'{faults[0]}; {len(faults):,} of {len(paths):,} files are '
            'missing or empty.'
        )
    return [each for each in found if isinstance(each, int)]


def _sizes(paths: Sequence[str]) -> list[int | str]:
    """Sizes of files, or what is wrong with one, in words."""
    found: list[int | str] = []
    for path in paths:
        try:
            found.append(os.stat(path).st_size or f'{path} is empty')
        except OSError as error:
            found.append(f'{path}: {error.strerror}')
    return found


def _check_counts(split: Split, known: Known) -> None:
    """Refuse other numbers than the published ones."""
    expected = known.num_images[split.name]
    if split.num_images != expected:
        raise ValueError(
            f'{split.name} has {split.num_images:,} images; expected '
            f'{expected:,}. A part of a set is checked with any_size '
            '(--any-size).'
        )
    if len(split.classes) != known.num_classes:
        raise ValueError(
            f'{split.name} has {len(split.classes):,} classes; expected '
            f'{known.num_classes:,}.'
        )
    if split.used is not None:
        unused = sorted(set(range(known.num_classes)) - split.used)
        if unused:
            raise ValueError(
                f'{split.name} has no images of {len(unused):,} classes such '
                f'as {split.classes[unused[0]]}.'
            )


def _decode(split: Split) -> None:
    """Read all images and masks; refuse the first that can not be right."""

    def read(number: int) -> None:
        pixels = read_rgb(split.images[number])
        if split.masks:
            _check_mask(
                split.masks[number], pixels.shape[:2], len(split.classes)
            )

    numbers = range(len(split.images))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # In blocks: after an error only the rest of one is still read.
        for start in range(0, len(numbers), 1000):
            list(pool.map(read, numbers[start : start + 1000]))


def _check_mask(path: str, shape: tuple[int, ...], num_classes: int) -> None:
    """Refuse a mask of another size than its image, or with other classes."""
    try:
        with Image.open(path) as img:
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


# Sets with one label for each image


def _class_folders(name: str, root: Path) -> Split:
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
            f'{loose} lies outside class folders, so no image of {root} has '
            'a label; move it into one.'
        )
    classes = dataset.metainfo['classes']
    used = {info['gt_label'] for info in infos}
    if len(used) < len(classes):
        empty = min(set(range(len(classes))) - used)
        raise ValueError(f'{root / classes[empty]} has no images.')
    return Split(name, [info['img_path'] for info in infos], classes, used)


def _listed(
    name: str, root: Path, list_file: Path, num_classes: int, hint: str
) -> tuple[Split, list[int]]:
    """Read a list file; also give the label of each image."""
    if not list_file.is_file():
        raise FileNotFoundError(f'there is no {list_file}; {hint}.')
    # A list file is absolute or relative to the root of its images.
    dataset = ImageFolder(
        root, ann_file=os.path.abspath(list_file), lazy_init=True
    )
    infos = dataset.load_data_list()
    labels = [info.get('gt_label', -1) for info in infos]
    for place, label in enumerate(labels):
        if not 0 <= label < num_classes:
            raise ValueError(
                f'{list_file} gives {infos[place]["img_path"]} '
                + ('no label' if label < 0 else f'label {label}')
                + f'; expected 0 to {num_classes - 1}.'
            )
    return Split(
        name,
        [info['img_path'] for info in infos],
        [f'label {i}' for i in range(num_classes)],
        set(labels),
        others=[str(list_file)],
    ), labels


def _same_classes(train: Split, val: Split) -> None:
    """Refuse folders of other names, which would shift the labels."""
    others = sorted(set(train.classes) ^ set(val.classes))
    if others:
        raise ValueError(
            f'{train.name} and {val.name} have different class folders, so '
            f'that labels differ: only one of them has {others[0]}.'
        )


def _imagenet_val(root: Path, train: Split) -> Split:
    """Read val, in class folders or listed."""
    folder = root / 'val'
    if folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir()):
        val = _class_folders('val', folder)
        _same_classes(train, val)
        return val
    return _listed(
        'val',
        folder,
        root / 'meta/val.txt',
        len(train.classes),
        f'val has no class folders; write it by {_CONVERTERS}/imagenet.py',
    )[0]


def _imagenet(root: Path, any_size: bool) -> Iterator[Split]:
    """Read train and val."""
    train = _class_folders('train', root / 'train')
    yield train
    yield _imagenet_val(root, train)


def _imagenet_subset(
    percent: int, root: Path, any_size: bool
) -> Iterator[Split]:
    """Read the list of 1 % or 10 % and val."""
    train = _class_folders('train', root / 'train')
    name = f'train_{percent}percent'
    list_file = root / f'meta/{name}.txt'
    split, labels = _listed(
        name,
        root / 'train',
        list_file,
        len(train.classes),
        f'write it by {_CONVERTERS}/imagenet.py',
    )
    for path, label in zip(split.images, labels):
        folder = Path(path).relative_to(root / 'train').parts[0]
        if folder != train.classes[label]:
            raise ValueError(
                f'{list_file} gives {path} label {label}, which is that of '
                f'{train.classes[label]}; labels are places in the sorted '
                'class folders of train.'
            )
    yield split._replace(classes=train.classes)
    yield _imagenet_val(root, train)


def _lists(name: str, num_train: int, num_val: int, num_classes: int) -> Known:
    """A set with meta/train.txt and meta/val.txt, paths relative to root."""

    def read(root: Path, _: bool) -> Iterator[Split]:
        for split in ('train', 'val'):
            yield _listed(
                split,
                root,
                root / f'meta/{split}.txt',
                num_classes,
                f'write it by {_CONVERTERS}/{name}.py',
            )[0]

    return Known(read, dict(train=num_train, val=num_val), num_classes)


def _train_and(other: str, root: Path) -> Iterator[Split]:
    """Read the class folders of two folders."""
    train = _class_folders('train', root / 'train')
    yield train
    test = _class_folders(other, root / other)
    _same_classes(train, test)
    yield test


def _cifar10(root: Path, any_size: bool) -> Iterator[Split]:
    """Read the batches by their checksums, or class folders."""
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
        yield Split(
            split,
            [],
            [f'label {i}' for i in range(10)],
            set(range(10)),
            others=[str(path) for path in paths],
            packed=10_000 * len(paths),
        )


def _folder(root: Path, any_size: bool) -> Iterator[Split]:
    """Read class folders, of root or of its train and val."""
    if (root / 'train').is_dir() and (root / 'val').is_dir():
        yield from _train_and('val', root)
    else:
        yield _class_folders('all', root)


# Sets with several labels, boxes or masks


def _voc07(root: Path, any_size: bool) -> Iterator[Split]:
    """Read the lists of classes of trainval and test.

    Of any size: train and val where there is no test, as in VOC2012.
    """
    splits = ['trainval', 'test']
    has_test = (root / f'ImageSets/Main/{VOC_CLASSES[0]}_test.txt').is_file()
    if any_size and not has_test:
        splits = ['train', 'val']
    for name in splits:
        dataset = VOC07(str(root), name)
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        marks = np.stack([info['gt_label'] for info in infos])
        yield Split(
            name,
            [info['img_path'] for info in infos],
            VOC_CLASSES,
            set(np.flatnonzero((marks == 1).any(0)).tolist()),
            others=[
                str(root / f'ImageSets/Main/{each}_{name}.txt')
                for each in VOC_CLASSES
            ],
        )


def _image_names(
    list_file: Path, hint: str = 'get the set again'
) -> list[str]:
    """Read a list of VOC: names without folder and extension."""
    if not list_file.is_file():
        raise FileNotFoundError(f'there is no {list_file}; {hint}.')
    names = list_file.read_text().split()
    if not names:
        raise ValueError(f'{list_file} has no lines.')
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f'{list_file} lists {twice} twice.')
    return names


def _voc0712(root: Path, any_size: bool) -> Iterator[Split]:
    """Read the boxes of VOC2007 and VOC2012.

    Of any size: whichever of the lists there are.
    """
    splits = [
        ('VOC2007', 'trainval'),
        ('VOC2007', 'test'),
        ('VOC2012', 'trainval'),
    ]
    lists = [
        root / year / f'ImageSets/Main/{name}.txt' for year, name in splits
    ]
    if any_size:
        lists = [path for path in lists if path.is_file()] or lists
    for list_file in lists:
        folder = list_file.parents[2]
        names = _image_names(list_file)
        annotations = [
            str(folder / f'Annotations/{name}.xml') for name in names
        ]
        _check_files(annotations)
        used = set().union(*map(_objects, annotations))
        yield Split(
            f'{folder.name} {list_file.stem}',
            [str(folder / f'JPEGImages/{name}.jpg') for name in names],
            VOC_CLASSES,
            used,
            others=[str(list_file), *annotations],
        )


def _objects(path: str) -> set[int]:
    """Classes of the boxes in an annotation of VOC."""
    try:
        objects = ElementTree.parse(path).getroot().findall('object')
    except ElementTree.ParseError as error:
        raise ValueError(f'{path} is no XML file: {error}.') from error
    names = {box.findtext('name', '').strip() for box in objects}
    if not names <= set(VOC_CLASSES):
        raise ValueError(
            f'{path} has an object {min(names - set(VOC_CLASSES))!r}, which '
            'is none of the 20 classes.'
        )
    return {VOC_CLASSES.index(name) for name in names}


def read_coco(path: Path) -> dict:
    """Read a JSON file in COCO's layout.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is cut off, or lacks images, annotations or categories.
    """
    if not path.is_file():
        raise FileNotFoundError(f'there is no {path}.')
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f'{path} is no JSON file: {error}.') from error
    for key in ('images', 'annotations', 'categories'):
        if key not in content:
            raise ValueError(f'{path} has no {key!r}.')
    return content


def _coco(root: Path, any_size: bool) -> Iterator[Split]:
    """Read instances of train2017 and val2017."""
    for name in ('train2017', 'val2017'):
        path = root / f'annotations/instances_{name}.json'
        content = read_coco(path)
        places = {
            category['id']: place
            for place, category in enumerate(content['categories'])
        }
        images = {
            image['id']: image['file_name'] for image in content['images']
        }
        for box in content['annotations']:
            if (
                box['image_id'] not in images
                or box['category_id'] not in places
            ):
                raise ValueError(
                    f'{path}: annotation {box["id"]} is of image '
                    f'{box["image_id"]} and category {box["category_id"]}; '
                    'one of them is not listed in the file.'
                )
        yield Split(
            name,
            [str(root / name / file) for file in images.values()],
            [category['name'] for category in content['categories']],
            {places[box['category_id']] for box in content['annotations']},
            others=[str(path)],
            note=f', {len(content["annotations"]):,} objects',
        )


def _voc12aug(root: Path, any_size: bool) -> Iterator[Split]:
    """Read VOC2012's masks, those of SBD and val.

    Of any size: without SBD's where there are none.
    """
    classes = ('background', *VOC_CLASSES)
    for name in ('train', 'aug', 'val'):
        list_file = root / f'ImageSets/Segmentation/{name}.txt'
        if any_size and name == 'aug' and not list_file.is_file():
            continue
        names = _image_names(
            list_file,
            f'write it by {_CONVERTERS}/voc12aug.py'
            if name == 'aug'
            else 'root is a folder such as VOCdevkit/VOC2012',
        )
        folder = 'SegmentationClass' + ('Aug' if name == 'aug' else '')
        yield Split(
            name,
            [str(root / f'JPEGImages/{image}.jpg') for image in names],
            classes,
            masks=[str(root / f'{folder}/{image}.png') for image in names],
            others=[str(list_file)],
        )


CITYSCAPES_CLASSES = (
    'road',
    'sidewalk',
    'building',
    'wall',
    'fence',
    'pole',
    'traffic light',
    'traffic sign',
    'vegetation',
    'terrain',
    'sky',
    'person',
    'rider',
    'car',
    'truck',
    'bus',
    'train',
    'motorcycle',
    'bicycle',
)


def _cityscapes(root: Path, any_size: bool) -> Iterator[Split]:
    """Read train and val: images and masks with the 19 classes."""
    for name in ('train', 'val'):
        folder = root / 'leftImg8bit' / name
        images = sorted(folder.glob('*/*_leftImg8bit.png'))
        if not images:
            raise FileNotFoundError(
                f'there are no images {folder}/CITY/*_leftImg8bit.png.'
            )
        masks = [
            str(
                root
                / 'gtFine'
                / name
                / path.parent.name
                / path.name.replace('_leftImg8bit', '_gtFine_labelTrainIds')
            )
            for path in images
        ]
        absent = next((mask for mask in masks if not os.path.exists(mask)), '')
        if os.path.exists(absent.replace('labelTrainIds', 'labelIds')):
            raise FileNotFoundError(
                f'there is no {absent}, but its labelIds; run '
                f'{_CONVERTERS}/cityscapes.py {root}.'
            )
        yield Split(
            name,
            [str(path) for path in images],
            CITYSCAPES_CLASSES,
            masks=masks,
        )


_IMAGENET_VAL = dict(val=50_000)
# Numbers as published by the makers of each set; those of the subsets by
# SimCLR (arXiv:2002.05709), those of VOC12Aug from VOC2012 and SBD.
_SETS = dict(
    imagenet=Known(_imagenet, dict(train=1_281_167, **_IMAGENET_VAL), 1000),
    imagenet_1percent=Known(
        partial(_imagenet_subset, 1),
        dict(train_1percent=12_811, **_IMAGENET_VAL),
        1000,
    ),
    imagenet_10percent=Known(
        partial(_imagenet_subset, 10),
        dict(train_10percent=128_116, **_IMAGENET_VAL),
        1000,
    ),
    places205=_lists('places205', 2_448_873, 20_500, 205),
    inaturalist2018=_lists('inaturalist2018', 437_513, 24_426, 8142),
    cifar10=Known(_cifar10, dict(train=50_000, test=10_000), 10),
    folder=Known(_folder),
    voc07=Known(_voc07, dict(trainval=5_011, test=4_952), 20),
    voc0712=Known(
        _voc0712,
        {
            'VOC2007 trainval': 5_011,
            'VOC2007 test': 4_952,
            'VOC2012 trainval': 11_540,
        },
        20,
    ),
    coco=Known(_coco, dict(train2017=118_287, val2017=5_000), 80),
    voc12aug=Known(_voc12aug, dict(train=1_464, aug=9_118, val=1_449), 21),
    cityscapes=Known(_cityscapes, dict(train=2_975, val=500), 19),
)
NAMES = tuple(_SETS)
