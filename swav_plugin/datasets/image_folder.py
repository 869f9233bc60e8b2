"""`ImageFolder`: images in folders or list files, with or without labels."""

import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from swav_plugin.registry import DATASETS, build_transforms

from .image_memory import ImageMemory
from .image_search import (
    FoundImages,
    NoImages,
    class_names,
    find_images,
    search_images,
)
from .list_file import find_files, line_number, normal, read_list
from .sampler import SampleKey
from .transforms.loading import LoadImage, UnreadableImage
from .transforms.pillow_files import ValueRange
from .transforms.randomness import sample_rng
from .unreadable import leave_out_unreadable
from .view_batch import BatchesFromMemory

__all__ = ['ImageFolder', 'NoReadableImage', 'find_images']

Paths = str | os.PathLike | Sequence[str | os.PathLike]


_ARE_UNREADABLE = 'cannot be read; check the data:\n'


class NoReadableImage(RuntimeError):
    """Neither an image nor any of its replacements can be read."""

    @property
    def skipped(self) -> list[str]:
        """The images, 'path: reason' each."""
        # In the text, since that is all that an error keeps on its way from a
        # worker process.
        return str(self).partition(_ARE_UNREADABLE)[2].splitlines()


@DATASETS.register_module()
class ImageFolder(BatchesFromMemory, BaseDataset):
    """All images under one or several folders, or those of list files.

    **Folders.** Images are found at any depth by extension (any case, of any
    format that Pillow reads), in sorted order. Links are followed. Hidden
    names and folders of file servers, recycle bins and archivers are left
    out (`image_search`); the log says which other files were left out, and
    how many. First-level folders are classes: `gt_label` is
    the index of the name in the sorted union over all roots,
    `metainfo['classes']`. If any root has an image outside class folders, no
    image of any root has a label.

    **List files** have lines "path" or "path label", all of the same kind,
    with paths relative to the root, each path once, and labels >= 0. Paths
    may have spaces: a last word of digits is the label, anything else belongs
    to the path. A comma before the label is as good as a space. Any extension
    is accepted, and blank lines are ignored.

    An image that cannot be read is replaced by another one, which the key of
    the sample decides; results['skipped'] lists 'path: reason' of each such
    file. With `test_mode=True` it is an error, because a replacement would be
    scored. With `skip_unreadable=True` there is no such image in the dataset.

    Args:
        data_root: One folder or several.
        pipeline: Transforms; names are looked up in swav_plugin first.
        ann_file: A list file, absolute or relative to its root; one for each
            root if there are several. Without it the folders are searched.
        indices: Use only the first n images, the last n if negative, or
            those at the given indices.
        serialize_data: Keep the list of images in one block of memory, which
            worker processes share.
        test_mode: Never replace an image.
        skip_unreadable: Decode all images at the start and leave out those
            that cannot be read; `num_unreadable` counts them. Ranks share the
            work, so all of them must build the dataset.
        lazy_init: Do not look for images until the first one is needed.
        max_refetch: Replacements to try for one sample before giving up.
        in_memory: Decode all images once, at the start, and keep them in
            memory (`ImageMemory`). Views are the same.

    Raises:
        FileNotFoundError: A root, a list file or a listed image is missing.
        ValueError: There are no images, or a list file has a bad line.
        NoReadableImage: Neither a sample nor any of its replacements can be
            read.
        MemoryError: The images do not fit into memory.
    """

    def __init__(
        self,
        data_root: Paths,
        pipeline: Sequence[dict | Callable] = (),
        ann_file: Paths = (),
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: int = 20,
        in_memory: bool = False,
        skip_unreadable: bool = False,
    ) -> None:
        self.in_memory = in_memory
        self.skip_unreadable = skip_unreadable
        self.num_unreadable = 0
        self.found: list[FoundImages] = []  # in each root
        self.roots = _as_list('data_root', data_root)
        self.list_files = _as_list('ann_file', ann_file)
        if not self.roots:
            raise ValueError(
                f'ImageFolder got data_root={data_root!r}; give the folder of '
                'the images.'
            )
        if self.list_files and len(self.list_files) != len(self.roots):
            raise ValueError(
                f'ImageFolder got {len(self.roots)} roots but '
                f'{len(self.list_files)} list files; give one for each root.'
            )
        if isinstance(indices, int) and indices == 0:
            raise ValueError(
                'ImageFolder got indices=0, which leaves no '
                'image; give None for all of them.'
            )
        super().__init__(
            pipeline=build_transforms(pipeline),
            indices=indices,
            serialize_data=serialize_data,
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
        )

    @property
    def num_classes(self) -> int | None:
        """Number of class folders, or the highest label plus 1.

        None if images have no labels.
        """
        self.full_init()
        return self._num_classes

    def load_data_list(self) -> list[dict]:
        """Find all images: 'img_path' and, if known, 'gt_label'."""
        self._num_classes: int | None = None
        self.found = []
        for root in self.roots:
            if not os.path.isdir(root):
                raise FileNotFoundError(
                    f'ImageFolder: data_root {root!r} is not a folder; '
                    f'looked for {os.path.abspath(root)}.'
                )
        if self.list_files:
            return self._load_lists()
        _check_distinct(self.roots)
        return self._load_folders()

    def _load_folders(self) -> list[dict]:
        """Find the images of all roots, with labels if all have classes."""
        try:
            self.found = [search_images(root) for root in self.roots]
        except NoImages as error:
            raise NoImages(
                f'ImageFolder: {error} Name files of other extensions in a '
                'list file, ann_file=...'
            ) from None
        found = [
            (each.root, file) for each in self.found for file in each.files
        ]
        loose = [
            os.path.join(*image) for image in found if os.sep not in image[1]
        ]
        if loose:
            if len(loose) < len(found):
                print_log(
                    'ImageFolder: no image gets a label, since some are '
                    f'outside class folders: {len(loose)} such as {loose[0]}',
                    logger='current',
                    level=logging.WARNING,
                )
            return [dict(img_path=os.path.join(*image)) for image in found]

        # As `normal` writes them: a disk of a Mac spells some names otherwise.
        classes = sorted(
            {normal(name) for root in self.roots for name in class_names(root)}
        )
        labels = {name: label for label, name in enumerate(classes)}
        folders = [normal(file.partition(os.sep)[0]) for _, file in found]
        self._metainfo['classes'] = tuple(classes)
        self._num_classes = len(classes)
        empty = set(classes) - set(folders)
        if empty:
            print_log(
                f'ImageFolder: {len(empty)} of {len(classes)} classes have no '
                f'images: {", ".join(sorted(empty)[:5])} ...',
                logger='current',
                level=logging.WARNING,
            )
        return [
            dict(img_path=os.path.join(*image), gt_label=labels[folder])
            for image, folder in zip(found, folders)
        ]

    def _load_lists(self) -> list[dict]:
        """Read the images of all list files."""
        data_list: list[dict] = []
        for root, list_file in zip(self.roots, self.list_files):
            list_file = os.path.join(root, list_file)
            images = read_list(list_file)
            paths = [os.path.join(root, file) for file, _ in images]
            found = find_files(paths)
            missing = [i for i, file in enumerate(found) if file is None]
            if missing:
                raise FileNotFoundError(
                    f'ImageFolder: {len(missing)} of {len(images)} images '
                    f'listed in {list_file} do not exist; the first is '
                    f'{paths[missing[0]]}, line '
                    f'{line_number(list_file, missing[0])}. Paths are '
                    'relative to data_root.'
                )
            for file, (_, label) in zip(found, images):
                info: dict[str, Any] = dict(img_path=file)
                if label is not None:
                    info['gt_label'] = label
                data_list.append(info)
        labels = {info['gt_label'] for info in data_list if 'gt_label' in info}
        if labels and not all('gt_label' in info for info in data_list):
            raise ValueError(
                f'ImageFolder: some of {self.list_files} have labels and '
                'some do not; give labels in all list files or in none.'
            )
        if labels:
            self._num_classes = max(labels) + 1
            num_unused = self._num_classes - len(labels)
            if num_unused:
                unused = (i for i in itertools.count() if i not in labels)
                first = itertools.islice(unused, min(num_unused, 5))
                print_log(
                    f'ImageFolder: {num_unused} of the labels 0 to '
                    f'{self._num_classes - 1} have no images: '
                    f'{", ".join(map(str, first))} ...',
                    logger='current',
                    level=logging.WARNING,
                )
        return data_list

    def filter_data(self) -> list[dict]:
        """Leave out what is not wanted; fill the memory of images."""
        for found in self.found:
            left_out = found.describe_left_out()
            if left_out:
                print_log(
                    f'ImageFolder: left out of {found.root}: {left_out}',
                    logger='current',
                )
        if self.skip_unreadable:
            kept, self.num_unreadable = leave_out_unreadable(
                self, self.data_list
            )
            self.data_list: list[dict] = kept
        if self.in_memory:
            wanted = self.data_list
            if self._indices is not None:
                wanted = self._get_unserialized_subset(self._indices)
            self.memory = ImageMemory(
                [info['img_path'] for info in wanted], self._value_range()
            )
            for slot, info in enumerate(wanted):
                info['slot'] = slot
        return self.data_list

    def _value_range(self) -> ValueRange | None:
        """Return the range of values that `LoadImage` would be told."""
        for transform in self.pipeline.transforms:
            if isinstance(transform, LoadImage):
                return transform.value_range
        return None

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on a sample or, if it is unreadable, on another."""
        skipped: list[str] = []
        for candidate in self._candidates(idx):
            info = dict(self.get_data_info(candidate), skipped=skipped)
            try:
                if self.memory is not None:
                    info['img'] = self.memory[info.pop('slot')]
                    info['channel_order'] = 'rgb'
                return self.pipeline(info)
            except UnreadableImage as error:
                if self.test_mode:
                    raise
                skipped.append(str(error))
        raise NoReadableImage(
            f'ImageFolder: {len(skipped)} images drawn one after another '
            f'{_ARE_UNREADABLE}' + '\n'.join(skipped)
        )

    def _candidates(self, idx: int) -> Iterator[int]:
        """Yield a sample and then, one by one, its replacements."""
        yield idx
        rng = sample_rng(idx, 'replacement')
        for _ in range(self.max_refetch):
            other = int(rng.integers(len(self)))
            if isinstance(idx, SampleKey):
                other = SampleKey(other, idx.epoch, idx.seed)
            yield other


def _as_list(name: str, paths: Any) -> list[str]:
    """Return a list of paths for one path or several; '' is none.

    Raises:
        ValueError: Something in it is not a path.
    """
    if isinstance(paths, (str, bytes, os.PathLike)):
        paths = [paths] if os.fspath(paths) else []
    if not isinstance(paths, (list, tuple)) or not all(
        isinstance(path, (str, bytes, os.PathLike)) for path in paths
    ):
        raise ValueError(
            f'ImageFolder got {name}={paths!r}; give a path or a list of '
            'paths.'
        )
    return [os.path.expanduser(os.fsdecode(path)) for path in paths]


def _check_distinct(roots: Sequence[str]) -> None:
    """Raise if a folder is searched twice, and so its images are doubled."""
    real = [os.path.join(os.path.realpath(root), '') for root in roots]
    for i, inner in enumerate(real):
        for j, outer in enumerate(real):
            if i != j and inner.startswith(outer):
                raise ValueError(
                    f'ImageFolder: data_root has both {roots[j]} and '
                    f'{roots[i]}, which is the same folder or inside it, so '
                    'images would count twice; give one of them.'
                )
