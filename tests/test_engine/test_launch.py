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
