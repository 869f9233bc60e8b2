"""Features of many images, part by part on disk: an ended run can go on.

Parts are files in a hidden folder beside the output, .OUT.parts. Each holds
the features of a few whole batches, so that they are the same whoever
computes it. When all are there, the output is put together from them, and the
folder goes.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch

from swav_plugin.checkpoints.atomic import open_atomic, write_atomic
from swav_plugin.datasets.transforms.loading import UnreadableImage
from swav_plugin.engine.errors import UsageError
from swav_plugin.evaluation.feature_store import hash_images, hash_modules

from .batches import (
    Extraction,
    check_unreadable,
    files_of,
    run_batches,
    settings_of,
)
from .files import write_features
from .images import file_of, hash_pixels
from .layers import used_modules

_BATCHES = 8  # in a part
_KEY = 'key.json'


@dataclass(frozen=True)
class Parts:
    """The parts of one extraction.

    Args:
        job: What is computed.
        folder: Folder of the parts.
    """

    job: Extraction
    folder: Path

    def __len__(self) -> int:
        return -(-len(self.job.samples) // self._size)

    @property
    def _size(self) -> int:
        """Images in a part."""
        return _BATCHES * self.job.batch_size

    def batches(self, part: int) -> list[range]:
        """Return the images of each batch of a part."""
        begin = part * self._size
        return self.job.batches(begin, begin + self._size)

    def missing(self) -> list[int]:
        """Return the parts that are still to be computed."""
        return [i for i in range(len(self)) if not self._file(i).is_file()]

    def num_done(self) -> int:
        """Return how many images the parts that are there hold."""
        missing = [len(b) for i in self.missing() for b in self.batches(i)]
        return len(self.job.samples) - sum(missing)

    def _file(self, part: int, suffix: str = '.npy') -> Path:
        return self.folder / f'{part:06}{suffix}'

    def write(
        self,
        part: int,
        rows: np.ndarray,
        unreadable: dict[int, UnreadableImage],
    ) -> None:
        """Write the (n, C) features of a part and what could not be read."""
        if unreadable:
            reasons = {i: each.reason for i, each in unreadable.items()}
            write_atomic(self._file(part, '.json'), json.dumps(reasons))
        # Last: the part is done when this file is there.
        with open_atomic(self._file(part)) as file:
            np.save(file, rows)

    def read(self) -> Iterator[np.ndarray]:
        """Yield the (n, C) features of all parts, mapped, in order."""
        for part in range(len(self)):
            rows = np.load(self._file(part), mmap_mode='r')
            if len(rows):
                yield rows

    def unreadable(self) -> dict[int, UnreadableImage]:
        """Return what could not be read in the parts that are there."""
        return {
            int(index): UnreadableImage(
                file_of(self.job.samples[int(index)]), reason
            )
            for path in sorted(self.folder.glob('*.json'))
            if path.name != _KEY
            for index, reason in json.loads(path.read_text()).items()
        }

    def remove(self) -> None:
        """Remove them, when the output is there."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def open_parts(
    out: Path, model: Any, job: Extraction, overwrite: bool = False
) -> Iterator[Parts]:
    """Make or find the parts of an output, for this process alone.

    Args:
        out: The output, a file or a folder.
        model: As for `run_batches`.
        job: What to compute.
        overwrite: Remove parts of another extraction.

    Raises:
        UsageError: Another process computes the same output; or there are
            parts of another extraction.
    """
    folder = out.with_name(f'.{out.name}.parts')
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / 'lock')
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise UsageError(
            f'another process is computing {out}; wait, or give another name'
        ) from None
    try:
        _claim(
            folder,
            out,
            dict(_describe(model, job), key=_key(model, job)),
            overwrite,
        )
        yield Parts(job, folder)
    finally:
        lock.release()


def _describe(model: Any, job: Extraction) -> dict[str, Any]:
    """Return what a user can tell an extraction by."""
    settings = settings_of(model, job.size)
    return dict(
        images=len(job.samples),
        layer=job.layer,
        size=settings.size,
        resize=settings.resize,
        batch_size=job.batch_size,
        amp=job.amp,
    )


def _key(model: Any, job: Extraction) -> str:
    """Hash all that features depend on: network, images and options."""
    paths = [
        sample['img_path'] for sample in job.samples if 'img_path' in sample
    ]
    parts = [
        hash_modules(used_modules(model, job.layer)),
        hash_images(paths, torch.empty(0)),
        hash_pixels(job.samples),
        json.dumps(_describe(model, job)),
    ]
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()


def _claim(
    folder: Path, out: Path, about: dict[str, Any], overwrite: bool
) -> None:
    """Note whose parts a folder holds; remove those of another extraction."""
    path = folder / _KEY
    found = json.loads(path.read_text()) if path.is_file() else None
    if found == about:
        return
    # Without any part nothing is lost: that run ended at its first images.
    if found is not None and not overwrite and any(folder.glob('*.npy')):
        differences = [
            f'{name} {found.get(name)}, not {value}'
            for name, value in about.items()
            if name != 'key' and found.get(name) != value
        ]
        raise UsageError(
            f'{folder} holds parts of another run that has not finished, with '
            f'{", ".join(differences) or "another network or other images"}: '
            f'finish that one, give another name than {out}, or remove '
            'that folder'
        )
    for part in (*folder.glob('*.npy'), *folder.glob('*.json')):
        part.unlink()
    write_atomic(path, json.dumps(about, indent=2))


def fill_parts(
    model: Any,
    parts: Parts,
    advance: Callable[[int], None] = lambda count: None,
    num_workers: int | None = None,
    rank: int = 0,
    num_processes: int = 1,
) -> None:
    """Compute the parts that are missing, or one process's share of them.

    Args:
        model: As for `run_batches`.
        parts: The parts.
        advance: Called with the number of images of each batch.
        num_workers: As for `extract_features`.
        rank: Which of the processes this is.
        num_processes: How many share the work.
    """
    own = [part for part in parts.missing() if part % num_processes == rank]
    results = run_batches(
        model,
        parts.job,
        [batch for part in own for batch in parts.batches(part)],
        num_workers,
        num_processes,
    )
    num_unreadable = 0
    for part in own:
        rows, unreadable = [], {}
        for _ in parts.batches(part):
            batch, features = next(results)
            if len(features):
                rows.append(features)
            unreadable.update(batch.unreadable)
            check_unreadable(parts.job, unreadable, num_unreadable)
            advance(len(batch.indices))
        num_unreadable += len(unreadable)
        joined = torch.cat(rows) if rows else torch.empty(0, 0)
        parts.write(part, joined.cpu().numpy(), unreadable)


def put_together(parts: Parts, out: Path) -> dict[int, UnreadableImage]:
    """Write the features of all parts to a file; the parts stay.

    Args:
        parts: All of them, computed.
        out: The file, which may be elsewhere than the parts.

    Returns:
        The images that were left out, which are also listed beside it.

    Raises:
        UnreadableImage: There are some, and they were not to be skipped.
        UsageError: The parts are damaged.
    """
    unreadable = parts.unreadable()
    check_unreadable(parts.job, unreadable)
    if unreadable and not parts.job.skip_unreadable:
        raise next(iter(unreadable.values()))
    files = files_of(parts.job, unreadable)
    shapes = [block.shape for block in parts.read()]
    width = shapes[0][1]
    if sum(rows for rows, _ in shapes) != len(files):
        raise UsageError(f'{parts.folder} is damaged; remove it and repeat')
    write_features(out, files, width, parts.read(), unreadable.values())
    return unreadable
