"""`VOC07`: images with a mark for each class, present, absent or difficult."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from swav_plugin.registry import DATASETS, build_transforms

from .list_file import find_missing, open_text, path_inside
from .unreadable import leave_out_unreadable

CLASSES = (
    'aeroplane',
    'bicycle',
    'bird',
    'boat',
    'bottle',
    'bus',
    'car',
    'cat',
    'chair',
    'cow',
    'diningtable',
    'dog',
    'horse',
    'motorbike',
    'person',
    'pottedplant',
    'sheep',
    'sofa',
    'train',
    'tvmonitor',
)
# Marks in the lists -> ours, which are those of the fair-SSL benchmark.
_MARKS = {'1': 1, '-1': 0, '0': -1}


@DATASETS.register_module()
class VOC07(BaseDataset):
    """Image classification on Pascal VOC, with its own lists.

    Reads ``ImageSets/Main/<class>_<split>.txt``. `gt_label` is a (20,) int8
    array with the classes in alphabetical order: 1 present, 0 absent, -1 if
    all objects of the class are marked as difficult.

    Args:
        data_root: The folder VOC2007, or that of another year, which contains
            ImageSets and JPEGImages.
        split: 'trainval' or 'test' in VOC2007.
        pipeline: Transforms; names are looked up in swav_plugin first.
        test_mode: Has no effect: an unreadable image is always an error.
        skip_unreadable: As in `ImageFolder`.

    Raises:
        FileNotFoundError: A list or an image is missing.
        ValueError: Lists name different images, or have a bad line.
    """

    METAINFO = dict(classes=CLASSES)

    def __init__(
        self,
        data_root: str,
        split: str,
        pipeline: Any = (),
        test_mode: bool = True,
        skip_unreadable: bool = False,
    ) -> None:
        self.skip_unreadable = skip_unreadable
        self.num_unreadable = 0
        self.split = split
        self.root = Path(os.path.expanduser(data_root))
        super().__init__(
            pipeline=build_transforms(pipeline), test_mode=test_mode
        )

    def load_data_list(self) -> list[dict]:
        """Read the lists of all classes."""
        columns = [self._read(name) for name in CLASSES]
        images = list(columns[0])
        for name, column in zip(CLASSES, columns):
            if list(column) != images:
                raise ValueError(
                    f'{self._list_file(name)} lists different images than '
                    f'{self._list_file(CLASSES[0])}; get the lists again.'
                )
        folder = self.root / 'JPEGImages'
        paths = [str(path_inside(folder, f'{image}.jpg')) for image in images]
        missing = find_missing(paths)
        if missing:
            raise FileNotFoundError(
                f'VOC07: {len(missing)} of {len(images)} images of split '
                f'{self.split!r} do not exist; the first is '
                f'{paths[missing[0]]}.'
            )
        marks = np.array(
            [list(column.values()) for column in columns], dtype=np.int8
        ).T
        return [
            dict(img_path=path, gt_label=row)
            for path, row in zip(paths, marks)
        ]

    def filter_data(self) -> list[dict]:
        """Leave out images that cannot be read, if that is wanted."""
        if self.skip_unreadable:
            kept, self.num_unreadable = leave_out_unreadable(
                self, self.data_list
            )
            return kept
        return self.data_list

    def _list_file(self, name: str) -> Path:
        return self.root / f'ImageSets/Main/{name}_{self.split}.txt'

    def _read(self, name: str) -> dict[str, int]:
        """Read the marks of one class, by image."""
        path = self._list_file(name)
        if not path.is_file():
            raise FileNotFoundError(
                f'VOC07: there is no {path}; data_root is the folder that '
                'contains ImageSets and JPEGImages, such as '
                'VOCdevkit/VOC2007.'
            )
        marks = {}
        with open_text(path) as file:
            lines = file.read().splitlines()
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if len(words) != 2 or words[1] not in _MARKS:
                raise ValueError(
                    f'{path}, line {number}: {line!r}; expected an image and '
                    '1, -1 or 0.'
                )
            if words[0] in marks:
                raise ValueError(
                    f'{path}, line {number}: {words[0]} is already listed; '
                    'get the lists again.'
                )
            marks[words[0]] = _MARKS[words[1]]
        if not marks:
            raise ValueError(f'VOC07: {path} has no lines.')
        return marks
