"""A run that is stopped at any moment goes on as if nothing had happened."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from swav_plugin.commands import train
from swav_plugin.engine.agreement import Preempted

from ..conftest import REPO_ROOT
from ..test_commands.test_train import environment, free_port, losses

# All that has a state: queue, frozen prototypes, drop path, AMP, momentum, and
# gradients that wait at the end of an epoch of 5 batches.
CONFIG = """
_base_ = [
    '{bases}/models/swav_resnet18.py',
    '{bases}/datasets/imagenette_mcrop-2-6.py',
    '{bases}/schedules/lars_coslr_bs256.py',
    '{bases}/default_runtime.py',
]
norm_cfg = dict(type='GN', num_groups=4)
model = dict(
    backbone=dict(
        stem_channels=8, base_channels=8, norm_cfg=norm_cfg,
        drop_path_rate=0.2),
    neck=dict(
        in_channels=64, hid_channels=32, out_channels=16, norm_cfg=norm_cfg),
    head=dict(num_prototypes=20, queue_length=32))
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root='{images}'))
train_cfg = dict(max_epochs=2)
optim_wrapper = dict(
    type='AmpOptimWrapper', dtype='bfloat16', accumulative_counts=2)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(interval=1, interval_iters=1),
    swav=dict(freeze_prototypes_iters=2))
views = _base_.train_dataloader.dataset.pipeline
views[1].sizes = [48, 32]
train_dataloader['dataset']['pipeline'] = views
log_processor = dict(window_size=1)
"""
# The same by iterations; batches are counted over epochs.
BY_ITERATION = """
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=10)
default_hooks['checkpoint'].update(by_epoch=False, interval=10)
log_processor['by_epoch'] = False
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False)]
"""


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty drawn JPEGs: 5 batches of 8."""
    folder = tmp_path_factory.mktemp('images')
    for number in range(40):
        coarse = np.random.default_rng(number).integers(256, size=(5, 5, 3))
        image = Image.fromarray(coarse.astype(np.uint8)).resize((96, 96))
        image.save(folder / f'{number}.jpg')
    return folder


@pytest.fixture
def config(tmp_path: Path, images: Path) -> Callable[..., str]:
    """Write the config, with more lines at its end."""

    def write(more: str = '') -> str:
        bases = REPO_ROOT / 'configs/selfsup/_base_'
        path = tmp_path / 'config.py'
        path.write_text(CONFIG.format(bases=bases, images=images) + more)
        return str(path)

    return write


def train_here(
    monkeypatch: pytest.MonkeyPatch, config: str, work_dir: Path, *argv: str
) -> None:
    """Train in this process."""
    options = ['--cfg-options', f'experiment_name={time.monotonic_ns()}']
    arguments = ['--work-dir', str(work_dir), *argv, *options]
    monkeypatch.setattr(sys, 'argv', ['train.py', config, *arguments])
    train.main()


def final_state(work_dir: Path) -> dict[str, Tensor]:
    """Return weights, queue and momenta of a run that has ended."""
    path = Path((work_dir / 'last_checkpoint').read_text())
    assert path.name in ('epoch_2.pth', 'iter_10.pth')
    content = torch.load(path, weights_only=True)
    momenta = {
        str(index): state['momentum_buffer']
        for index, state in content['optimizer']['state'].items()
    }
    assert momenta
    return {**content['state_dict'], **momenta}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Compare bit for bit."""
    assert one.keys() == other.keys()
    different = [key for key in one if not torch.equal(one[key], other[key])]
    assert not different


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


def start(config: str, work_dir: Path, *argv: str) -> subprocess.Popen:
    """Start two ranks; return when they train."""
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
    config: Callable[..., str], tmp_path: Path
) -> None:
    """SIGKILL, then SIGTERM, then to the end: equal to a run in one go."""
    path = config('train_dataloader["batch_size"] = 4\n')
    whole = start(path, tmp_path / 'whole')
    said, _ = whole.communicate(timeout=300)
    assert whole.returncode == 0, said
    work_dir = tmp_path / 'broken'
    killed = start(path, work_dir)
    while not list(work_dir.glob('*.pth')):
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    stopped = start(path, work_dir, '--resume')
    stopped.terminate()  # torchrun tells its ranks
    said, _ = stopped.communicate(timeout=120)
    assert said.count('stopped by SIGTERM; --resume goes on from') == 2, said
    assert stopped.returncode != 0
    rest = start(path, work_dir, '--resume')
    said, _ = rest.communicate(timeout=300)
    assert rest.returncode == 0, said
    assert losses(work_dir) == losses(tmp_path / 'whole')
    assert_same(final_state(work_dir), final_state(tmp_path / 'whole'))


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
    # Queued again, the same command goes on instead of starting over.
    env['SLURM_RESTART_COUNT'] = '1'
    assert subprocess.run(command, env=env).returncode == 0
    called = (tmp_path / 'called').read_text()
    assert '--overwrite' not in called and '--resume' in called
