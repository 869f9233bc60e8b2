"""What all commands share."""

import argparse
import os
from pathlib import Path

import pytest

from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import find_checkpoint, run_command


def test_newest_checkpoint(tmp_path: Path) -> None:
    assert find_checkpoint(str(tmp_path)) is None
    assert find_checkpoint(str(tmp_path / 'absent')) is None
    for seconds, name in enumerate(
        ['epoch_10.pth', 'epoch_9.pth', 'best_knn.pth']
    ):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    newest = str(tmp_path / 'epoch_9.pth')
    assert find_checkpoint(str(tmp_path)) == newest
    note = tmp_path / 'last_checkpoint'
    # mmengine's note counts, also in a folder that was moved ...
    note.write_text('/old/place/epoch_10.pth\n')
    assert find_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_10.pth')
    # ... but not if it was cut short or names a file that is gone.
    for text in ('', '/old/place/epoch_11.pth'):
        note.write_text(text)
        assert find_checkpoint(str(tmp_path)) == newest


def test_a_mistake_ends_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(args: argparse.Namespace) -> None:
        raise UsageError('no such thing')

    monkeypatch.setattr('sys.argv', ['/somewhere/train.py'])
    with pytest.raises(SystemExit) as exit_info:
        run_command(run, argparse.Namespace())
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == 'train.py: error: no such thing\n'
    with pytest.raises(UsageError):  # torchrun's summary has it
        run_command(run, argparse.Namespace(launcher='pytorch'))
