"""What all commands share."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.commands import test, train
from swav_plugin.engine import launch, processes
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
            '[/__w/pytorch/gloo/transport/tcp/pair.cc:561] Connection closed '
            'by peer [127.0.0.1]:9436. This is typically ...\nGLHF!'
        )

    monkeypatch.setattr('sys.argv', ['/somewhere/train.py'])
    monkeypatch.setattr(launch, 'get_rank', lambda: 3)
    with pytest.raises(SystemExit) as exit_info:
        run_command(run, argparse.Namespace())
    assert exit_info.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('train.py: error: rank 3 lost the connection to ')
    assert line.endswith(' (Connection closed by peer [127.0.0.1]:9436)')


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


class Started(BaseException):
    """In place of becoming another program."""


@pytest.fixture
def started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str] | str]:
    """Run a command; return what it becomes, or its error."""
    for name in [*os.environ]:
        if name.startswith(('SLURM_', 'OMPI_')) or name == 'RANK':
            monkeypatch.delenv(name)
    # Restored even where the command sets it.
    monkeypatch.setenv('OMP_NUM_THREADS', '')
    monkeypatch.delenv('OMP_NUM_THREADS')
    found: list[str] = []

    def execve(program: str, arguments: list[str], env: dict) -> None:
        assert program == arguments[0] == sys.executable
        found[:] = arguments[1:]
        monkeypatch.setenv('SWAV_COMMAND', env['SWAV_COMMAND'])
        raise Started

    def run(main: Callable[[], None], *argv: object) -> list[str] | str:
        found.clear()
        monkeypatch.setattr('sys.argv', ['swav', *map(str, argv)])
        monkeypatch.setattr(os, 'execve', execve)
        monkeypatch.delenv('SWAV_COMMAND', raising=False)
        with pytest.raises((SystemExit, Started)) as end:
            main()
        error = capsys.readouterr().err
        assert bool(error) == isinstance(end.value, SystemExit)
        return error or found

    return run


DIGITS = 'swav_demo_digits'


def test_gpus_become_torchrun(
    started: Callable[..., list[str] | str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, 'get_device', lambda: 'cpu')
    data = tmp_path / 'my images'
    data.mkdir()
    command = started(
        train.main,
        *(DIGITS, '--gpu', 2, '--data', data, '--amp', '--resume'),
        *('--work-dir=-w', '--cfg-options', 'train_cfg.max_epochs=1'),
    )
    assert os.environ['OMP_NUM_THREADS'] == '1'
    # A run notes this, and not what torchrun starts.
    monkeypatch.setattr('sys.argv', command)
    assert processes.typed_command() == (
        f"swav {DIGITS} --gpu 2 --data '{data}' --amp --resume --work-dir=-w "
        '--cfg-options train_cfg.max_epochs=1'
    )
    start = '-m torch.distributed.run --standalone --nproc_per_node=2 -m'
    assert command[:6] == [*start.split(), 'swav_plugin.commands.train']
    # Each process reads what this one has read, except --gpus.
    assert command[-2:] == ['--launcher', 'pytorch']
    args = train.parse_args(command[6:])
    assert (args.config, args.gpus, args.data) == (DIGITS, None, str(data))
    assert (args.amp, args.resume, args.work_dir) == (True, 'newest', '-w')
    assert args.cfg_options == ['train_cfg.max_epochs=1']
    command = started(
        test.main,
        *('knn_imagenet', 'random', '--gpus', 3),
        *('--cfg-options', 'model.backbone.depth=18'),
    )
    assert '--nproc_per_node=3' in command
    args = test.parse_args(command[6:])
    assert (args.config, args.checkpoint) == ('knn_imagenet', 'random')
    assert (args.gpus, args.launcher) == (None, 'pytorch')
    assert args.cfg_options == ['model.backbone.depth=18']


def test_the_command_is_what_was_typed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv('SWAV_COMMAND', raising=False)
    for argv, typed in (
        (['swav train', 'a b.py'], "swav train 'a b.py'"),
        (['tools/train.py', 'a.py'], 'python tools/train.py a.py'),
    ):
        monkeypatch.setattr('sys.argv', argv)
        assert processes.typed_command() == typed


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (('--gpus', 3), '--gpus 3: only 2 are visible'),
        (('--gpus', -1), '--gpus -1: give 1 or more'),
        (('--gpus', 0), 'put CUDA_VISIBLE_DEVICES= in front'),
        (('--device', 'cpu'), 'put CUDA_VISIBLE_DEVICES= in front'),
        (('--gpus', 2, '--launcher', 'slurm'), 'starts the processes itself'),
        # In one line, not in one of each process.
        (('--gpus', 2, '--data', 'no_such'), 'no_such does not exist'),
        (('--gpus', 2, '--cfg-options', 'a=1'), "the config has no 'a'"),
        (('--gpus', 2, '--resume', 'no_such'), 'there is no checkpoint'),
    ],
)
def test_processes_that_cannot_start(
    argv: tuple[object, ...],
    message: str,
    started: Callable[..., list[str] | str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (processes, launch):
        monkeypatch.setattr(module, 'get_device', lambda: 'cuda')
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    error = started(train.main, DIGITS, *argv)
    assert isinstance(error, str)
    (line,) = error.splitlines()
    assert line.startswith('swav: error: ') and message in line


def test_a_misspelt_name_is_one_line(
    started: Callable[..., list[str] | str],
) -> None:
    assert started(train.main, 'swav_demo_digit', '--gpus', 2) == (
        'swav: error: there is no config swav_demo_digit; did you mean '
        'swav_demo_digits or swav_demo_images?\n'
    )
