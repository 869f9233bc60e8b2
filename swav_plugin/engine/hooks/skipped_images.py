"""Tell the user which images could not be read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, is_main_process
from mmengine.runner import Runner

from swav_plugin.registry import HOOKS

from .replaceable import ReplaceableHook


@HOOKS.register_module()
class SkippedImagesHook(ReplaceableHook):
    """Count the images that the data pipeline replaced by others.

    The pipeline notes them as ``data_samples[i].skipped``, a list of
    'path: reason'. After each pass over the data (in runs by epoch and by
    iteration alike) and at the end, the ranks put their lists together: the
    log warns with the count and the first names, and
    ``skipped_images.txt`` in the work directory gets each new entry.

    Args:
        num_names: How many names the log shows.
    """

    def __init__(self, num_names: int = 5) -> None:
        self.num_names = num_names
        self._skipped: list[str] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Collect this batch; report when all data have been seen once."""
        for sample in _data_samples(data_batch):
            self._skipped += sample.get('skipped') or []
        if self.every_n_train_iters(runner, len(runner.train_dataloader)):
            self._report(runner, runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        """Report what came after the last full pass."""
        self._report(runner, runner.iter)

    def _report(self, runner: Runner, num_iters: int) -> None:
        """Merge the lists of all ranks, log and store them."""
        skipped = {
            entry
            for entries in all_gather_object(self._skipped)
            for entry in entries
        }
        self._skipped = []
        if not skipped or not is_main_process():
            return
        names = sorted(skipped)
        file = Path(runner.work_dir) / 'skipped_images.txt'
        shown = '; '.join(names[: self.num_names])
        more = '; ...' if len(names) > self.num_names else ''
        # mmengine drops a warning that repeats an earlier one word for word.
        runner.logger.warning(
            f'Iteration {num_iters}: unreadable images since the last count: '
            f'{len(names)}. Others took their place; all are listed in '
            f'{file}: {shown}{more}'
        )
        # File names need not be valid UTF-8. A resumed run continues the file.
        with open(
            file, 'a+', encoding='utf-8', errors='surrogateescape'
        ) as out:
            out.seek(0)
            known = set(out.read().split('\n'))
            out.writelines(f'{name}\n' for name in names if name not in known)


def _data_samples(data_batch: Any) -> Sequence:
    """Return the data samples of a collated batch, if it has any."""
    if isinstance(data_batch, dict):
        return data_batch.get('data_samples') or ()
    return ()
