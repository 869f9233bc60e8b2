"""Features of a whole set on disk, and what evaluators get to see of them.

Each rank writes the features of its own images to a file of its own; all
ranks then map the files of all. Nothing is gathered through memory.

N images, D width of a feature, Y classes.
"""

import hashlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from mmengine.dist import barrier, get_rank, get_world_size
from torch import Tensor, nn

from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.compat.moved import moved_names
from swav_plugin.engine.results import describe_unreadable

__getattr__ = moved_names(__name__)

META = 'meta.json'
Protocol = TypeVar('Protocol', bound='FeatureProtocol')


@dataclass
class Labels:
    """Labels and names of a set, known without opening its images.

    Args:
        name: For messages, such as 'bank set'.
        values: (N,) int64 classes or (N, Y) int8: 1 present, 0 absent, -1
            difficult.
        classes: Names, if known.
        root: The folders it is read from, for the protocol of a number.
        num_unreadable: Images that cannot be read and were left out.
    """

    name: str
    values: Tensor
    classes: tuple[str, ...] = ()
    root: str = ''
    num_unreadable: int = 0

    @property
    def num_classes(self) -> int:
        """Y: as many as there are names, else the highest label plus 1."""
        if self.values.dim() == 2:
            return self.values.shape[1]
        return len(self.classes) or int(self.values.max()) + 1

    def check_single(self) -> None:
        """Check that each image has one class.

        Raises:
            ValueError: It has several, or a class has no name.
        """
        if self.values.dim() != 1:
            raise ValueError(
                f'images of {self.name} have several labels each; use a set '
                'with one class for each image.'
            )
        low, high = int(self.values.min()), int(self.values.max())
        if low < 0 or high >= self.num_classes:
            raise ValueError(
                f'labels of {self.name} are between {low} and {high}; '
                f'expected 0 to {self.num_classes - 1}, one for each of its '
                f'{self.num_classes} classes.'
            )

    def check_several(self) -> None:
        """Check that each image has a mark for every class.

        Raises:
            ValueError: It has one class, or a mark is none of the three.
        """
        if self.values.dim() != 2:
            raise ValueError(
                f'images of {self.name} have one class each; use a set that '
                "marks every class for each image, such as type='VOC07'."
            )
        marks = set(self.values.unique().tolist())
        if not marks <= {-1, 0, 1}:
            raise ValueError(
                f'marks of {self.name} are {sorted(marks)}; expected 1 for '
                'present, 0 for absent and -1 for difficult.'
            )


