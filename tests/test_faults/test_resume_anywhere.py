"""A run that is stopped at any moment goes on as if nothing had happened."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swav_plugin.commands import train
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
        (log,) = work_dir.glob('*/*.log')
        assert 'gradient of some iterations is lost' not in log.read_text()


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
    """SIGKILL, then SIGTERM, then to the end: equal to a run in one go.

    torchrun sends SIGTERM to the data workers, too.
    """
    config = str(on_two_ranks.parent / 'config.py')
    work_dir = tmp_path / 'broken'
    argv = (config, '--work-dir', str(work_dir))
    killed = Ranks(2, tmp_path / 'killed', *argv)
    killed.wait_for('Epoch(train)', 3)
    killed.send(signal.SIGKILL)
    assert killed.wait() == [-9, -9]
    workers = ['--cfg-options', 'train_dataloader.num_workers=2']
    stopped = start(config, work_dir, '--resume', *workers)
    stopped.terminate()  # torchrun tells its ranks
    said, _ = stopped.communicate(timeout=120)
    assert said.count('stopped by SIGTERM; --resume goes on from') == 2, said
    assert stopped.returncode == 1  # torchrun's, whatever ended its ranks
    assert (work_dir / 'stopped_by').read_text() == 'SIGTERM\n'
    rest = Ranks(2, tmp_path / 'rest', *argv, '--resume')
    assert rest.wait() == [0, 0], rest.said()
    assert not (work_dir / 'stopped_by').exists()
    assert losses(work_dir) == losses(on_two_ranks)
    assert_same(final_state(work_dir), final_state(on_two_ranks))


def test_a_signal_under_load(
    config: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All cores are busy when it comes."""
    path, work_dir = config(), tmp_path / 'w'
    run = Ranks(1, tmp_path / 'said', path, '--work-dir', str(work_dir))
    run.wait_for('Epoch(train)')
    loop = [sys.executable, '-c', 'while True: pass']
    busy = [subprocess.Popen(loop) for _ in range(2)]
    try:
        run.wait_for('Epoch(train)', 2)
        run.send(signal.SIGTERM)
        assert run.wait(60) == [Preempted.CODE], run.said()
    finally:
        for process in busy:
            process.kill()
            process.wait()
    train_here(monkeypatch, path, work_dir, '--resume')
    train_here(monkeypatch, path, tmp_path / 'whole')
    assert_same(final_state(work_dir), final_state(tmp_path / 'whole'))


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


def test_a_signal_in_a_validation_is_the_last(tmp_path: Path) -> None:
    """Slurm may send SIGTERM to a task that is on its way out."""
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)]
    with pytest.raises(Preempted), StopSignals() as signals:
        signals.saved_path = 'latest.pth'
        signal.raise_signal(signal.SIGUSR1)
    try:
        signal.raise_signal(signal.SIGTERM)  # would end this process
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGUSR1, before[1])


def test_a_signal_before_training(
    config: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """While images are listed, say: code 75 and a line, so Slurm requeues."""

    def died(number: int, frame: object) -> None:
        raise AssertionError('the default action would end the process')

    def send(*_: object) -> None:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)  # on its way out

    numbers = (signal.SIGTERM, signal.SIGUSR1)
    before = [signal.signal(number, died) for number in numbers]
    try:
        monkeypatch.setattr(train, 'check_images', send)
        with pytest.raises(SystemExit) as ended:
            train_here(monkeypatch, config(), tmp_path / 'w')
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
    assert ended.value.code == 75
    assert capsys.readouterr().err.splitlines()[-1] == (
        'stopped by SIGUSR1 before the first iteration; the same command '
        'starts again'
    )
    assert (tmp_path / 'w/stopped_by').read_text() == 'SIGUSR1\n'


def test_the_training_takes_the_signals_over() -> None:
    """From what stops at once; afterwards there is nothing to stop."""
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)]
    with StopSignals(at_once=True):
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGUSR1)
            assert signals.received == signal.SIGUSR1
        now = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)]
        assert now == before


