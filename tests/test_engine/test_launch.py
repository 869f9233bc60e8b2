"""What all commands share."""

import argparse

import pytest

from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import run_command


@pytest.mark.parametrize('kind', [UsageError, CheckpointError])
def test_a_mistake_ends_in_one_line(
    kind: type[Exception],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(args: argparse.Namespace) -> None:
        raise kind('no such thing')

    monkeypatch.setattr('sys.argv', ['/somewhere/train.py'])
    with pytest.raises(SystemExit) as exit_info:
        run_command(run, argparse.Namespace())
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == 'train.py: error: no such thing\n'
    with pytest.raises(kind):  # torchrun's summary has it
        run_command(run, argparse.Namespace(launcher='pytorch'))
