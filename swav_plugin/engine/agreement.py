"""What a run on several ranks decides together: to save, or to stop.

A signal or a clock tells one rank before the others, and all have to act at
the same iteration.
"""

import atexit
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import broadcast_object_list, get_world_size
from torch.utils.data import DataLoader

_STOP_SIGNALS = [
    getattr(signal, name)
    for name in ('SIGTERM', 'SIGUSR1')
    if hasattr(signal, name)
]


class Agreement:
    """Tell all ranks what any of them wants, one iteration later.

    Nobody waits: the numbers travel over gloo, beside the training step, and
    are read in the next iteration, when they have long arrived.

    >>> Agreement(2).exchange([0, 3])
    [0, 3]
    """

    def __init__(self, size: int) -> None:
        self._tensor = torch.zeros(size, dtype=torch.int64)
        self._pending: Any = None
        self._group: Any = None
        if get_world_size() > 1:
            self._group = dist.new_group(backend='gloo')

    def exchange(self, wishes: list[int]) -> list[int]:
        """Say what this rank wants; return what the ranks wanted before.

        All ranks have to call it equally often.

        Args:
            wishes: As many numbers as `size`.

        Returns:
            The largest of each number over the ranks, from the previous call:
            zeros from the first. From this call if there is one process.
        """
        if self._group is None:
            return wishes
        agreed = [0] * len(wishes)
        if self._pending is not None:
            self._pending.wait()
            agreed = self._tensor.tolist()
        self._tensor = torch.tensor(wishes)
        self._pending = dist.all_reduce(
            self._tensor, dist.ReduceOp.MAX, self._group, async_op=True
        )
        return agreed

    def finish(self) -> None:
        """Wait for the last exchange, so that no rank leaves before it."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None


def failure_of_rank_0(error: Exception | None) -> str | None:
    """Tell all ranks why rank 0, which alone writes files, could not.

    All ranks have to call it.

    Args:
        error: What was raised on this rank; only rank 0's counts.

    Returns:
        Its message on all ranks; None if there is no error.

    >>> failure_of_rank_0(OSError('No space left on device'))
    'No space left on device'
    """
    messages = [None if error is None else str(error)]
    broadcast_object_list(messages, src=0)
    return messages[0]


class Preempted(SystemExit):
    """A signal has asked the run to stop, and all of it is saved.

    It ends the process with code 75, which means "try again later"
    (EX_TEMPFAIL of sysexits.h).

    Args:
        number: Number of the signal.
        path: Path of the checkpoint; '' before there is anything to save.
    """

    CODE = 75

    def __init__(self, number: int, path: str = '') -> None:
        super().__init__(self.CODE)
        self.signal = signal.Signals(number).name
        self.message = f'stopped by {self.signal}' + (
            f'; --resume goes on from {path}'
            if path
            else ' before the first iteration; the same command starts again'
        )


class StopSignals:
    """Note SIGTERM and SIGUSR1, which ask a run to save and stop.

    Schedulers send them before they end a job. A second SIGTERM ends the
    process at once. Children die of them as ever, unless `keep_workers` has
    seen their loader.

    Args:
        at_once: There is nothing to save yet, so a signal raises `Preempted`;
            until another `StopSignals` inside of this one takes over.

    >>> with StopSignals() as signals:
    ...     signal.raise_signal(signal.SIGUSR1)
    ...     signals.received == signal.SIGUSR1
    True
    """

    def __init__(self, at_once: bool = False) -> None:
        self._at_once = at_once
        self.received = 0  # the number of the signal
        # The checkpoint while all is in it, such as during a validation: then
        # a signal stops the run at once.
        self.saved_path = ''
        self._before: dict[int, Any] = {}

    def __enter__(self) -> 'StopSignals':
        # Python allows it in no other thread.
        if threading.current_thread() is threading.main_thread():
            _die_of_signals_in_children()
            for number in _STOP_SIGNALS:
                before = signal.signal(number, self._note)
                outer = getattr(before, '__self__', None)
                if isinstance(outer, StopSignals):
                    # After the training it would say that none had begun.
                    before = outer._before.pop(number)
                self._before[number] = before
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore(self) -> None:
        """Let nothing interrupt the end of a run that has saved.

        It stays so until the process has ended, which with workers and NCCL
        takes a while: a signal in between would change its exit code.
        """
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._at_once or self.saved_path:
            self.ignore()
            raise Preempted(number, self.saved_path)
        if number == self.received == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = number


@functools.cache
def _die_of_signals_in_children() -> None:
    """Let forked children die of the signals that this process notes.

    Python forgets a signal that reaches a child while it is being forked if
    it has a handler for it, and who waits for that child then waits forever.
    So the signals wait until the child has the default action again.
    """
    if hasattr(os, 'register_at_fork'):  # not on Windows
        os.register_at_fork(
            before=_block, after_in_parent=_unblock, after_in_child=_reset
        )


def _block() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


def _reset() -> None:
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    _unblock()


def keep_workers(loader: DataLoader) -> DataLoader:
    """Let the workers of a loader live on when they get a signal to stop.

    torchrun, `timeout` and some configurations of Slurm signal all processes
    of a run, which needs its workers until it has saved.
    """
    _kill_workers_at_exit()
    loader.worker_init_fn = functools.partial(
        _start_worker, loader.worker_init_fn
    )
    return loader


def _start_worker(begin: Callable[[int], None] | None, worker_id: int) -> None:
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if begin is not None:
        begin(worker_id)


@functools.cache
def _kill_workers_at_exit() -> None:
    """Run before multiprocessing's own, which waits for what it terminates."""
    atexit.register(kill_workers)


def kill_workers() -> None:
    """End the data workers, at the end of this process."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and hasattr(signal, 'SIGCHLD'):
        # torch's handler raises an error for each.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in multiprocessing.active_children():
        worker.kill()
