"""Read and write list files and class folders.

A list file has lines "path" or "path label", all of the same kind, with paths
relative to a root. `ImageFolder` reads it.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.compat.moved import moved_names

__getattr__ = moved_names(__name__)

IMAGE_EXTENSIONS = (
    '.bmp',
    '.jpeg',
    '.jpg',
    '.pgm',
    '.png',
    '.ppm',
    '.tif',
    '.tiff',
    '.webp',
)


def read_list(list_file: str) -> list[tuple[str, int | None]]:
    """Read a list file of lines "path" or "path label".

    Returns:
        Path as written and label of each line; None for no label.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is empty, or has a bad line, which is named.
    """
    if not os.path.isfile(list_file):
        raise FileNotFoundError(
            f'ImageFolder: list file {list_file} does not exist; ann_file is '
            'absolute or relative to data_root.'
        )
    images: list[tuple[str, int | None]] = []
    seen: set[str] = set()
    for number, line in _numbered_lines(list_file):
        try:
            image = _parse_line(line)
            if images and (image[1] is None) != (images[0][1] is None):
                raise ValueError('some lines have a label and some do not')
        except ValueError as error:
            raise ValueError(
                f'{list_file}, line {number}: {line!r}: {error}; '
                'expected "path" on all lines or "path label" on all, '
                'with labels 0, 1, 2, ...'
            ) from None
        if image[0] in seen:
            first = [file for file, _ in images].index(image[0])
            raise ValueError(
                f'{list_file}, line {number}: {image[0]} is already on line '
                f'{line_number(list_file, first)}; each image may be listed '
                'once.'
            )
        seen.add(image[0])
        images.append(image)
    if not images:
        raise ValueError(f'ImageFolder: list file {list_file} has no lines.')
    return images


def line_number(list_file: str, index: int) -> int:
    """Return the line of a list file, from 1, that names an image.

    Args:
        list_file: As for `read_list`.
        index: Index of the image among those that `read_list` returns, from 0.
    """
    return next(itertools.islice(_numbered_lines(list_file), index, None))[0]


def _numbered_lines(list_file: str) -> Iterator[tuple[int, str]]:
    """Yield numbers and stripped text of the lines that are not blank."""
    # File names may be any bytes, as in os.listdir.
    with open(list_file, encoding='utf-8', errors='surrogateescape') as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line.strip()


def _parse_line(line: str) -> tuple[str, int | None]:
    """Split "path label", "path,label" or "path".

    >>> _parse_line('a dog/1.jpg 3'), _parse_line('a dog/1.jpg')
    (('a dog/1.jpg', 3), ('a dog/1.jpg', None))
    """
    words = line.rsplit(maxsplit=1)
    if len(words) < 2 or ',' in words[1]:
        words = line.rsplit(',', 1)
    if len(words) == 2 and words[1].isdecimal():
        return words[0].rstrip(' ,'), int(words[1])
    if len(words) == 2 and words[0].lower().endswith(IMAGE_EXTENSIONS):
        raise ValueError(f'{words[1]!r} is not a label')
    return line, None


def write_list(
    list_file: Path, images: Sequence[tuple[str, int]], root: Path
) -> str:
    """Write lines "path label", whole or not at all.

    Args:
        list_file: Replaced if it exists.
        images: Path relative to root, with slashes, and label of each.
        root: Folder of the images.

    Returns:
        What was written, for the user.

    Raises:
        FileNotFoundError: An image does not exist.
        ValueError: There are no images.
    """
    if not images:
        raise ValueError(f'there are no images to list in {list_file}.')
    missing = find_missing([str(root / path) for path, _ in images])
    if missing:
        raise FileNotFoundError(
            f'{len(missing):,} of {len(images):,} images for {list_file} do '
            f'not exist; the first is {root / images[missing[0]][0]}.'
        )
    text = ''.join(f'{path} {label}\n' for path, label in images)
    # File names may be any bytes, as in os.listdir.
    write_atomic(list_file, text.encode(errors='surrogateescape'))
    num_classes = len({label for _, label in images})
    return f'{list_file}: {len(images):,} images of {num_classes:,} classes'


def find_missing(paths: Sequence[str]) -> list[int]:
    """Return the indices of the paths that do not exist.

    Lists each folder once: a million single look-ups would take an hour on a
    network disk.
    """
    names: dict[str, set[str]] = {}
    missing = []
    for index, path in enumerate(paths):
        folder, name = os.path.split(path)
        if folder not in names:
            names[folder] = set(
                os.listdir(folder) if os.path.isdir(folder) else ()
            )
        if name not in names[folder]:
            missing.append(index)
    return missing


def write_class_folders(
    folder: Path, images: Iterable[tuple[Image.Image, str]]
) -> None:
    """Write images, each with the name of its class, as class folders.

    The files are folder/<class>/<number>.png.
    """
    for number, (image, name) in enumerate(images):
        path = folder / name / f'{number:05}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
