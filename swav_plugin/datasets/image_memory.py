"""`ImageMemory`: the decoded images of a whole set in one block of memory."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log

from .transforms.cpu_ops import read_only
from .transforms.loading import UnreadableImage, read_rgb
from .transforms.pillow_files import ValueRange, open_image, stored_shape


class ImageMemory:
    """Images that are decoded once and then only read.

    All pixels are in one block. Forked workers share it, because it is never
    written to: it holds no Python objects, whose reference counts are. Each
    rank on a machine has a block of its own.

    Args:
        paths: N image files. Asking for one that cannot be read raises its
            error.
        value_range: As in `LoadImage`.

    Raises:
        MemoryError: The pixels do not fit into the free memory.
    """

    def __init__(
        self, paths: Sequence[str], value_range: ValueRange | None = None
    ) -> None:
        self.value_range = value_range
        self.errors: dict[int, UnreadableImage] = {}
        num_ranks = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
        num_threads = max(1, (os.cpu_count() or 1) // num_ranks)
        with ThreadPoolExecutor(num_threads) as pool:
            self._allocate(list(pool.map(_header_shape, paths)), num_ranks)
            self._decode_all(paths, pool)

    @classmethod
    def of_arrays(cls, images: Sequence[np.ndarray]) -> 'ImageMemory':
        """Copy N images that are decoded, (H, W, 3) uint8 RGB."""
        memory = cls.__new__(cls)
        memory.value_range = None
        memory.errors = {}
        num_ranks = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
        memory._allocate([img.shape[:2] for img in images], num_ranks)
        for slot, img in enumerate(images):
            memory._pixels(slot)[:] = img
        return memory

    def _allocate(
        self, shapes: Sequence[tuple[int, ...]], num_ranks: int
    ) -> None:
        """Make room for images of these heights and widths."""
        self.shapes = np.array(shapes, dtype=np.int64)
        self.ends = np.cumsum(3 * self.shapes.prod(axis=1))
        # Where each image ends in the block, its height and its width.
        self.spans = np.column_stack([self.ends, self.shapes])
        num_bytes = int(self.ends[-1])
        check_room(num_bytes, num_ranks)
        # A tensor: for spawned workers it is moved to shared memory.
        self.block = torch.empty(num_bytes, dtype=torch.uint8)

    def _decode_all(
        self, paths: Sequence[str], pool: ThreadPoolExecutor
    ) -> None:
        """Fill the block and log the progress."""
        start = time.monotonic()
        tenth = -(-len(paths) // 10)
        errors = pool.map(self._decode, range(len(paths)), paths)
        for slot, error in enumerate(errors):
            if error is not None:
                self.errors[slot] = error
            if (slot + 1) % tenth == 0 or slot + 1 == len(paths):
                print_log(
                    f'ImageFolder: {slot + 1} of {len(paths)} images are in '
                    f'memory, {self.ends[slot] / 1e9:.2f} GB of '
                    f'{self.ends[-1] / 1e9:.2f}, after '
                    f'{time.monotonic() - start:.0f} s',
                    logger='current',
                )

    def _decode(self, slot: int, path: str) -> UnreadableImage | None:
        """Decode one image into its slot; return the error if it fails."""
        try:
            img = read_rgb(path, self.value_range)
        except UnreadableImage as error:
            return error
        pixels = self._pixels(slot)
        if img.shape != pixels.shape:
            return UnreadableImage(
                path,
                f'{img.shape[:2]} pixels, but its header says '
                f'{pixels.shape[:2]}',
            )
        pixels[:] = img
        return None

    def _pixels(self, slot: int) -> np.ndarray:
        """Return the (H, W, 3) part of the block that belongs to an image."""
        height, width = self.shapes[slot]
        end = self.ends[slot]
        pixels = self.block.numpy()[end - 3 * height * width : end]
        return pixels.reshape(height, width, 3)

    def flat(self) -> np.ndarray:
        """Return all pixels, (n,) uint8, read-only; see `spans`."""
        return read_only(self.block.numpy())

    def __getitem__(self, slot: int) -> np.ndarray:
        """Return image `slot`, (H, W, 3) uint8 RGB, read-only.

        Raises:
            UnreadableImage: Its file could not be read.
        """
        if slot in self.errors:
            error = self.errors[slot]
            raise UnreadableImage(error.path, error.reason)
        return read_only(self._pixels(slot))

    def __deepcopy__(self, memo: dict) -> 'ImageMemory':
        """Share the block with copies of the dataset."""
        return self


def _header_shape(path: str) -> tuple[int, int]:
    """Return height and width from a file's header; (0, 0) if unreadable."""
    try:
        with open_image(path) as img:
            return stored_shape(img)
    except Exception:  # read_rgb will say what is wrong
        return 0, 0


def check_room(num_bytes: int, num_ranks: int) -> None:
    """Raise MemoryError unless there is room for all ranks of this machine."""
    room = free_bytes()
    if room is not None and num_bytes * num_ranks > room:
        of_ranks = f' in each of {num_ranks} ranks' if num_ranks > 1 else ''
        raise MemoryError(
            f'ImageFolder: in_memory=True needs {num_bytes / 1e9:.1f} GB'
            f'{of_ranks} for the decoded images, but {room / 1e9:.1f} GB of '
            'memory are free. Set it to False to decode them in every '
            'epoch, use fewer images (`indices`), or store smaller ones.'
        )


def free_bytes() -> int | None:
    """Return the memory that is free, here or in a container's limit.

    None where the system does not say (macOS, Windows).
    """
    try:
        memory = _read_numbers(Path('/proc/meminfo'))
    except OSError:
        return None
    room = memory['MemAvailable:'] * 1024
    group = Path('/sys/fs/cgroup')
    try:
        limit = int((group / 'memory.max').read_text())
        used = _read_numbers(group / 'memory.stat')
    except (OSError, ValueError):  # no limit
        return room
    return min(room, limit - used['anon'] - used['shmem'])


def _read_numbers(file: Path) -> dict[str, int]:
    """Read lines of a name and a number, and perhaps a unit."""
    lines = (line.split() for line in file.read_text().splitlines())
    return {name: int(number) for name, number, *_ in lines}
