"""Read and write list files and class folders.

A list file has lines "path" or "path label", all of the same kind, with paths
relative to a root. `ImageFolder` reads it.
"""

import codecs
import itertools
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from PIL import Image

from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.compat.moved import moved_names

from .transforms.pillow_files import image_extensions

__getattr__ = moved_names(__name__)

# The largest sets have a few million classes; a number above is an id.
_MAX_LABEL = 10_000_000


def read_list(list_file: str) -> list[tuple[str, int | None]]:
    """Read a list file of lines "path" or "path label".

    Returns:
        Path as written and label of each line; None for no label.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is empty, or has a bad line, which is named.
    """
    if not os.path.isfile(list_file):
        fault = (
            'is not a file' if os.path.exists(list_file) else 'does not exist'
        )
        raise FileNotFoundError(
            f'ImageFolder: list file {list_file} {fault}; ann_file is '
            'absolute or relative to data_root.'
        )
    images: list[tuple[str, int | None]] = []
    seen: dict[str, int] = {}  # index of each path, however it is written
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
        same = normal(os.path.normpath(image[0]))
        if same in seen:
            first = seen[same]
            raise ValueError(
                f'{list_file}, line {number}: {image[0]} is already on line '
                f'{line_number(list_file, first)}; each image may be listed '
                'once.'
            )
        seen[same] = len(images)
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
    with open_text(list_file) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line.strip()


def open_text(path: str | os.PathLike) -> TextIO:
    """Open a text file of file names, with or without a byte-order mark.

    UTF-8, unless it is marked as the UTF-16 that Windows' PowerShell writes.
    Names may be any bytes, as in os.listdir.
    """
    with open(path, 'rb') as file:
        mark = file.read(2)
    if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return open(path, encoding='utf-16')
    return open(path, encoding='utf-8-sig', errors='surrogateescape')


def _parse_line(line: str) -> tuple[str, int | None]:
    """Split "path label", "path,label" or "path".

    >>> _parse_line('a dog/1.jpg 3'), _parse_line('a dog/1.jpg')
    (('a dog/1.jpg', 3), ('a dog/1.jpg', None))
    """
    if '\0' in line:
        raise ValueError('it has a zero byte; save the list in UTF-8')
    words = line.rsplit(maxsplit=1)
    if len(words) < 2 or ',' in words[1]:
        words = line.rsplit(',', 1)
    if len(words) == 2 and words[1].isdecimal():
        label = int(words[1])
        if label >= _MAX_LABEL:
            raise ValueError(
                f'{words[1]} looks like an id, not like a label; number the '
                'classes'
            )
        return words[0].rstrip(' ,'), label
    extension = os.path.splitext(words[0])[1].lower()
    if len(words) == 2 and extension in image_extensions():
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
    return (
        f'{list_file}: {len(images):,} image{"s" * (len(images) != 1)} of '
        f'{num_classes:,} class{"es" * (num_classes != 1)}'
    )


def find_missing(paths: Sequence[str]) -> list[int]:
    """Return the indices of the paths that `find_files` does not find."""
    return [i for i, path in enumerate(find_files(paths)) if path is None]


def find_files(paths: Sequence[str]) -> list[str | None]:
    """Return each path as its disk spells it; None if it does not exist.

    A letter with an accent is one character in most lists, and two on disks
    of a Mac; both mean the same file if only one of them exists.

    Lists each folder once: a million single look-ups would take an hour on a
    network disk.
    """
    names: dict[str, set[str]] = {}
    by_normal: dict[str, dict[str, str]] = {}

    def find(path: str) -> str | None:
        folder, name = os.path.split(path)
        if folder not in names:
            names[folder] = set(
                os.listdir(folder or '.')
                if os.path.isdir(folder or '.')
                else ()
            )
        if name in names[folder]:
            return path
        if path.isascii() or folder == path:
            return None
        if not names[folder]:
            spelled = find(folder)
            if spelled is None or spelled == folder:
                return None
            return find(os.path.join(spelled, name))
        if folder not in by_normal:
            by_normal[folder] = {normal(each): each for each in names[folder]}
        other = by_normal[folder].get(normal(name))
        return None if other is None else os.path.join(folder, other)

    return [find(path) for path in paths]


def normal(name: str) -> str:
    """Return a name in Unicode's composed form, as most systems write it."""
    return unicodedata.normalize('NFC', name)


def path_inside(folder: Path, name: str) -> Path:
    """Return folder/name for a name that came with a dataset.

    Names in lists and annotations of a dataset, from which converters make
    paths, pass through here.

    Raises:
        ValueError: The name leads out of the folder.

    >>> path_inside(Path('masks'), '../../.bashrc')
    Traceback (most recent call last):
    ...
    ValueError: '../../.bashrc' leads out of masks; get the dataset again.
    """
    path = Path(name)
    if not path.parts or '..' in path.parts or path.anchor or '\0' in name:
        raise ValueError(
            f'{name!r} leads out of {folder}; get the dataset again.'
        )
    return folder / path


def write_class_folders(
    folder: Path, images: Iterable[tuple[Image.Image, str]]
) -> None:
    """Write images, each with the name of its class, as class folders.

    The files are folder/<class>/<number>.png.
    """
    for number, (image, name) in enumerate(images):
        path = path_inside(folder, f'{name}/{number:05}.png')
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
