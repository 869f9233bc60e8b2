"""A run that is stopped at any moment goes on as if nothing had happened."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swav_plugin.engine.agreement import Preempted, StopSignals

from ..conftest import REPO_ROOT
from ..test_commands.test_train import environment, free_port
from .kill_trials import run_trials
from .ranks import Ranks
from .recipe import (
    differences,
    draw_images,
    final_state,
    losses,
    train_here,
    write_config,
)

# The same by iterations, batches counted over epochs; and with a seed that is
# drawn and only the checkpoint knows.
BY_ITERATION = """
randomness = dict(_delete_=True, seed=None)
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=10)
default_hooks['checkpoint'].update(by_epoch=False, interval=10)
log_processor['by_epoch'] = False
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False)]
"""


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty drawn JPEGs: 5 batches of 8."""
    return draw_images(tmp_path_factory.mktemp('images'))


@pytest.fixture
def config(tmp_path: Path, images: Path) -> Callable[..., str]:
    """Write the config, with more lines at its end."""
    return lambda more='': write_config(tmp_path / 'config.py', images, more)


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Compare bit for bit."""
    assert not differences(one, other)


@pytest.mark.parametrize('more', ['', BY_ITERATION], ids=['epochs', 'iters'])
def test_resume_from_any_iteration(
    more: str,
    config: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved = tmp_path / 'saved'
    saved.mkdir()
    note_saved = train_hooks().CheckpointHook._note_saved

    def keep(self: Any, iters: int, name: str) -> None:
        note_saved(self, iters, name)
        path = tmp_path / 'whole/latest.pth'
        if path.exists():
            shutil.copy(path, saved / f'{iters}.pth')

    monkeypatch.setattr(train_hooks().CheckpointHook, '_note_saved', keep)
    path = config(more)
    train_here(monkeypatch, path, tmp_path / 'whole')
    monkeypatch.undo()
    expected = final_state(tmp_path / 'whole')
    trace = losses(tmp_path / 'whole')
    assert sorted(trace) == [*range(1, 11)]
    # 3: a gradient waits. 5: the end of an epoch, before anything was done
    # about it. 8: in the second epoch.
    for iters in (3, 5, 8):
        work_dir = tmp_path / f'from_{iters}'
        work_dir.mkdir()
        state = torch.load(saved / f'{iters}.pth', weights_only=True)
        assert state['meta']['iter'] == iters
        assert ('gradients' in state) == (iters % 2 == 1)
        shutil.copy(saved / f'{iters}.pth', work_dir / 'latest.pth')
        train_here(monkeypatch, path, work_dir, '--resume')
        assert losses(work_dir) == {
            i: loss for i, loss in trace.items() if i > iters
        }
        assert_same(final_state(work_dir), expected)


def train_hooks() -> Any:
    """Return the module of our CheckpointHook."""
    from swav_plugin.engine.hooks import checkpoint

    return checkpoint


@pytest.fixture(scope='module')
def on_two_ranks(
    tmp_path_factory: pytest.TempPathFactory, images: Path
) -> Path:
    """Work dir of a run in one go, with its config beside it."""
    folder = tmp_path_factory.mktemp('two')
    more = 'train_dataloader["batch_size"] = 4\n'
    config = write_config(folder / 'config.py', images, more)
    run = Ranks(2, folder / 'said', config, '--work-dir', str(folder / 'w'))
    assert run.wait() == [0, 0], run.said()
    return folder / 'w'


def start(config: str, work_dir: Path, *argv: str) -> subprocess.Popen:
    """Start two ranks with torchrun; return when they train."""
    process = subprocess.Popen(
        [
            str(REPO_ROOT / 'tools/dist_train.sh'),
            config,
            '2',
            '--work-dir',
            str(work_dir),
            *argv,
        ],
        env=environment(PORT=free_port()),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    begun = []
    for line in process.stdout:
        begun.append(line)
        if 'Epoch(train)' in line:
            return process
    pytest.fail(''.join(begun))


def test_two_ranks_are_killed_or_told_to_stop(
    on_two_ranks: Path, tmp_path: Path
) -> None:
    """SIGKILL, then SIGTERM, then to the end: equal to a run in one go."""
    config = str(on_two_ranks.parent / 'config.py')
    work_dir = tmp_path / 'broken'
    argv = (config, '--work-dir', str(work_dir))
    killed = Ranks(2, tmp_path / 'killed', *argv)
    killed.wait_for('Epoch(train)', 3)
    killed.send(signal.SIGKILL)
    assert killed.wait() == [-9, -9]
    stopped = start(config, work_dir, '--resume')
    stopped.terminate()  # torchrun tells its ranks
    said, _ = stopped.communicate(timeout=120)
    assert said.count('stopped by SIGTERM; --resume goes on from') == 2, said
    assert stopped.returncode != 0
    rest = Ranks(2, tmp_path / 'rest', *argv, '--resume')
    assert rest.wait() == [0, 0], rest.said()
    assert losses(work_dir) == losses(on_two_ranks)
    assert_same(final_state(work_dir), final_state(on_two_ranks))


def test_kills_at_random_moments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More, and on several ranks: python -m tests.test_faults.kill_trials."""
    assert run_trials(1, 2, tmp_path, epochs=2) == 2, capsys.readouterr().out


