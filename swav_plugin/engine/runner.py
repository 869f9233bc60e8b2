"""mmengine's Runner as our commands use it."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.logging import MMLogger
from mmengine.registry import FUNCTIONS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.checkpoints.newest import find_checkpoint
from swav_plugin.checkpoints.training_state import named_tensors
from swav_plugin.models.feature_pooling import UnfitOutput

from . import loops
from .agreement import (
    Preempted,
    StopSignals,
    failure_of_rank_0,
    keep_workers,
)
from .checks import check_same_start, digest_images
from .errors import DiskFull, UsageError, check_type, mistakes_in_one_line
from .hooks.finite import FiniteHook
from .out_of_memory import out_of_memory_in_one_line
from .processes import keep_threads
from .resume import (
    Settings,
    check_momenta,
    compare_batches,
    compare_configs,
    compare_images,
    config_text,
    iters_before,
    read_config_text,
)
from .screen import is_for_screen

# What mmengine and torch raise for a state that is not one.
_STATE_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)

# Ours for what train_cfg says: by_epoch, or mmengine's class or its name.
_LOOPS: dict[Any, type] = {
    True: loops.EpochBasedTrainLoop,
    False: loops.IterBasedTrainLoop,
    EpochBasedTrainLoop: loops.EpochBasedTrainLoop,
    IterBasedTrainLoop: loops.IterBasedTrainLoop,
    'EpochBasedTrainLoop': loops.EpochBasedTrainLoop,
    'IterBasedTrainLoop': loops.IterBasedTrainLoop,
}


@contextmanager
def stop_noted(work_dir: str) -> Iterator[None]:
    """Note which signal stops a run, for what started it.

    The file is gone while the run goes on. Ranks that have not found each
    other yet write the same.
    """
    note = Path(work_dir, 'stopped_by')
    if is_main_process():
        with suppress(OSError):
            note.unlink()
    try:
        yield
    except Preempted as stop:
        if is_main_process():
            with suppress(OSError):  # a full disk; the checkpoint counts
                note.write_text(f'{stop.signal}\n')
        raise


class CommandRunner(Runner):
    """mmengine's Runner with a short screen output and a resume that tells.

    On `resume`, state comes from the checkpoint and settings from the config;
    what differs is listed. Losses and weights that are not finite stop the
    training.
    """

    _saves_together = False

    def setup_env(self, env_cfg: dict) -> None:
        """Connect the processes, and check that all are of one run."""
        super().setup_env(env_cfg)
        if get_world_size() > 1:
            check_same_start(self.cfg)

    def build_visualizer(self, *args: Any, **kwargs: Any) -> Any:
        """Build what writes curves; a full disk only stops the curves."""
        built = super().build_visualizer(*args, **kwargs)
        built.add_scalars = self._unless_full(built.add_scalars)
        return built

    def _unless_full(self, write: Callable[..., None]) -> Callable[..., None]:
        """Warn, once, when there is no room to write."""

        def write_or_warn(*args: Any, **kwargs: Any) -> None:
            try:
                write(*args, **kwargs)
            except OSError as error:
                # mmengine drops a warning that equals an earlier one.
                self.logger.warning(f'The log cannot be written: {error}')

        return write_or_warn

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger; its screen leaves out what only files need."""
        built = super().build_logger(*args, **kwargs)
        for handler in built.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(is_for_screen)
                continue
            # The screen says that the disk is full; a traceback for each line
            # would hide it.
            handler.handleError = lambda record: None  # type: ignore
            if isinstance(handler.stream, TextIOWrapper):
                # File names may be any bytes.
                handler.stream.reconfigure(errors='backslashreplace')
        return built

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Build the schedulers; say what is wrong with their configs."""
        with mistakes_in_one_line(self.cfg):
            return super().build_param_scheduler(scheduler)

    def build_dataloader(
        self, dataloader: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Build a loader whose workers live until the run has saved.

        Says so if there is no such function to collate.
        """
        is_config = isinstance(dataloader, Mapping)
        collate = dataloader.get('collate_fn') if is_config else None
        if isinstance(collate, Mapping):
            check_type(self.cfg, collate, FUNCTIONS)
        return keep_workers(
            super().build_dataloader(dataloader, *args, **kwargs)
        )

    def build_train_loop(self, loop: Any) -> Any:
        """Build a loop that a resume can enter at any iteration."""
        # mmengine says so if both are given, or neither.
        if isinstance(loop, Mapping) and (
            ('type' in loop) != ('by_epoch' in loop)
        ):
            kind = loop.get('type', loop.get('by_epoch'))
            if kind in _LOOPS:
                rest = {k: v for k, v in loop.items() if k != 'by_epoch'}
                loop = {**rest, 'type': _LOOPS[kind]}
        return super().build_train_loop(loop)

    def _init_model_weights(self) -> None:
        """Initialize the model; say what is wrong with its init_cfg."""
        with mistakes_in_one_line(self.cfg):
            super()._init_model_weights()

    def train(self) -> Any:
        """Train, as long as losses and weights are finite.

        Raises:
            UsageError: They are not, memory runs out, or the backbone and
                the rest of the model do not fit together.
        """
        if not any(isinstance(hook, FiniteHook) for hook in self.hooks):
            self.register_hook(FiniteHook())
        try:
            with (
                StopSignals() as self.stop_signals,
                stop_noted(self.work_dir),
                out_of_memory_in_one_line(self),
            ):
                return super().train()
        except UnfitOutput as error:
            raise UsageError(str(error)) from error

    def save_checkpoint(
        self, *args: Any, meta: dict | None = None, **kwargs: Any
    ) -> None:
        """Save, with what a resume in other settings has to know.

        Raises:
            DiskFull: There is no room, or no permission; on the rank that
                writes, or on all in `saving_together`.
        """
        known = dict(
            num_processes=get_world_size(),
            iters_per_epoch=len(self.train_dataloader),
            **self._training_images,
        )
        if get_device() == 'cpu':
            known['num_threads'] = torch.get_num_threads()
        failed = None
        try:
            super().save_checkpoint(
                *args, meta={**known, **(meta or {})}, **kwargs
            )
        except OSError as error:
            failed = self._disk_full(error)
        if self._saves_together:
            message = failure_of_rank_0(failed)
            failed = None if message is None else DiskFull(message)
        if failed is not None:
            raise failed

    @contextmanager
    def saving_together(self) -> Iterator[None]:
        """Raise what rank 0 raises on all ranks; all of them have to save.

        Not always: somebody's hook may save on rank 0 alone.
        """
        before, self._saves_together = self._saves_together, True
        try:
            yield
        finally:
            self._saves_together = before

    def _disk_full(self, error: OSError) -> DiskFull:
        """Say how much room a checkpoint needs, and what there is."""
        state = [self.model.state_dict(), self.optim_wrapper.state_dict()]
        needed = sum(
            tensor.numel() * tensor.element_size()
            for _, tensor in named_tensors(state)
        )
        free = shutil.disk_usage(self.work_dir).free
        newest = find_checkpoint(self.work_dir)
        return DiskFull(
            f'no checkpoint can be saved: {error}. It needs '
            f'{needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free in '
            f'{self.work_dir}; make room or give another --work-dir. '
            + (
                f'The newest good one is {newest}.'
                if newest
                else 'None has been saved yet.'
            )
        )

    @cached_property
    def _training_images(self) -> dict[str, Any]:
        """What tells whether a resumed run has the same images."""
        dataset = self.train_dataloader.dataset
        return dict(
            num_images=len(dataset), image_list=digest_images(dataset)[0]
        )

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict:
        """Load, and keep what the checkpoint says of its run."""
        checkpoint = super().load_checkpoint(*args, **kwargs)
        self._loaded_meta = dict(checkpoint.get('meta') or {})
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume, with the settings of the config.

        Raises:
            UsageError: An epoch had another number of iterations, and the
                checkpoint is from the middle of one.
        """
        settings = Settings(self)
        seed = self._randomness_cfg.get('seed')
        try:
            super().resume(filename, *args, **kwargs)
        except (UsageError, CheckpointError, torch.cuda.OutOfMemoryError):
            raise  # says what is wrong, or is not about the state
        except _STATE_ERRORS as error:  # of what is inside of a state
            raise UsageError(
                f'--resume: {filename} is not a valid training state '
                f'({type(error).__name__}: {error}); give another checkpoint'
            ) from error
        check_momenta(self, filename)
        if get_device() == 'cpu':
            note = keep_threads(self._loaded_meta.get('num_threads'))
            if note:
                self.logger.info(note)
        self._use_seed(self.seed if seed is None else seed)
        changes = self._find_changes(self._loaded_meta)
        self._say_if_complete(filename)
        if not changes:
            return
        settings.restore(self)
        self.logger.warning(
            f'--resume: the run goes on from {filename} with other '
            f'settings: {"; ".join(changes)}'
        )

    def _use_seed(self, seed: int) -> None:
        """Draw from a seed: the config's, else that of the checkpoint.

        The sampler was built before the checkpoint was read.
        """
        if seed != self.seed:
            self._randomness_cfg.update(seed=seed)
            self.set_randomness(**self._randomness_cfg)
        sampler = getattr(
            self.train_dataloader.batch_sampler,
            'sampler',
            self.train_dataloader.sampler,
        )
        if hasattr(sampler, 'seed'):
            sampler.seed = seed

    def _say_if_complete(self, filename: str) -> None:
        """Warn if nothing is left to train."""
        by_epoch = isinstance(self.train_loop, EpochBasedTrainLoop)
        unit = 'epochs' if by_epoch else 'iters'
        done = self.epoch if by_epoch else self.iter
        if done >= getattr(self.train_loop, f'max_{unit}'):
            self.logger.warning(
                f'--resume: {filename} has all {done} {unit}: nothing is '
                f'left to train. To go on, give more train_cfg.max_{unit}.'
            )

    def _find_changes(self, meta: dict[str, Any]) -> list[str]:
        """List what a resumed run does differently.

        If an epoch has another number of iterations now, they are counted
        anew.
        """
        changes = []
        try:
            # Saved and read back, so that both are plain.
            old = read_config_text(str(meta.get('cfg_text', '')))
            new = read_config_text(config_text(self.cfg))
            changes += compare_configs(old, new)
            changes += compare_batches(
                old, new, meta.get('num_processes'), get_world_size()
            )
            changes += compare_images(old, new, meta, self._training_images)
        except ValueError as error:
            changes.append(
                f'unknown, since its config cannot be read ({error})'
            )
        if not isinstance(self.train_loop, EpochBasedTrainLoop):
            return changes
        before, now = iters_before(meta), len(self.train_dataloader)
        if before is None or before == now:
            return changes
        epoch, rest = divmod(self.iter, before)
        if rest:
            raise UsageError(
                f'--resume: the checkpoint is from the middle of an epoch of '
                f'{before} iterations, which now has {now}; give the same '
                'images and total batch, or resume the end of an epoch'
            )
        changes.append(f'iterations of an epoch: {before} -> {now}')
        # At the end of an epoch the checkpoint may not have counted it yet.
        self.train_loop._epoch = epoch
        self.train_loop._iter = epoch * now
        return changes
