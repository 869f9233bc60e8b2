"""Find the images of an evaluation that cannot be read, before it starts.

In pretraining another image takes the place of an unreadable one. In an
evaluation it would be scored under the wrong label: all such files are named
at once, or left out and counted beside every number.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.logging import print_log

from .transforms.loading import LoadImage, UnreadableImage, read_rgb
from .transforms.pillow_files import open_file, open_image

# Modes whose values `read_rgb` need not look at to know their range.
_PLAIN_MODES = {'1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'YCbCr'}


def find_unreadable(
    paths: Sequence[str],
    decode: bool = False,
    read: Callable[[str], Any] = read_rgb,
) -> dict[int, UnreadableImage]:
    """Find the images that cannot be read.

    Ranks share the files, so all of them must call this.

    Args:
        paths: Image files, the same on all ranks.
        decode: Decode every file. Else only look at headers and ends, and at
            the checksums of PNG files; a file that leaves doubt is decoded.
        read: How the run will read a file.

    Returns:
        Errors by index, in order.
    """
    world_size = get_world_size()
    own = range(get_rank(), len(paths), world_size)

    def fault(index: int) -> tuple[int, str] | None:
        path = paths[index]
        if not decode and _looks_whole(path):
            return None
        try:
            read(path)
        except UnreadableImage as error:
            return index, error.reason
        return None

    num_local = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    num_threads = max(4, (os.cpu_count() or 1) // num_local)
    with ThreadPoolExecutor(num_threads) as pool:
        found = [each for each in pool.map(fault, own) if each is not None]
    everything = sorted(
        each for part in all_gather_object(found) for each in part
    )
    return {
        index: UnreadableImage(paths[index], reason)
        for index, reason in everything
    }


def _looks_whole(path: str) -> bool:
    """Check that a JPEG or PNG file has a sound header and a proper end."""
    try:
        with open_file(path) as file:
            with open_image(file, ['JPEG', 'PNG']) as img:
                kind, mode = img.format, img.mode
                if kind == 'PNG':
                    img.verify()  # checksums
            if kind == 'JPEG':
                file.seek(-2, os.SEEK_END)
                return mode in _PLAIN_MODES and file.read() == b'\xff\xd9'
            return mode in _PLAIN_MODES
    except Exception:  # anything, on damaged files; `read_rgb` says what
        return False


def own_reader(dataset: Any) -> Callable[[str], Any] | None:
    """Return how a dataset reads a file; None if not by a `LoadImage`."""
    pipeline = getattr(dataset, 'pipeline', None)
    for transform in getattr(pipeline, 'transforms', ()):
        if isinstance(transform, LoadImage):
            return lambda path: transform.transform(dict(img_path=path))
    return None


def refuse_unreadable(sets: Mapping[str, Any]) -> None:
    """Check all images of an evaluation; ranks share the files.

    A dataset that leaves unreadable images out has looked for them itself.

    Args:
        sets: Datasets by their name in messages, such as 'test set'.

    Raises:
        ValueError: Some cannot be read; the message has a line for each.
    """
    lines = []
    total = 0
    for name, dataset in sets.items():
        read = own_reader(dataset)
        if read is None or getattr(dataset, 'skip_unreadable', False):
            continue
        infos = map(dataset.get_data_info, range(len(dataset)))
        paths = [info['img_path'] for info in infos]
        found = find_unreadable(paths, read=read)
        lines += [f'{name}: {error}' for error in found.values()]
        total += len(paths)
    if lines:
        raise ValueError(
            '\n'.join(
                [
                    'images that cannot be read:',
                    *lines,
                    f'{len(lines):,} of {total:,} images cannot be read; mend '
                    'or remove them, or set skip_unreadable=True in the '
                    'datasets to leave them out and say so beside every '
                    'number.',
                ]
            )
        )


def leave_out_unreadable(
    dataset: Any, data_list: list[dict]
) -> tuple[list[dict], int]:
    """Decode all images and leave out those that cannot be read; log them.

    Ranks share the files, so all of them must call this.

    Args:
        dataset: The dataset, for how it reads a file.
        data_list: Its images, dicts with 'img_path'.

    Returns:
        The others, and how many were left out.

    Raises:
        ValueError: No image can be read.
    """
    paths = [info['img_path'] for info in data_list]
    read = own_reader(dataset) or read_rgb
    found = find_unreadable(paths, decode=True, read=read)
    if found:
        print_log(
            f'{len(found):,} of {len(data_list):,} images cannot be read and '
            'are left out (skip_unreadable=True):\n'
            + '\n'.join(map(str, found.values())),
            logger='current',
            level=logging.WARNING,
        )
    if data_list and len(found) == len(data_list):
        raise ValueError(
            f'none of {len(found):,} images can be read, such as '
            f'{next(iter(found.values()))}.'
        )
    kept = [info for i, info in enumerate(data_list) if i not in found]
    return kept, len(found)
