"""Read the splits of sets with several labels, boxes or masks.

Each function takes the root of a set and says whether it may have any size.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..coco import complete_coco, read_coco
from ..list_file import open_text
from ..voc07 import CLASSES as VOC_CLASSES
from ..voc07 import VOC07
from .labels import CONVERTERS
from .split import DatasetSplit, check_files


def read_voc07(root: Path, any_size: bool) -> Iterator[DatasetSplit]:
    """Read the lists of the classes, for trainval and test.

    With any size: train and val if there is no test, as in VOC2012.
    """
    splits = ['trainval', 'test']
    has_test = (root / f'ImageSets/Main/{VOC_CLASSES[0]}_test.txt').is_file()
    if any_size and not has_test:
        splits = ['train', 'val']
    for name in splits:
        dataset = VOC07(str(root), name)
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        marks = np.stack([info['gt_label'] for info in infos])
        yield DatasetSplit(
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
    """Read a list of VOC: file names without folder and extension."""
    if not list_file.is_file():
        raise FileNotFoundError(f'there is no {list_file}; {hint}.')
    with open_text(list_file) as lines:
        names = lines.read().split()
    if not names:
        raise ValueError(f'{list_file} has no lines.')
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f'{list_file} lists {twice} twice.')
    return names


def read_voc0712(root: Path, any_size: bool) -> Iterator[DatasetSplit]:
    """Read the boxes of VOC2007 and VOC2012.

    With any size: whichever lists exist.
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
        check_files(annotations)
        used = set().union(*map(_objects, annotations))
        yield DatasetSplit(
            f'{folder.name} {list_file.stem}',
            [str(folder / f'JPEGImages/{name}.jpg') for name in names],
            VOC_CLASSES,
            used,
            others=[str(list_file), *annotations],
        )


def _objects(path: str) -> set[int]:
    """Return the classes of the boxes in an annotation of VOC."""
    try:
        objects = ElementTree.parse(path).getroot().findall('object')
    except ElementTree.ParseError as error:
        raise ValueError(f'{path} is not an XML file: {error}.') from error
    names = {box.findtext('name', '').strip() for box in objects}
    if not names <= set(VOC_CLASSES):
        raise ValueError(
            f'{path} has an object {min(names - set(VOC_CLASSES))!r}, which '
            'is not one of the 20 classes.'
        )
    return {VOC_CLASSES.index(name) for name in names}


def read_coco_splits(
    needs_masks: bool, root: Path, any_size: bool
) -> Iterator[DatasetSplit]:
    """Read instances of train2017 and val2017, with masks or boxes only."""
    names: list[str] = []
    for split in ('train2017', 'val2017'):
        path = root / f'annotations/instances_{split}.json'
        content = read_coco(path)
        try:
            # The published set is right, and has 118,000 headers to read.
            notes = complete_coco(
                content, root / split, needs_masks, checks_sizes=any_size
            )
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from None
        categories = content['categories']
        before, names = names, [category['name'] for category in categories]
        if before and before != names:
            raise ValueError(
                f'{root}: the categories of train2017 and val2017 must be the '
                f'same, in the same order; they are {before} and {names}'
            )
        index_of = {each['id']: i for i, each in enumerate(categories)}
        yield DatasetSplit(
            split,
            [
                str(root / split / each['file_name'])
                for each in content['images']
            ],
            names,
            {index_of[box['category_id']] for box in content['annotations']},
            others=[str(path)],
            note=f', {len(content["annotations"]):,} objects',
            remarks=notes,
        )


def read_voc12aug(root: Path, any_size: bool) -> Iterator[DatasetSplit]:
    """Read VOC2012's masks of train, those of SBD (aug), and val.

    With any size: without those of SBD if there are none.
    """
    classes = ('background', *VOC_CLASSES)
    for name in ('train', 'aug', 'val'):
        list_file = root / f'ImageSets/Segmentation/{name}.txt'
        if any_size and name == 'aug' and not list_file.is_file():
            continue
        names = _image_names(
            list_file,
            f'write it with {CONVERTERS}/voc12aug.py'
            if name == 'aug'
            else 'root is a folder such as VOCdevkit/VOC2012',
        )
        folder = 'SegmentationClass' + ('Aug' if name == 'aug' else '')
        yield DatasetSplit(
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


def read_cityscapes(root: Path, any_size: bool) -> Iterator[DatasetSplit]:
    """Read train and val: images and masks with the 19 classes."""
    for name in ('train', 'val'):
        folder = root / 'leftImg8bit' / name
        # [!.]: without the copies that a Mac leaves, ._NAME.
        images = sorted(folder.glob('*/[!.]*_leftImg8bit.png'))
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
                f'there is no {absent}, only its labelIds; run '
                f'{CONVERTERS}/cityscapes.py {root}.'
            )
        yield DatasetSplit(
            name,
            [str(path) for path in images],
            CITYSCAPES_CLASSES,
            masks=masks,
        )