def test_slurm_goes_on_by_itself(
    config: Callable[..., str], tmp_path: Path
) -> None:
    """With an `srun` that signals its first task while that trains."""
    fake = tmp_path / 'bin/srun'
    fake.parent.mkdir()
    fake.write_text(
        '#!/bin/bash\n'
        'echo "srun $*" >> "$CALLS"\n'
        'while [[ $1 == --* ]]; do shift; done\n'
        'args=("$@"); unset "args[-1]" "args[-1]"\n'  # --launcher slurm
        'if [[ $(wc -l < "$CALLS") -gt 1 ]]; then exec "${args[@]}"; fi\n'
        '"${args[@]}" & task=$!\n'
        'until ls "$WORK"/*.pth 2> /dev/null; do sleep 0.05; done\n'
        'kill -USR1 $task; wait $task\n'
    )
    fake.chmod(0o755)
    calls, work_dir = tmp_path / 'calls', tmp_path / 'work'
    done = subprocess.run(
        [
            REPO_ROOT / 'tools/slurm_train.sh',
            'part',
            'job',
            config(),
            work_dir,
            '--amp',
        ],
        env=environment(
            PATH=f'{fake.parent}:{os.environ["PATH"]}',
            CALLS=str(calls),
            WORK=str(work_dir),
        ),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 'stopped by SIGUSR1' in done.stderr
    first, second = calls.read_text().splitlines()
    assert '--signal=USR1@120' in first
    assert first == second  # both with --resume
    assert '--resume' in first
    assert sorted(losses(work_dir)) == [*range(1, 11)]
    assert final_state(work_dir)


def test_no_signal_changes_the_code_of_a_run_that_has_saved() -> None:
    """Slurm sends SIGTERM to the other tasks as soon as one has ended."""
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGUSR1)
        assert signals.received == signal.SIGUSR1
        signals.ignore()
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
        signal.raise_signal(number)  # its default action ends the process


def test_a_batch_job_is_queued_again(tmp_path: Path) -> None:
    """With an `srun` that ends as a run does that was stopped."""
    for name, text in {
        'srun': f'echo "$*" > {tmp_path}/called; exit {Preempted.CODE}',
        'scontrol': f'echo "$*" > {tmp_path}/queued',
    }.items():
        path = tmp_path / name
        path.write_text(f'#!/bin/bash\n{text}\n')
        path.chmod(0o755)
    command = [
        REPO_ROOT / 'tools/slurm_train.sh',
        *('part', 'job', 'config.py', 'work', '--overwrite'),
    ]
    env = environment(
        PATH=f'{tmp_path}:{os.environ["PATH"]}', SLURM_JOB_ID='17'
    )
    assert subprocess.run(command, env=env).returncode == 0
    assert (tmp_path / 'queued').read_text() == 'requeue 17\n'
    assert '--overwrite' in (tmp_path / 'called').read_text()
    # Queued again, the same command goes on instead of starting over, from
    # the newest checkpoint.
    env['SLURM_RESTART_COUNT'] = '1'
    for first in (['--overwrite'], ['--resume', 'a.pth'], ['--resume=a.pth']):
        command[5:] = [*first, '--amp']
        assert subprocess.run(command, env=env).returncode == 0
        called = (tmp_path / 'called').read_text().split()
        assert called[-5:-2] == ['work', '--amp', '--resume'], called
        assert called.count('--resume') == 1