@pytest.fixture
def slurm(tmp_path: Path) -> Callable[..., 'subprocess.CompletedProcess[str]']:
    """Run slurm_train.sh, with an `srun` of a run that was stopped."""
    for name, text in {
        'srun': 'echo "$*" >> called\n'
        '[[ -z $SAYS ]] || echo "$SAYS" > work/stopped_by\n'
        'exit 75',
        'scontrol': 'if [[ $* == "--oneliner show job 17" ]]; then\n'
        '  echo "JobId=16 JobName=a JobState=RUNNING Reason=None"\n'
        '  echo "JobId=17 JobName=b JobState=$STATE Reason=None"\n'
        'else echo "$*" > queued; fi',
    }.items():
        path = tmp_path / name
        path.write_text(f'#!/bin/bash\n{text}\n')
        path.chmod(0o755)
    (tmp_path / 'work').mkdir()
    script = REPO_ROOT / 'tools/slurm_train.sh'

    def run(*more: str, **env: str) -> 'subprocess.CompletedProcess[str]':
        (tmp_path / 'queued').unlink(missing_ok=True)
        (tmp_path / 'called').unlink(missing_ok=True)
        return subprocess.run(
            [script, *('part', 'job', 'config.py', 'work'), *more],
            env=environment(PATH=f'{tmp_path}:{os.environ["PATH"]}', **env),
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


def test_a_batch_job_is_queued_again(
    slurm: Callable[..., 'subprocess.CompletedProcess[str]'], tmp_path: Path
) -> None:
    env = dict(SLURM_JOB_ID='17', STATE='RUNNING')
    assert slurm('--overwrite', **env).returncode == 0
    assert (tmp_path / 'queued').read_text() == 'requeue 17\n'
    assert '--overwrite' in (tmp_path / 'called').read_text()
    # Queued again, the same command goes on instead of starting over, from
    # the newest checkpoint.
    env['SLURM_RESTART_COUNT'] = '1'
    for first in (['--overwrite'], ['--resume', 'a.pth'], ['--resume=a.pth']):
        assert slurm(*first, '--amp', **env).returncode == 0
        called = (tmp_path / 'called').read_text().split()
        assert called[-5:-2] == ['work', '--amp', '--resume'], called
        assert called.count('--resume') == 1


@pytest.mark.parametrize('state', ['COMPLETING', 'CANCELLED', ''])
def test_a_cancelled_job_stays_cancelled(
    state: str,
    slurm: Callable[..., 'subprocess.CompletedProcess[str]'],
    tmp_path: Path,
) -> None:
    """Its tasks get SIGTERM and save, as before a preemption."""
    done = slurm(SLURM_JOB_ID='17', STATE=state)
    assert done.returncode == Preempted.CODE
    assert not (tmp_path / 'queued').exists()
    assert done.stderr == (
        f'slurm_train.sh: job 17 is {state or "unknown to scontrol"}, so it '
        'is not queued again; the same command goes on from work\n'
    )


@pytest.mark.parametrize('says', ['SIGTERM', ''])
def test_srun_that_was_cancelled_is_not_started_again(
    says: str,
    slurm: Callable[..., 'subprocess.CompletedProcess[str]'],
    tmp_path: Path,
) -> None:
    """With no batch job around it, whose state could be asked for."""
    (tmp_path / 'work/stopped_by').write_text('SIGUSR1\n')  # an earlier start
    done = slurm(SAYS=says)
    assert done.returncode == Preempted.CODE
    assert len((tmp_path / 'called').read_text().splitlines()) == 1
    assert done.stderr == (
        f'slurm_train.sh: stopped by {says or "an unknown signal"}, not by '
        'the end of its time (SIGUSR1), so it is not started again; the same '
        'command goes on from work\n'
    )


def test_starts_that_save_nothing_come_to_an_end(
    slurm: Callable[..., 'subprocess.CompletedProcess[str]'], tmp_path: Path
) -> None:
    """In one script that starts srun again, and in a job queued again."""
    idle = (
        'slurm_train.sh: 5 starts in a row have saved no new checkpoint in '
        'work, so it is not started again: give the job more time (--time), '
        'or see above what takes it, such as a long validation\n'
    )
    note = tmp_path / 'work/last_checkpoint'
    note.write_text('epoch_1.pth')
    done = slurm(SAYS='SIGUSR1')
    assert (done.returncode, done.stderr) == (1, idle)
    # The first may have saved what the second one found.
    assert len((tmp_path / 'called').read_text().splitlines()) == 6
    env = dict(SLURM_JOB_ID='17', STATE='RUNNING')
    assert slurm(**env).returncode == 0
    for start in range(1, 9):
        if start == 3:
            os.utime(note, ns=(1, 1))  # a new checkpoint
        done = slurm(**env, SLURM_RESTART_COUNT=str(start))
        assert done.returncode == (start == 8), done.stderr
    assert done.stderr == idle
    assert not (tmp_path / 'called').exists()
    # A job that was submitted again counts anew.
    assert slurm(**env).returncode == 0
