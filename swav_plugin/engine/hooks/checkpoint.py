"""Save checkpoints; delete an old one only when its successor is whole."""

import logging
import os.path as osp
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import Runner, find_latest_checkpoint

from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.checkpoints.digests import note_digest
from swav_plugin.checkpoints.model_settings import KEY
from swav_plugin.checkpoints.newest import LATEST
from swav_plugin.checkpoints.rebuild import to_plain
from swav_plugin.models.find_settings import find_settings
from swav_plugin.registry import HOOKS

from ..agreement import Agreement, Preempted, failure_of_rank_0
from ..errors import DiskFull
from ..gradients import gather_gradients, restore_gradients
from ..wrappers import unwrap
from .finite import save_finite, skips_bad_steps


class _DeleteLater:
    """A file backend that keeps files until `delete` says to go ahead.

    Args:
        backend: What really does all this.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._old: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def isdir(self, path: str) -> bool:
        """Return False: a folder is not a checkpoint, and never deleted."""
        return False

    def remove(self, path: str) -> None:
        """Note a file that is to be deleted."""
        self._old.append(path)

    def forget(self) -> None:
        """Keep what was to be deleted: its successor was not saved."""
        self._old.clear()

    def delete(self, current: set[str]) -> None:
        """Delete what was noted, unless a new file has its name."""
        while self._old:
            path = self._old.pop()
            if path not in current and self._backend.isfile(path):
                self._backend.remove(path)


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's hook, which deletes old checkpoints too early.

    mmengine makes room for the new file first: after a failure, such as a
    full disk, `max_keep_ckpts=1` and `save_best` have none. Here the old file
    goes when the new one is on the disk. On a resume the hook deletes only
    what this run wrote before, in its own folder. Checkpoints hold tensors
    and plain values only, so that plain `torch.load` reads them.

    Between these checkpoints it keeps another one, `latest.pth`: every half
    hour, before a validation, and when SIGTERM or SIGUSR1 asks the run to
    stop. The next one takes its place.

    Args:
        *args: As for mmengine's hook.
        interval_minutes: Save `latest.pth` when nothing was saved for this
            long; None for never.
        interval_iters: Save `latest.pth` every so many iterations, too; None
            for not.
        **kwargs: As for mmengine's hook.

    Raises:
        Preempted: In `after_train_iter`, after a signal and a save.
    """

    file_backend: Any
    last_ckpt: Any
    _best_before: dict[str, str] = {}
    _gradients: Any = None  # of a run that is resumed
    _gathered: Any = None  # to be saved
    _failure: DiskFull | None = None  # of the last save
    _agreement: Agreement | None = None  # while training

    def __init__(
        self,
        *args: Any,
        interval_minutes: float | None = 30,
        interval_iters: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        for name, value in dict(
            interval_minutes=interval_minutes, interval_iters=interval_iters
        ).items():
            if value is not None and value <= 0:
                raise ValueError(
                    f'CheckpointHook got {name}={value}; give a number above '
                    '0, or None for never.'
                )
        self.interval_minutes = interval_minutes
        self.interval_iters = interval_iters

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Note what a run that is resumed had beside its weights."""
        self._gradients = checkpoint.get('gradients')
        if self._gradients:
            runner.logger.addFilter(_has_lost_none)
        meta = checkpoint.get('meta')
        if isinstance(meta, dict):
            self._best_before = meta.get('best_checkpoints') or {}

    def before_train(self, runner: Runner) -> None:
        """Find the folder, and what this run wrote there before."""
        info = runner.message_hub.runtime_info
        kept = info.pop('keep_ckpt_ids', None)
        super().before_train(runner)
        self.file_backend = _DeleteLater(self.file_backend)
        self._agreement = Agreement(2)
        self._has_just_saved = False
        self._note_saved(runner.iter, '')
        restore_gradients(runner, self._gradients)
        self._gradients = None
        runner.logger.removeFilter(_has_lost_none)
        if not self._resumes_here(runner):
            return
        if self.max_keep_ckpts > 0 and isinstance(kept, list):
            steps = [step for step in kept if type(step) is int]
            for step in steps[: -self.max_keep_ckpts]:
                self.file_backend.remove(self._path_of(step))
            self.keep_ckpt_ids = deque(steps, self.max_keep_ckpts)
        if self.save_best is not None and isinstance(self._best_before, dict):
            self._take_over_best(self._best_before)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Save if it is time to; stop if a signal asks for it."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        assert self._agreement is not None
        iters = runner.iter + 1
        signals = getattr(runner, 'stop_signals', None)
        stop, is_late = self._agreement.exchange(
            [signals.received if signals else 0, int(self._is_late())]
        )
        # What rank 0 said before the last save arrives after it.
        is_late = is_late and not self._has_just_saved
        self._has_just_saved = False
        is_due = self.interval_iters and iters % self.interval_iters == 0
        if (stop or is_late or is_due) and self._saved_iters < iters:
            self._save_latest(runner, iters)
            self._has_just_saved = True
        if stop:
            self._agreement.finish()
            if signals:
                signals.ignore()
            barrier()  # a launcher ends the others when the first one ends
            raise self._failure or Preempted(stop, self._saved_path)

    def before_val(self, runner: Runner) -> None:
        """Save first, so that a signal need not wait for the validation."""
        if self._agreement is None:
            return
        if self._saved_iters < runner.iter:
            self._save_latest(runner, runner.iter)
        signals = getattr(runner, 'stop_signals', None)
        if signals and not self._failure:
            signals.saved_path = self._saved_path

    def after_val(self, runner: Runner) -> None:
        """From here on, a signal waits for a save again."""
        if getattr(runner, 'stop_signals', None):
            runner.stop_signals.saved_path = ''

    def after_train(self, runner: Runner) -> None:
        """Publish; fail if the end of the run could not be saved."""
        if self._agreement is not None:
            self._agreement.finish()
            self._agreement = None
        if self._failure:
            raise self._failure
        super().after_train(runner)

    def _is_late(self) -> bool:
        """Return True if this rank thinks that it is time to save."""
        if self.interval_minutes is None or not is_main_process():
            return False
        return time.monotonic() > self._saved_at + 60 * self.interval_minutes

    def _note_saved(self, iters: int, path: str) -> None:
        """Note that all up to an iteration is saved, or failed to be."""
        self._saved_iters, self._saved_path = iters, path
        self._saved_at = time.monotonic()

    def _resumes_here(self, runner: Runner) -> bool:
        """Return True if a checkpoint in the run's own folder is resumed."""
        if not runner._resume:
            return False
        source = runner._load_from or find_latest_checkpoint(runner.work_dir)
        if source is None or '://' in source:
            return False
        folder = Path(source).expanduser().resolve().parent
        return folder == Path(self.out_dir).resolve()

    def _path_of(self, step: int) -> str:
        return self.file_backend.join_path(
            self.out_dir, self.filename_tmpl.format(step)
        )

    def _take_over_best(self, names: dict[str, str]) -> None:
        """Remember the best checkpoints, each of a metric, by their names."""
        for metric in self.key_indicators:
            name = names.get(metric)
            if metric == 'auto' and len(names) == 1:  # found out at the first
                (name,) = names.values()
            if not isinstance(name, str) or osp.basename(name) != name:
                continue
            path = self.file_backend.join_path(self.out_dir, name)
            if not name.startswith('best_') or not osp.isfile(path):
                continue
            if len(self.key_indicators) == 1:
                self.best_ckpt_path = path
            else:
                self.best_ckpt_path_dict[metric] = path

    def _best(self) -> Iterator[tuple[str, str]]:
        """Yield metrics and the paths of their best checkpoints."""
        if self.save_best is None:
            return
        if len(self.key_indicators) == 1:
            paths = {self.key_indicators[0]: self.best_ckpt_path}
        else:
            paths = self.best_ckpt_path_dict
        yield from ((key, path) for key, path in paths.items() if path)

    def before_save_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Write what a resume needs as tensors and plain values.

        Also what the use of the weights needs; see `ModelSettings`.
        """
        for key, value in checkpoint.items():
            if key != 'state_dict':
                checkpoint[key] = to_plain(value)
        settings = find_settings(unwrap(runner.model), runner.cfg)
        if settings is not None:
            checkpoint['meta'][KEY] = settings.to_plain()
        if self._gathered:
            if not skips_bad_steps(runner):
                save_finite(runner, self._gathered, 'the gradient of rank')
            checkpoint['gradients'] = self._gathered
        best = {key: osp.basename(path) for key, path in self._best()}
        if best:
            checkpoint['meta']['best_checkpoints'] = best

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        """Save, note the digest, then delete what is too old.

        If the disk is full, nothing is deleted and the run goes on.
        """
        last, kept = self.last_ckpt, [*getattr(self, 'keep_ckpt_ids', ())]
        self._gathered = gather_gradients(runner)
        runner.call_hook('gather_state')
        failed: Exception | None = None
        try:
            with _saving_together(runner):
                super()._save_checkpoint_with_step(runner, step, meta)
        except (DiskFull, OSError) as error:
            failed = error
        finally:
            self._gathered = None
        if self._is_saved(runner, failed):
            latest = self.file_backend.join_path(self.out_dir, LATEST)
            if is_main_process() and self.file_backend.isfile(latest):
                self.file_backend.remove(latest)
            self._note_and_delete(runner, [self.last_ckpt])
        else:
            self.last_ckpt = last
            if self.max_keep_ckpts > 0:
                self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
                runner.message_hub.update_info('keep_ckpt_ids', kept)
        self._note_saved(meta['iter'], self.last_ckpt)

    def _save_latest(self, runner: Runner, iters: int) -> None:
        """Save `latest.pth` in place of the one before."""
        path = self.file_backend.join_path(self.out_dir, LATEST)
        self._gathered = gather_gradients(runner)
        runner.call_hook('gather_state')
        failed: Exception | None = None
        try:
            runner.save_checkpoint(
                self.out_dir,
                LATEST,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=dict(epoch=runner.epoch, iter=iters),
                by_epoch=False,
                backend_args=self.backend_args,
                **self.args,
            )
            if is_main_process():
                write_atomic(Path(runner.work_dir, 'last_checkpoint'), path)
                self._note_digest(runner, path)
        except (DiskFull, OSError) as error:
            failed = error
        finally:
            self._gathered = None
        self._is_saved(runner, failed)
        self._note_saved(iters, path)

    def _is_saved(self, runner: Runner, error: Exception | None) -> bool:
        """Check, on all ranks, that rank 0 could save.

        If not, the log says so; a later save may have the room.
        """
        if error is not None and not isinstance(error, DiskFull):
            error = DiskFull(f'no checkpoint can be saved: {error}.')
        message = failure_of_rank_0(error)
        self._failure = None if message is None else DiskFull(message)
        if self._failure is None:
            return True
        self.file_backend.forget()
        runner.logger.error(f'{message} Training goes on meanwhile.')
        return False

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save if it is the best, note it, then delete the one that was."""
        before = dict(self._best())
        info = runner.message_hub.runtime_info
        scores = {k: v for k, v in info.items() if k.startswith('best_')}
        try:
            with _saving_together(runner):
                super()._save_best_checkpoint(runner, metrics)
        except (DiskFull, OSError) as error:  # on all ranks
            # The next one that is better than the last saved one is saved.
            for key in [key for key in info if key.startswith('best_')]:
                del info[key]
            info.update(scores)
            if len(self.key_indicators) == 1:
                self.best_ckpt_path = next(iter(before.values()), None)
            else:
                for key in self.key_indicators:
                    self.best_ckpt_path_dict[key] = before.get(key)
            self._is_saved(runner, error)
            return
        now = {path for _, path in self._best()}
        self._note_and_delete(runner, now - {*before.values()})

    def _note_and_delete(self, runner: Runner, written: Iterable[str]) -> None:
        """Note digests of new files; delete those that they replace."""
        if not is_main_process():
            return
        for path in written:
            self._note_digest(runner, path)
        best = {path for _, path in self._best()}
        self.file_backend.delete(best | {self.last_ckpt})

    def _note_digest(self, runner: Runner, path: str) -> None:
        """Note the digest of a file that was saved, if there is room."""
        try:
            if osp.isfile(path):  # and not on a server
                note_digest(Path(path))
        except OSError as error:
            runner.logger.warning(
                f'{path} was saved; its digest could not be noted: {error}'
            )


def _has_lost_none(record: logging.LogRecord) -> bool:
    """Leave out a warning of mmengine: gradients that waited are restored."""
    return not record.getMessage().startswith(
        'Resumed iteration number is not divisible by `_accumulative_counts`'
    )


def _saving_together(runner: Runner) -> AbstractContextManager[None]:
    """Let rank 0's failure be raised on all ranks, by our Runner at least."""
    return getattr(runner, 'saving_together', nullcontext)()
