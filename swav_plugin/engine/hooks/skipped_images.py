"""Tell the user which images could not be read, and stop if they are many."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import (
    all_gather_object,
    barrier,
    broadcast_object_list,
    is_main_process,
)
from mmengine.runner import Runner

from swav_plugin.datasets.image_folder import NoReadableImage
from swav_plugin.datasets.transforms.loading import read_rgb
from swav_plugin.datasets.unreadable import find_unreadable, own_reader
from swav_plugin.datasets.view_batch import LazyDataSamples
from swav_plugin.registry import HOOKS

from ..errors import UsageError
from .replaceable import ReplaceableHook

MAX_SHARE = 0.05  # of files that cannot be read


@HOOKS.register_module()
class SkippedImagesHook(ReplaceableHook):
    """Count the images that the data pipeline replaced by others.

    The pipeline notes them as ``data_samples[i].skipped``, a list of
    'path: reason'. The ranks put their lists together after each pass over
    the data (in runs by epoch and by iteration alike), at the end and, so
    that a bad set stops early, after 1, 2, 4, 8, ... iterations:
    ``skipped_images.txt`` in the work directory gets each new entry. After a
    pass the log warns with the count and the first names.

    Args:
        num_names: How many names the log shows.
        max_share: The run stops as soon as more than this share of all files
            of the training set has turned out to be unreadable, before a
            resume or since. One alone never stops it; 1 for never.
    """

    def __init__(
        self, num_names: int = 5, max_share: float = MAX_SHARE
    ) -> None:
        is_number = isinstance(max_share, (int, float))
        if not is_number or not 0 <= max_share <= 1:
            raise ValueError(
                f'SkippedImagesHook got max_share={max_share!r}; give a share '
                'of the images, from 0 to 1.'
            )
        self.num_names = num_names
        self.max_share = max_share
        self._num_iters = 0
        self._own: list[str] = []  # of this rank, since the last merge
        self._unreported: set[str] = set()  # of all ranks
        self._all: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Count what a resumed run found before, unless it was repaired."""
        if not runner._resume:
            return
        noted = [_noted_files(runner) if is_main_process() else []]
        broadcast_object_list(noted, src=0)
        read = own_reader(_dataset(runner.train_dataloader)) or read_rgb
        found = find_unreadable(noted[0], decode=True, read=read)
        self._all = {_in_one_line(str(error)) for error in found.values()}

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Collect this batch; report when all data have been seen once."""
        self._own += _skipped(data_batch)
        self._num_iters += 1
        if self.every_n_train_iters(runner, len(runner.train_dataloader)):
            self._merge(runner)
            self._report(runner, runner.iter + 1)
        elif self._num_iters & (self._num_iters - 1) == 0:
            self._merge(runner)

    def after_train(self, runner: Runner) -> None:
        """Report what came after the last full pass."""
        self._merge(runner)
        self._report(runner, runner.iter)

    def _merge(self, runner: Runner) -> None:
        """Put the lists of all ranks together, store and count them.

        Raises:
            UsageError: They are too many; on all ranks, after all is stored.
        """
        found = {
            entry
            for entries in all_gather_object(self._own)
            for entry in entries
        }
        self._own = []
        if not found:
            return
        self._unreported |= found
        self._all |= {_in_one_line(entry) for entry in found}
        if is_main_process():
            _store(runner, found)
        num_images = len(_dataset(runner.train_dataloader))
        if len(self._all) > max(1, self.max_share * num_images):
            barrier()  # or a rank that ends could take rank 0 with it
            raise UsageError(
                f'{len(self._all):,} of {num_images:,} images cannot be read, '
                f'more than max_share={self.max_share:g} of them: '
                f'{self._shown(self._all)} All are listed in '
                f'{_list_file(runner)}. Repair or remove them, or set '
                'max_share of SkippedImagesHook '
                '(default_hooks.skipped_images.max_share=0.2).'
            )

    def _report(self, runner: Runner, num_iters: int) -> None:
        """Log what was skipped since the last time."""
        if self._unreported and is_main_process():
            # mmengine drops a warning that equals an earlier one.
            runner.logger.warning(
                f'Iteration {num_iters}: unreadable images since the last '
                f'count: {len(self._unreported)}. Others took their place; '
                f'all are listed in {_list_file(runner)}: '
                f'{self._shown(self._unreported)}'
            )
        self._unreported.clear()

    def _shown(self, entries: Iterable[str]) -> str:
        """Return the first few of the entries."""
        names = sorted(entries)
        more = '; ...' if len(names) > self.num_names else '.'
        return '; '.join(names[: self.num_names]) + more

    def store_own(self, runner: Runner, others: Iterable[str] = ()) -> None:
        """Store what this rank has not merged yet, without the other ranks.

        Args:
            runner: The Runner.
            others: More entries.
        """
        _store(runner, {*self._own, *others})
        self._own = []


@contextmanager
def skipped_images_stored(runner: Runner) -> Iterator[None]:
    """Let `SkippedImagesHook` store its list also if training fails.

    Raises:
        UsageError: In place of a `NoReadableImage`.
    """
    try:
        yield
    except BaseException as error:
        others = error.skipped if isinstance(error, NoReadableImage) else []
        for hook in runner.hooks:
            if isinstance(hook, SkippedImagesHook):
                hook.store_own(runner, others)
        if others:
            raise UsageError(
                f'{len(others)} images drawn one after another cannot be '
                f'read, such as {others[-1]}; the list is in '
                f'{_list_file(runner)}.'
            ) from error
        raise


def _list_file(runner: Runner) -> Path:
    """Return the file that lists unreadable images."""
    return Path(runner.work_dir) / 'skipped_images.txt'


def _store(runner: Runner, entries: set[str]) -> None:
    """Add entries to the list, each once; a resumed run continues it."""
    if not entries:
        return
    # File names need not be valid UTF-8.
    with open(
        _list_file(runner), 'a+', encoding='utf-8', errors='surrogateescape'
    ) as out:
        out.seek(0)
        known = set(out.read().split('\n'))
        lines = {_in_one_line(entry) for entry in entries}
        out.writelines(f'{line}\n' for line in sorted(lines - known))


def _in_one_line(entry: str) -> str:
    r"""Escape line breaks, which names may have.

    >>> _in_one_line('a\nb.jpg: broken')
    'a\\nb.jpg: broken'
    """
    return entry.replace('\n', '\\n').replace('\r', '\\r')


def _noted_files(runner: Runner) -> list[str]:
    """Return the files of the list that are still there.

    >>> from types import SimpleNamespace
    >>> _noted_files(SimpleNamespace(work_dir='no such folder'))
    []
    """
    try:
        text = _list_file(runner).read_text('utf-8', 'surrogateescape')
    except OSError:
        return []
    files = []
    for line in text.split('\n'):
        # 'path: reason', and either may have a colon.
        ends = [found.start() for found in re.finditer(': ', line)]
        files += [line[:end] for end in ends if os.path.isfile(line[:end])][:1]
    return files


def _dataset(loader: Any) -> Any:
    """Return the set of images, however often it is repeated."""
    dataset = loader.dataset
    while hasattr(dataset, 'dataset'):  # mmengine's RepeatDataset
        dataset = dataset.dataset
    return dataset


def _skipped(data_batch: Any) -> list[str]:
    """Return what the pipeline skipped for a collated batch."""
    samples = (
        data_batch.get('data_samples')
        if isinstance(data_batch, dict)
        else None
    )
    if isinstance(samples, LazyDataSamples):
        return samples.skipped
    return [
        entry
        for sample in samples or ()
        for entry in sample.get('skipped') or ()
    ]
