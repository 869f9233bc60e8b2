"""What ends a run from outside is told in one line, which says what to do."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ..conftest import REPO_ROOT
from ..test_commands.test_train import environment, free_port
from .ranks import Ranks, children_of
from .recipe import (
    differences,
    draw_images,
    final_state,
    train_here,
    write_config,
)

pytestmark = pytest.mark.skipif(
    sys.platform != 'linux', reason='needs /proc and prctl'
)
# Hours, so that only what is done to a run ends it.
LONG = 'train_cfg = dict(max_epochs=10000)\n'


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp('images'))


@pytest.fixture
def config(tmp_path: Path, images: Path) -> Callable[..., str]:
    """Write the config, with more lines at its end."""
    return lambda more='', folder=images: write_config(
        tmp_path / 'config.py', folder, more
    )


def test_a_dead_rank_is_named(
    config: Callable[..., str], tmp_path: Path
) -> None:
    """Torchrun ends the others and says which one was killed."""
    run = subprocess.Popen(
        [
            str(REPO_ROOT / 'tools/dist_train.sh'),
            config('train_dataloader["batch_size"] = 4\n' + LONG),
            '2',
            '--work-dir',
            str(tmp_path / 'work'),
        ],
        env=environment(PORT=free_port()),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.stdout is not None
    begun = ''
    while 'Epoch(train)' not in begun:
        line = run.stdout.readline()
        assert line, begun
        begun += line
    (rank_1,) = [
        pid
        for pid in children_of(run.pid)
        if b'\0RANK=1\0' in Path(f'/proc/{pid}/environ').read_bytes()
    ]
    os.kill(rank_1, signal.SIGKILL)
    said, _ = run.communicate(timeout=180)
    assert run.returncode == 1
    # Rank 0 notices by itself, or torchrun stops it before.
    assert re.search(
        'error: rank 0 lost the connection to another process|'
        'stopped by SIGTERM',
        said,
    ), said
    assert re.search(r'rank +: 1 \(local_rank: 1\)', said), said
    assert f'Signal 9 (SIGKILL) received by PID {rank_1}' in said
    assert f'{REPO_ROOT}/swav_plugin/' not in said  # no traceback of ours


def test_who_is_left_ends_by_itself(
    config: Callable[..., str], tmp_path: Path
) -> None:
    """Without a launcher that would end it."""
    path = config('train_dataloader["batch_size"] = 4\n' + LONG)
    run = Ranks(2, tmp_path / 'said', path, '--work-dir', str(tmp_path / 'w'))
    run.wait_for('Epoch(train)')
    run.send(signal.SIGKILL, 1)
    assert run.wait(60) == [1, -9]
    (line,) = [x for x in run.said().splitlines() if 'error:' in x]
    assert 'error: rank 0 lost the connection to another process' in line
    assert re.search(r'says why \([\w \[\].:]+\)$', line), line


def test_a_dead_worker_is_told(
    config: Callable[..., str], tmp_path: Path
) -> None:
    # One child for the whole run: between epochs there would be two workers,
    # or none, and mmengine asks git for a version for each checkpoint.
    one_child = (
        'train_dataloader.update(num_workers=1, persistent_workers=True)\n'
        "default_hooks['checkpoint'] = None\n"
    )
    path = config(one_child + LONG)
    run = Ranks(1, tmp_path / 'said', path, '--work-dir', str(tmp_path / 'w'))
    run.wait_for('Epoch(train)')
    (worker,) = run.children()
    os.kill(worker, signal.SIGKILL)
    assert run.wait(60) == [2]
    last = run.said().splitlines()[-1]
    assert re.fullmatch(
        f'train.py: error: rank 0: its data worker, process {worker}, was '
        # As torch calls it, which may notice in the midst of a step.
        r'killed \((SIGKILL|Killed)\)\. The system does that when memory '
        'runs out: set num_workers or batch_size of the dataloader lower',
        last,
    )


def test_ranks_with_different_images(
    config: Callable[..., str], tmp_path: Path
) -> None:
    """As many of them, in a folder of the same name."""
    homes = [tmp_path / 'one', tmp_path / 'two']
    for home in homes:
        draw_images(home / 'images')
    (homes[1] / 'images/7.jpg').rename(homes[1] / 'images/7b.jpg')
    path = config('train_dataloader["batch_size"] = 4\n', '~/images')
    argv = (path, '--work-dir', str(tmp_path / 'w'))
    run = Ranks(2, tmp_path / 'said', *argv, homes=homes)
    assert run.wait(60) == [2, 2], run.said()
    for rank in range(2):
        assert re.search(
            'error: rank 0 and rank 1 differ in the list of training images '
            r'\(digest\): \w+ and \w+; start all ranks with the same files',
            run.said(rank).splitlines()[-1],
        )


def test_ranks_with_different_configs(
    config: Callable[..., str], tmp_path: Path
) -> None:
    path = config('train_dataloader["batch_size"] = 4\n')
    argv = (path, '--work-dir', str(tmp_path / 'w'), '--cfg-options')
    epsilons = [f'model.head.epsilon={value}' for value in (0.05, 0.03)]
    run = Ranks(2, tmp_path / 'said', *argv, epsilons)
    assert run.wait(60) == [2, 2], run.said()
    for rank in range(2):
        assert (
            run.said(rank)
            .splitlines()[-1]
            .endswith(
                'error: rank 0 and rank 1 differ in the config, '
                'model.head.epsilon: 0.05 and 0.03; start all ranks with the '
                'same files and arguments'
            )
        )


@pytest.mark.parametrize(
    'what, more, message',
    [
        ('images', '', 'iteration 3: loss is nan, at a learning rate of '),
        (
            'images',
            "default_hooks['logger']['interval'] = 50\n",
            'iteration 3: head.queue.features is not finite; nothing was ',
        ),
        (
            'images',
            "default_hooks['logger']['interval'] = 50\n"
            "model['head']['queue_length'] = 0\n",
            'iteration 3: the gradient of rank.0.backbone.conv1.weight is '
            'not finite; nothing was saved',
        ),
        (
            'weights',
            "default_hooks['logger']['interval'] = 50\n",
            'iteration 3: backbone.conv1.weight is not finite; nothing was ',
        ),
        (
            'momenta',
            "default_hooks['logger']['interval'] = 50\n",
            'iteration 3: optimizer.state.0.momentum_buffer is not finite; ',
        ),
    ],
)
def test_numbers_that_are_not_finite_are_never_saved(
    what: str,
    more: str,
    message: str,
    config: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In iteration 3, whose gradient waits for the next one."""
    hook = (
        "custom_imports = dict(imports=['tests.test_faults.hooks'])\n"
        "custom_hooks = [dict(type='BreakNumbersHook', step=3, "
        f'what={what!r})]\n'
    )
    with pytest.raises(SystemExit) as ended:
        train_here(monkeypatch, config(more + hook), tmp_path / 'work')
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f'train.py: error: {message}'), said
    good = tmp_path / 'work/latest.pth'
    assert said.endswith(f'The newest good checkpoint is {good}')
    assert torch.load(good, weights_only=True)['meta']['iter'] == 2


