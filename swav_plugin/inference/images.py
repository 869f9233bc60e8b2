"""Find the images that somebody named, and load them as benchmarks do.

N images of H x W pixels, B of them in a batch.
"""

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.logging import print_log
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from swav_plugin.datasets.image_search import NoImages, find_images
from swav_plugin.datasets.list_file import find_files, read_list
from swav_plugin.datasets.transforms.loading import UnreadableImage
from swav_plugin.datasets.transforms.pillow_files import (
    image_extensions,
    to_rgb,
)
from swav_plugin.registry import build_transforms

ImageSource = str | os.PathLike | Image.Image | np.ndarray
Images = ImageSource | Sequence[ImageSource]


def list_images(images: Images) -> list[dict[str, Any]]:
    """List images, without opening them.

    Args:
        images: A folder, which is searched at any depth; an image file; a
            pattern such as 'a/**/*.jpg'; a .txt file with lines "path" or
            "path label", relative to its own folder or to the current one; a
            PIL image; an (H, W, 3) uint8 RGB array; or a list of these.

    Returns:
        A dict with 'img_path' or 'img' for each, in the order of the list;
        those of a folder or a pattern are sorted by path.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: There are no images, a list file has a bad line, or an
            array is not (H, W, 3) uint8.
        TypeError: An element is something else.
    """
    sources: Any = [images] if _is_single(images) else images
    samples = [
        sample
        for index, image in enumerate(sources)
        for sample in _expand(image, index)
    ]
    if not samples:
        raise ValueError(
            'got an empty list of images; give a folder, files, PIL images '
            'or arrays.'
        )
    return samples


def _is_single(images: Any) -> bool:
    """Check that this is one image, or no image at all.

    Of arrays (N, H, W, 3) is several images, and (N,) may be names.
    """
    if isinstance(images, np.ndarray):
        return images.ndim not in (1, 4)
    return not isinstance(images, Iterable) or isinstance(
        images, (str, bytes, os.PathLike, Image.Image)
    )


def _expand(image: ImageSource, index: int) -> Iterator[dict[str, Any]]:
    """Yield the images that one element of a list means."""
    if isinstance(image, (str, os.PathLike)):
        for path in _find_paths(os.path.expanduser(os.fsdecode(image))):
            yield dict(img_path=path)
    elif isinstance(image, Image.Image):
        yield dict(img=image)
    elif not isinstance(image, np.ndarray):
        raise TypeError(
            f'image {index} is a {type(image).__name__}; expected a file '
            'name, a PIL image or an (H, W, 3) uint8 array.'
        )
    elif (
        image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or not image.size
    ):
        raise ValueError(
            f'image {index} is an array of shape {image.shape} and type '
            f'{image.dtype}; expected (H, W, 3) and uint8, in RGB order.'
        )
    else:
        yield dict(img=image)


def _find_paths(source: str) -> list[str]:
    """Return the image files that a name means."""
    if os.path.isdir(source):
        try:
            files = find_images(source)
        except NoImages as error:
            raise NoImages(
                f'{error} Name files of other extensions in a .txt list.'
            ) from None
        return [os.path.join(source, file) for file in files]
    if os.path.isfile(source):
        is_list = source.lower().endswith('.txt')
        return _read_list(source) if is_list else [source]
    if glob.has_magic(source):
        return _match(source)
    raise FileNotFoundError(
        f'there is no image {source}; give a folder, a file, a pattern such '
        "as 'folder/**/*.jpg', or a .txt file with one path a line."
    )


def _match(pattern: str) -> list[str]:
    """Return the images that match a pattern, sorted; log what else does."""
    images, others = [], Counter[str]()
    for path in sorted(glob.iglob(pattern, recursive=True)):
        extension = os.path.splitext(path)[1].lower()
        if extension in image_extensions() and not os.path.isdir(path):
            images.append(path)
        elif os.path.isfile(path):
            others[extension or 'no extension'] += 1
    left_out = ', '.join(f'{count:,} {kind}' for kind, count in others.items())
    if not images:
        raise FileNotFoundError(
            f'no image matches {pattern}; ** matches folders at any depth. '
            f'Other files that match: {left_out or "none"}.'
        )
    if left_out:
        print_log(
            f'{pattern}: left out files that are not images: {left_out}',
            logger='current',
        )
    return images


def _read_list(list_file: str) -> list[str]:
    """Return the paths of a list file, each as its disk spells it."""
    names = [name for name, _ in read_list(list_file)]
    missing = []
    for folder in (os.path.dirname(list_file), ''):
        paths = [os.path.join(folder, name) for name in names]
        found = find_files(paths)
        existing = [path for path in found if path is not None]
        if len(existing) == len(paths):
            return existing
        missing.append((len(paths) - len(existing), paths[found.index(None)]))
    num_missing, first = min(missing)
    raise FileNotFoundError(
        f'{num_missing:,} of {len(names):,} images listed in {list_file} do '
        f'not exist; the first is {first}. Paths are relative to the folder '
        'of the list, or to the current one.'
    )


def hash_pixels(samples: Sequence[dict[str, Any]]) -> str:
    """Hash the images that did not come from a file."""
    digest = hashlib.sha256()
    for sample in samples:
        if 'img' in sample:
            pixels = np.ascontiguousarray(sample['img'])
            digest.update(f'{pixels.shape} {pixels.dtype}'.encode())
            digest.update(pixels.data)
    return digest.hexdigest()


class Batch(NamedTuple):
    """The images of a batch that can be read, and the others.

    Attributes:
        indices: Which images were asked for.
        images: (B, 3, size, size) uint8 RGB, of those that can be read.
        unreadable: Errors by index.
    """

    indices: list[int]
    images: Tensor
    unreadable: dict[int, UnreadableImage]


class LoadedImages(Dataset):
    """Load images as the kNN benchmark does: resized and center-cropped.

    Args:
        samples: As `list_images` gives them.
        size: Height and width of the crop in pixels.
        resize: The short edge before that, in pixels.
    """

    def __init__(
        self, samples: list[dict[str, Any]], size: int, resize: int
    ) -> None:
        self.samples = samples
        self.size = size
        self.pipeline: Callable[[dict], Any] = Compose(
            build_transforms(
                [
                    dict(type='LoadImage'),
                    dict(
                        type='ResizeEdge',
                        scale=resize,
                        edge='short',
                        backend='pillow',
                    ),
                    dict(type='CenterCrop', crop_size=size),
                    dict(type='PackViews'),
                ]
            )
        )

    def __getitem__(self, index: int) -> tuple[int, Tensor | UnreadableImage]:
        """Return an index and (3, size, size) uint8, or why there is none."""
        sample = dict(self.samples[index])
        if isinstance(sample.get('img'), Image.Image):
            sample['img'] = np.asarray(to_rgb(sample['img']))
        try:
            return index, self.pipeline(sample)['inputs']
        except UnreadableImage as error:
            return index, error

    def __len__(self) -> int:
        return len(self.samples)

    def collate(
        self, loaded: Sequence[tuple[int, Tensor | UnreadableImage]]
    ) -> Batch:
        """Stack the images of a batch that can be read."""
        images = [each for _, each in loaded if isinstance(each, Tensor)]
        return Batch(
            [index for index, _ in loaded],
            torch.stack(images)
            if images
            else torch.empty(0, 3, self.size, self.size, dtype=torch.uint8),
            {
                index: each
                for index, each in loaded
                if isinstance(each, UnreadableImage)
            },
        )


def file_of(sample: dict[str, Any]) -> str:
    """Return the path of an image; '' if it did not come from a file."""
    return sample.get('img_path', '')
