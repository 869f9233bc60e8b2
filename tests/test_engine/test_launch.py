"""Arguments that all commands share, and names that moved."""

import argparse
import importlib
import os
import warnings
from pathlib import Path

import pytest

from swav_plugin.engine import launch
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


@pytest.mark.parametrize(
    'module, name',
    [
        ('config', 'load_config'),
        ('config', 'parse_options'),
        ('checks', 'check_labels'),
        ('processes', 'set_launcher'),
        ('processes', 'count_cores'),
    ],
)
def test_names_that_moved_work_and_warn(module: str, name: str) -> None:
    new = importlib.import_module(f'swav_plugin.engine.{module}')
    with pytest.warns(
        DeprecationWarning, match=f'{name} is now swav_plugin.engine.{module}'
    ) as warned:
        assert getattr(launch, name) is getattr(new, name)
    assert warned[0].filename == __file__
    with pytest.raises(ImportError, match='nothing'):
        from swav_plugin.engine.launch import nothing  # noqa: F401


def test_every_name_of_version_0_1_is_found() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for name in (
            'UsageError add_common_arguments check_batches check_keys '
            'check_labels check_load_from check_resume check_weights '
            'count_cores end_processes find_checkpoint find_weights '
            'init_cpu_group leave_cores_to_workers leave_cpu_group '
            'load_config mistakes_in_one_line parse_options '
            'prepare_processes run_command set_common set_launcher '
            'set_mixed_precision'
        ).split():
            assert callable(getattr(launch, name)), name


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