def test_out_of_memory_names_what_would_fit(
    config: Callable[..., str], tmp_path: Path
) -> None:
    path = config(
        "custom_imports = dict(imports=['tests.test_faults.hooks'])\n"
        "custom_hooks = [dict(type='LittleMemoryHook')]\n"
        "model['backbone'].update(stem_channels=64, base_channels=64)\n"
        "model['neck']['in_channels'] = 512\n"
        "train_dataloader['batch_size'] = 40\n"
        "model['head']['queue_length'] = 0\n"
        'views[1].sizes = [224, 96]\n'
    )
    run = Ranks(1, tmp_path / 'said', path, '--work-dir', str(tmp_path / 'w'))
    assert run.wait() == [2], run.said()
    last = run.said().splitlines()[-1]
    found = re.fullmatch(
        r'train.py: error: iteration 1: out of memory on cpu: \d+\.\d GB are '
        r'in use and [\d.]+ GB more were asked for\. Of train_dataloader\.'
        r'batch_size=40 probably no more than (\d+) fit; fewer or smaller '
        r'views take less, too: train_dataloader\.dataset\.pipeline\.1\.'
        r'num_views=\[2, 2\], train_dataloader\.dataset\.pipeline\.1\.'
        r'sizes=\[224, 96\]\. --amp and .*',
        last,
    )
    assert found, last
    assert 0 < int(found[1]) < 40


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MB; `test_resume` has a test where none can be mounted."""
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=32m', 'tmpfs', str(disk)]
    if not shutil.which('mount') or subprocess.run(mount).returncode:
        pytest.skip('no disk can be mounted here')
    yield disk
    subprocess.run(['umount', '--lazy', str(disk)], check=True)


def test_a_disk_that_is_full_for_a_while(
    config: Callable[..., str],
    tmp_path: Path,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nor is there room for the log; the run goes on and loses nothing."""
    rarely = "default_hooks['checkpoint']['interval_iters'] = None\n"
    train_here(monkeypatch, config(rarely), tmp_path / 'whole')
    work_dir = small_disk / 'work'
    hook = (
        "custom_imports = dict(imports=['tests.test_faults.hooks'])\n"
        "custom_hooks = [dict(type='FillDiskHook', steps=(4, 8), "
        f'folder={str(small_disk)!r})]\n'
    )
    capsys.readouterr()
    train_here(monkeypatch, config(hook), work_dir)
    said = capsys.readouterr()
    assert 'Traceback' not in said.err
    failed = re.findall(
        r'no checkpoint can be saved: .*No space left on device.* It needs '
        r'\d+ MB, 0 MB are free in .*The newest good one is (\S+)\. Training '
        'goes on meanwhile',
        said.out + said.err,
    )
    # Of iterations 4 to 7 and of the end of the first epoch.
    assert failed == [f'{work_dir}/latest.pth'] * 5
    assert 'The log cannot be written: ' in said.out + said.err
    assert not differences(
        final_state(work_dir), final_state(tmp_path / 'whole')
    )
