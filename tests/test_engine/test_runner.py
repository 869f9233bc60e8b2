"""What `CommandRunner` makes of the errors of mmengine and torch."""

from unittest.mock import Mock

import pytest
import torch
from mmengine.runner import Runner

from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.engine import runner as module
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.runner import CommandRunner


def _resume(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resume from a file whose loading ends in an error."""
    monkeypatch.setattr(Runner, 'resume', Mock(side_effect=error))
    monkeypatch.setattr(module, 'Settings', Mock())
    runner = CommandRunner.__new__(CommandRunner)
    runner._randomness_cfg = {}
    runner.resume('epoch_1.pth')


@pytest.mark.parametrize(
    'error',
    [
        KeyError('optimizer'),
        RuntimeError('Error(s) in loading state_dict'),
        ZeroDivisionError(),
    ],
)
def test_a_broken_state_is_told_in_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match='epoch_1.pth is not a valid'):
        _resume(error, monkeypatch)


@pytest.mark.parametrize(
    'error',
    [
        torch.cuda.OutOfMemoryError('CUDA out of memory.'),
        MemoryError(),
        CheckpointError('epoch_1.pth is cut short'),
        UsageError('--resume: epoch_1.pth has other weights'),
    ],
)
def test_other_errors_stay_as_they_are(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little memory says nothing about the file."""
    with pytest.raises(type(error)) as raised:
        _resume(error, monkeypatch)
    assert raised.value is error


def test_a_loop_with_type_and_by_epoch_is_left_to_mmengine() -> None:
    loop = dict(type='EpochBasedTrainLoop', by_epoch=True, max_epochs=1)
    with pytest.raises(RuntimeError, match='Only one of `type` or `by_epoch`'):
        CommandRunner.__new__(CommandRunner).build_train_loop(loop)
