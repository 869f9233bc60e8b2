"""Arguments that all commands share, and names that moved."""

import argparse
import importlib
import warnings

import pytest

from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.engine import launch
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import run_command


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
