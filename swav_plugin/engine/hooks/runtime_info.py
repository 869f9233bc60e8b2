"""Log what mmengine logs each iteration, without waiting for the device."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner
from torch import Tensor

from swav_plugin.registry import HOOKS


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's hook, which leaves losses on the device until they are read.

    mmengine reads the loss of every iteration, so that the host waits for
    the device and the device then waits for the host to prepare the next
    step. Here a line of the log reads those of its window at once; the
    numbers are the same. Replaces `RuntimeInfoHook` in `default_hooks`.
    """

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Note iteration and learning rate; let all scalars be deferred."""
        super().before_train_iter(runner, batch_idx, data_batch)
        scalars = runner.message_hub.log_scalars
        for name, history in scalars.items():
            if type(history) is HistoryBuffer:
                scalars[name] = ScalarHistory(history)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Note what the model logs: its losses."""
        scalars = runner.message_hub.log_scalars
        for name, value in (outputs or {}).items():
            history = scalars.get(f'train/{name}')
            if isinstance(history, ScalarHistory):
                history.update(value)
            else:  # the first iteration, or one that adds a scalar
                runner.message_hub.update_scalar(f'train/{name}', value)


class ScalarHistory(HistoryBuffer):
    """A `HistoryBuffer` that takes tensors and reads them when asked.

    It also grows in place: mmengine's copies itself at every update, 6 ms an
    iteration for the five scalars of a run that has come to a million. A copy
    of it, such as in a checkpoint, is a plain `HistoryBuffer`.

    Args:
        history: The values logged before.

    >>> history = ScalarHistory(HistoryBuffer([1., 2.], [1, 1]))
    >>> history.update(torch.tensor(6.))
    >>> float(history.mean()), float(history.mean(2))
    (3.0, 4.0)
    """

    # Unread values are small, but each keeps a block of device memory.
    MAX_UNREAD = 1000

    def __init__(self, history: HistoryBuffer) -> None:
        self._set_default_statistics()
        self.max_length = history.max_length
        self._values, self._counts = history.data
        self._length = len(self._values)
        self._unread: list[Tensor] = []

    def update(self, log_val: float | Tensor, count: int = 1) -> None:
        """Add a number, or a tensor of one element, whose count is 1."""
        if isinstance(log_val, Tensor):
            self._unread.append(log_val.detach().reshape(()))
            if len(self._unread) >= self.MAX_UNREAD:
                self._read()
        else:
            self._read()
            self._append(log_val, count)

    @property
    def _log_history(self) -> np.ndarray:
        """Return the values, (length,); mmengine's statistics read this."""
        self._read()
        return self._values[: self._length][-self.max_length :]

    @property
    def _count_history(self) -> np.ndarray:
        """Return how many values each entry sums up, (length,)."""
        self._read()
        return self._counts[: self._length][-self.max_length :]

    def _read(self) -> None:
        """Move what waits on the device to the host, all at once."""
        if self._unread:
            for value in torch.stack(self._unread).tolist():
                self._append(value, 1)
            self._unread = []

    def _append(self, value: float, count: int) -> None:
        if self._length == len(self._values):
            # Twice the room, so that a value is moved twice on average.
            self._values = _with_room(self._values[-self.max_length :], float)
            self._counts = _with_room(self._counts[-self.max_length :], int)
            self._length = min(self._length, self.max_length)
        self._values[self._length] = value
        self._counts[self._length] = count
        self._length += 1

    def __reduce__(self) -> tuple[Callable, tuple]:
        return HistoryBuffer, (*self.data, self.max_length)


def _with_room(array: np.ndarray, dtype: type) -> np.ndarray:
    """Copy (N,) to the front of (2 N + 1,)."""
    larger: np.ndarray = np.empty(2 * len(array) + 1, dtype)
    larger[: len(array)] = array
    return larger
