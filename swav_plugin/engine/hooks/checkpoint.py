"""Save checkpoints; delete an old one only when its successor is whole."""

import os.path as osp
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import Runner, find_latest_checkpoint

from swav_plugin.checkpoints.digests import note_digest
from swav_plugin.checkpoints.rebuild import to_plain
from swav_plugin.registry import HOOKS


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

    Arguments are those of mmengine's hook.
    """

    file_backend: Any
    _best_before: dict[str, str] = {}

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Note which files were the best ones of a run that is resumed."""
        meta = checkpoint.get('meta')
        if isinstance(meta, dict):
            self._best_before = meta.get('best_checkpoints') or {}

    def before_train(self, runner: Runner) -> None:
        """Find the folder, and what this run wrote there before."""
        info = runner.message_hub.runtime_info
        kept = info.pop('keep_ckpt_ids', None)
        super().before_train(runner)
        self.file_backend = _DeleteLater(self.file_backend)
        if not self._resumes_here(runner):
            return
        if self.max_keep_ckpts > 0 and isinstance(kept, list):
            steps = [step for step in kept if type(step) is int]
            for step in steps[: -self.max_keep_ckpts]:
                self.file_backend.remove(self._path_of(step))
            self.keep_ckpt_ids = deque(steps, self.max_keep_ckpts)
        if self.save_best is not None and isinstance(self._best_before, dict):
            self._take_over_best(self._best_before)

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
        """Write what a resume needs as tensors and plain values."""
        for key, value in checkpoint.items():
            if key != 'state_dict':
                checkpoint[key] = to_plain(value)
        best = {key: osp.basename(path) for key, path in self._best()}
        if best:
            checkpoint['meta']['best_checkpoints'] = best

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        """Save, note the digest, then delete what is too old."""
        super()._save_checkpoint_with_step(runner, step, meta)
        self._note_and_delete([self.last_ckpt])

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save if it is the best, note it, then delete the one that was."""
        before = {path for _, path in self._best()}
        super()._save_best_checkpoint(runner, metrics)
        now = {path for _, path in self._best()}
        self._note_and_delete(now - before)

    def _note_and_delete(self, written: Iterable[str]) -> None:
        """Note digests of new files; delete those that they replace."""
        if not is_main_process():
            return
        for path in written:
            if osp.isfile(path):  # and not on a server
                note_digest(Path(path))
        best = {path for _, path in self._best()}
        self.file_backend.delete(best | {self.last_ckpt})
