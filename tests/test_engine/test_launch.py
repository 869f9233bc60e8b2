"""What all commands share."""

import argparse
import json
import time
from pathlib import Path

import pytest

from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import run_command


@pytest.mark.parametrize('kind', [UsageError, CheckpointError])
def test_a_mistake_ends_in_one_line(
    kind: type[Exception],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def run(args: argparse.Namespace) -> None:
        raise kind('no such thing')

    monkeypatch.setattr('sys.argv', ['/somewhere/train.py'])
    with pytest.raises(SystemExit) as exit_info:
        run_command(run, argparse.Namespace())
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == 'train.py: error: no such thing\n'
    # What torchrun's summary shows.
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(tmp_path / 'error'))
    with pytest.raises(SystemExit):
        run_command(run, argparse.Namespace(launcher='pytorch'))
    told = json.loads((tmp_path / 'error').read_text())['message']
    assert told['message'] == 'no such thing'
    assert abs(time.time() - int(told['extraInfo']['timestamp'])) < 600


def test_a_lost_connection_ends_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(args: argparse.Namespace) -> None:
        raise RuntimeError(
            '[pair.cc:561] Connection closed by peer [127.0.0.1]:9436.\nMore.'
        )

    monkeypatch.setattr('sys.argv', ['/somewhere/train.py'])
    with pytest.raises(SystemExit) as exit_info:
        run_command(run, argparse.Namespace())
    assert exit_info.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('train.py: error: lost the connection to another')
    assert line.endswith('closed by peer [127.0.0.1]:9436. More.)')


def test_other_errors_of_torch_keep_their_traceback() -> None:
    def run(args: argparse.Namespace) -> None:
        raise RuntimeError('shapes do not match')

    with pytest.raises(RuntimeError, match='shapes do not match'):
        run_command(run, argparse.Namespace())


def test_an_interrupt_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def run(args: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as exit_info:
        run_command(run, argparse.Namespace(), interrupted='stopped here')
    assert exit_info.value.code == 130
    assert capsys.readouterr().err == 'stopped here\n'