class ShardedRows:
    """Rows of several files, one after the other, read when they are used."""

    def __init__(self, shards: Sequence[Tensor]) -> None:
        self.shards = shards
        self._ends = np.cumsum([len(shard) for shard in shards]).tolist()
        self.shape = torch.Size([self._ends[-1], shards[0].shape[1]])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Tensor:
        """Return rows start to stop, (n, D); a step is not supported."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f'rows are read in order, without step {step}.')
        parts = []
        for shard, end in zip(self.shards, self._ends):
            begin = end - len(shard)
            part = shard[max(start - begin, 0) : max(stop - begin, 0)]
            if len(part):
                parts.append(part)
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts) if parts else self.shards[0][:0]


@dataclass
class FeatureSet:
    """A set as evaluators get it; row i of each feature belongs to label i.

    Features are (N, D) and mapped from disk: slices are read when used.
    """

    labels: Labels
    features: dict[str, ShardedRows] = field(default_factory=dict)


@dataclass(frozen=True)
class FeatureProtocol:
    """Protocol of a number of features: the part that all evaluators share.

    An evaluator adds its own fields and a `__str__`, the sentence, which ends
    with `unreadable`.
    """

    feature: str
    train_set: str
    test_set: str
    num_train_images: int
    num_test_images: int
    num_train_unreadable: int = field(default=0, kw_only=True)
    num_test_unreadable: int = field(default=0, kw_only=True)

    @property
    def unreadable(self) -> str:
        """Say how many images were left out, if any."""
        return describe_unreadable(
            self.num_train_unreadable, self.num_test_unreadable
        )

    @classmethod
    def of(
        cls: type[Protocol],
        feature: str,
        bank: FeatureSet,
        test: FeatureSet,
        **own: Any,
    ) -> Protocol:
        """Fill in what the sets tell.

        Args:
            feature: Which of theirs was measured.
            bank: The training images.
            test: The test images.
            own: The fields that an evaluator adds.
        """
        return cls(
            feature=feature,
            train_set=bank.labels.root,
            test_set=test.labels.root,
            num_train_images=len(bank.labels.values),
            num_test_images=len(test.labels.values),
            num_train_unreadable=bank.labels.num_unreadable,
            num_test_unreadable=test.labels.num_unreadable,
            **own,
        )


def share(num_images: int, batch_size: int) -> range:
    """Return the images of this rank: whole batches, in the order of the set.

    Every image belongs to one rank, and the batches are those that a single
    rank would have.

    >>> share(10, 4)
    range(0, 10)
    """
    num_batches = -(-num_images // batch_size)
    rank, world_size = get_rank(), get_world_size()
    first, last = [
        batch_size * (num_batches * r // world_size) for r in (rank, rank + 1)
    ]
    return range(min(first, num_images), min(last, num_images))


@contextmanager
def writing(folder: Path, token: str) -> Iterator[Path]:
    """Let all ranks fill a folder that then appears whole, or not at all.

    `checkpoints.atomic.new_folder` is for one process: no other one knows the
    unfinished folder, and a finished one of the same name is an error.

    Args:
        folder: Its final path. If another run has finished it meanwhile, that
            one stays.
        token: The same on all ranks and nowhere else.

    Yields:
        The unfinished folder, to write to.
    """
    unfinished = folder.with_name(f'.{folder.name}.{token}')
    unfinished.mkdir(parents=True, exist_ok=True)
    barrier()
    try:
        yield unfinished
        barrier()
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if get_rank() == 0:
        try:
            unfinished.rename(folder)
        except OSError:
            if not (folder / META).is_file():
                raise
            shutil.rmtree(unfinished)
    barrier()


class ShardWriter:
    """Write this rank's rows of one feature, batch by batch.

    Args:
        folder: For the files of all ranks.
        num_rows: How many rows this rank will write.
        dtype: 'float16' or 'float32'.
    """

    def __init__(self, folder: Path, num_rows: int, dtype: str) -> None:
        self._path = folder / f'{get_rank():05}.npy'
        self._num_rows = num_rows
        self._dtype = dict(float16=torch.float16, float32=torch.float32)[dtype]
        self._array: np.memmap | None = None
        self._done = 0
        self._checksum = 0

    def write(self, rows: Tensor) -> None:
        """Append (n, D) finite rows; see `check_finite`."""
        numbers = rows.to(self._dtype).cpu().contiguous().numpy()
        if self._array is None:
            self._array = np.lib.format.open_memmap(
                self._path,
                'w+',
                numbers.dtype,
                (self._num_rows, numbers.shape[1]),
            )
        self._array[self._done : self._done + len(numbers)] = numbers
        self._done += len(numbers)
        self._checksum = zlib.crc32(numbers.data, self._checksum)

    def close(self) -> dict[str, int]:
        """Flush all rows to the disk; return the checksum by file name."""
        assert self._done == self._num_rows, (self._done, self._num_rows)
        if self._array is None:
            return {}
        self._array.flush()
        self._array = None
        return {self._path.name: self._checksum}


def check_finite(
    rows: Tensor, dtype: str, feature: str, paths: Sequence[str]
) -> None:
    """Refuse features that a file cannot hold as numbers.

    Args:
        rows: (n, D), as the network gave them.
        dtype: The type of the file, 'float16' or 'float32'.
        feature: Its name, for the message.
        paths: The n images.

    Raises:
        ValueError: A number is NaN or infinite, or becomes so in the file's
            type.
    """
    as_stored = rows.to(getattr(torch, dtype))
    is_bad = ~as_stored.isfinite().all(1)
    if not is_bad.any():
        return
    largest = float(rows.abs().max())
    advice = (
        f"its largest number is {largest:.3g}; set dtype='float32'."
        if math.isfinite(largest)
        else 'the weights are broken, or too large for the precision that '
        'they run in.'
    )
    bad = [path for path, wrong in zip(paths, is_bad.tolist()) if wrong]
    shown = ', '.join(bad[:3]) + ', ...' * (len(bad) > 3)
    raise ValueError(
        f'{feature} is not finite in {dtype} for {len(bad)} of a batch of '
        f'{len(rows)} images, {shown}: {advice}'
    )


def write_meta(
    folder: Path, num_rows: int, checksums: dict[str, int], about: dict
) -> None:
    """Describe the files of a folder; call it last, when all are complete."""
    meta = dict(about, num_rows=num_rows, checksums=checksums)
    write_atomic(folder / META, json.dumps(meta, indent=2) + '\n')


def open_rows(folder: Path) -> ShardedRows:
    """Map the rows of a folder.

    Raises:
        FileNotFoundError: Files of some ranks are missing.
        ValueError: A file is not one of rows.
    """
    meta = json.loads((folder / META).read_text())
    # Copy-on-write: torch warns of tensors on read-only memory.
    shards = [
        torch.from_numpy(np.load(folder / name, mmap_mode='c'))
        for name in sorted(meta['checksums'])
        if (folder / name).is_file()
    ]
    found = sum(len(shard) for shard in shards)
    if found != meta['num_rows']:
        raise FileNotFoundError(
            f'{folder} has {found} of {meta["num_rows"]} features; all '
            'machines of a run must share that folder. Set work_dir or '
            'cache_dir to one that they do.'
        )
    return ShardedRows(shards)


def find_fault(folder: Path, num_rows: int, dtype: str) -> str | None:
    """Say what is wrong with the features in a folder; None if nothing is.

    Reads all of them, since the disk does not tell what it has lost.

    Args:
        folder: As `open_rows` takes it.
        num_rows: How many rows are expected.
        dtype: 'float16' or 'float32'.
    """
    try:
        meta = json.loads((folder / META).read_text())
        checksums = meta['checksums']
        if meta['num_rows'] != num_rows:
            return f'{META} says {meta["num_rows"]} images, not {num_rows}'
        rows = open_rows(folder)
    except FileNotFoundError:
        return 'files are missing'
    # Anything, on files that something else has written.
    except Exception as error:
        return f'they cannot be read ({type(error).__name__})'
    for name, shard in zip(sorted(checksums), rows.shards):
        if shard.dtype != getattr(torch, dtype) or shard.dim() != 2:
            return f'{name} has {shard.dtype} {tuple(shard.shape)}'
        if zlib.crc32(shard.numpy().data) != checksums[name]:
            return f'{name} has changed since it was written'
    return None


def hash_modules(modules: Iterable[nn.Module]) -> str:
    """Hash what modules compute: structure, parameters and buffers."""
    digest = hashlib.sha256()
    for module in modules:
        digest.update(repr(module).encode())
        for tensors in (module.named_parameters(), module.named_buffers()):
            for name, tensor in tensors:
                digest.update(f'{name} {tensor.dtype} {tensor.shape}'.encode())
                raw = tensor.detach().cpu().contiguous().reshape(-1)
                digest.update(raw.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_images(paths: Sequence[str], labels: Tensor) -> str:
    """Hash the names, sizes, times and labels of image files.

    A file that was changed in place has a new time. In threads, since on a
    network disk each `stat` takes a while.
    """

    def status(path: str) -> str:
        try:
            of = os.stat(path)
        except OSError:
            return f'{path} cannot be read'
        return f'{path} {of.st_size} {of.st_mtime_ns}'

    def statuses(chunk: Sequence[str]) -> str:
        return '\n'.join(map(status, chunk))

    chunks = [paths[i : i + 1000] for i in range(0, len(paths), 1000)]
    digest = hashlib.sha256()
    with ThreadPoolExecutor(16) as pool:
        for text in pool.map(statuses, chunks):
            digest.update(f'{text}\n'.encode(errors='surrogateescape'))
    digest.update(labels.numpy().data)
    return digest.hexdigest()
