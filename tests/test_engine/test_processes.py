"""Check how processes are prepared, and that none is left behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from swav_plugin.engine import processes
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.processes import find_launcher, set_launcher

TORCHRUN = dict(
    RANK='1', WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT='29500'
)


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without anything of a launcher."""
    names = ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
    for name in [*os.environ]:
        if name.startswith(('SLURM_', 'OMPI_')) or name in names:
            monkeypatch.delenv(name)


def test_launcher_on_cpu(
    no_launcher: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, 'get_device', lambda: 'cpu')
    for name, value in (TORCHRUN | dict(RANK='0', WORLD_SIZE='1')).items():
        monkeypatch.setenv(name, value)
    cfg = Config(
        dict(
            find_unused_parameters=True,
            model_wrapper_cfg=dict(type='Other', static_graph=True),
        )
    )
    set_launcher(cfg, 'none')
    assert cfg.launcher == 'none' and cfg.model_wrapper_cfg.type == 'Other'
    set_launcher(cfg, 'pytorch')
    assert cfg.model_wrapper_cfg == dict(
        type='swav_plugin.engine.CPUDistributedDataParallel',
        find_unused_parameters=True,
        static_graph=True,
    )
    with pytest.raises(UsageError, match='slurm needs GPUs, .*dist_train.sh'):
        set_launcher(cfg, 'slurm')


@pytest.mark.parametrize(
    'variables, launcher',
    [
        (dict(RANK='1', WORLD_SIZE='2'), 'pytorch'),
        (dict(RANK='0', WORLD_SIZE='1'), 'none'),
        (dict(SLURM_PROCID='0', SLURM_STEP_ID='0', SLURM_NTASKS='2'), 'slurm'),
        (dict(SLURM_PROCID='1', SLURM_NTASKS='2'), 'slurm'),
        # The shell of salloc or of a batch script.
        (dict(SLURM_NTASKS='8'), 'none'),
        (dict(SLURM_PROCID='0', SLURM_NTASKS='8'), 'none'),
        # salloc with use_interactive_step.
        (
            dict(
                SLURM_PROCID='0',
                SLURM_STEP_ID='4294967290',
                SLURM_NTASKS='8',
                SLURM_STEP_NUM_TASKS='1',
            ),
            'none',
        ),
        (dict(OMPI_COMM_WORLD_SIZE='4'), 'mpi'),
    ],
)
def test_launcher_of_the_environment(
    no_launcher: None,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    launcher: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert find_launcher() == launcher


ORPHAN = """
import sys, time
from swav_plugin.engine.processes import end_with_parent
end_with_parent()
print('ready', flush=True)
time.sleep(600)
"""
LAUNCHER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, '-c', sys.argv[1]])
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='Linux only')
def test_a_rank_ends_with_its_launcher() -> None:
    launcher = subprocess.Popen(
        [sys.executable, '-c', LAUNCHER, ORPHAN],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert launcher.stdout is not None
    rank = Path('/proc', launcher.stdout.readline().strip())
    assert launcher.stdout.readline() == 'ready\n'
    launcher.kill()
    launcher.wait()
    for _ in range(600):
        # What nobody waits for stays as a zombie, if at all.
        if not rank.exists() or ') Z' in (rank / 'stat').read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f'{rank} lives on')


def test_launcher_without_torchrun(no_launcher: None) -> None:
    with pytest.raises(UsageError, match='use tools/dist_train.sh CONFIG'):
        set_launcher(Config(), 'pytorch')


@pytest.mark.parametrize(
    'variables, message',
    [
        (dict(WORLD_SIZE='x'), "WORLD_SIZE is 'x', but launchers"),
        (dict(RANK='a'), "RANK is 'a', but launchers"),
        (dict(MASTER_ADDR=''), 'needs the environment variable MASTER_ADDR'),
        (dict(MASTER_PORT=''), 'needs the environment variable MASTER_PORT'),
        (dict(MASTER_PORT='99999'), 'MASTER_PORT=99999 is not a port'),
        (dict(RANK='5'), 'RANK=5, but WORLD_SIZE=2: ranks are 0 to 1'),
        (
            dict(RANK='', SLURM_STEP_ID='0', SLURM_NTASKS='two'),
            "SLURM_NTASKS is 'two', but launchers",
        ),
    ],
)
def test_a_broken_environment_is_one_line(
    no_launcher: None,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    message: str,
) -> None:
    for name, value in (TORCHRUN | variables).items():
        if name == 'RANK' and not value:
            continue
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message):
        set_launcher(Config(), 'none')


def test_what_was_not_given_is_not_blamed(
    no_launcher: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, 'get_device', lambda: 'cpu')
    monkeypatch.setenv('SLURM_STEP_ID', '0')
    monkeypatch.setenv('SLURM_NTASKS', '2(x3)')
    with pytest.raises(
        UsageError, match='slurm .detected from the environment'
    ):
        set_launcher(Config(), 'none')


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    for name, value in (TORCHRUN | dict(LOCAL_WORLD_SIZE='2')).items():
        monkeypatch.setenv(name, value)
    cfg = Config()
    set_launcher(cfg, 'pytorch')
    assert 'model_wrapper_cfg' not in cfg
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    with pytest.raises(UsageError, match='4 processes .* only 2 GPUs'):
        set_launcher(cfg, 'pytorch')


LOADS_MASKS = """
import argparse, sys, time
from torch.utils.data import DataLoader
from swav_plugin.engine.launch import run_command

class Masks:
    def __len__(self):
        return 9

    def __getitem__(self, index):
        return bytes(2**20)

def run(args):
    loader = DataLoader(Masks(), batch_size=None, num_workers=1)
    batches = iter(loader)
    next(batches)
    print(batches._workers[0].pid, flush=True)
    time.sleep(60)

run_command(run, argparse.Namespace(launcher='none'))
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='on Linux only')
def test_workers_end_with_what_is_killed() -> None:
    process = subprocess.Popen(
        [sys.executable, '-c', LOADS_MASKS], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    worker = Path('/proc', process.stdout.readline().strip())
    assert worker.exists()
    process.kill()
    process.wait(60)
    deadline = time.monotonic() + 60
    while worker.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not worker.exists()
