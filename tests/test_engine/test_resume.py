"""Resume in settings that may differ; rates as if there had been no break."""

import json
import math
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from swav_plugin.commands import train
from swav_plugin.engine import processes
from swav_plugin.engine.resume import compare_configs, read_config_text

from ..conftest import REPO_ROOT
from ..test_faults.recipe import draw_images

CONFIG = """
_base_ = '{root}/configs/selfsup/swav/swav_demo_images.py'
model = dict(
    backbone=dict(stem_channels=4, base_channels=4),
    neck=dict(in_channels=32, hid_channels=16, out_channels=8),
    head=dict(num_prototypes=4, queue_length=0))
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root='{images}'))
views = _base_.train_dataloader.dataset.pipeline
views[1].sizes = [32, 16]
train_dataloader['dataset']['pipeline'] = views
optim_wrapper = dict(
    _delete_=True,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True,
         begin=1),
    dict(type='MultiStepLR', milestones=[2, 3], gamma=0.5)]
train_cfg = dict(max_epochs=4)
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=1), report=None)
log_processor = dict(window_size=1)
"""


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp('images'), 16)


@pytest.fixture
def run(
    tmp_path: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> Callable[..., tuple[dict[int, float], str]]:
    """Train; return the learning rates by iteration, and what was printed."""
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.format(root=REPO_ROOT, images=images))

    def run_train(
        name: str, *argv: str, options: tuple[str, ...] = ()
    ) -> tuple[dict[int, float], str]:
        arguments = [
            'train.py', str(config), '--work-dir', str(tmp_path / name), *argv,
            '--cfg-options', f'experiment_name={time.monotonic_ns()}',
            *options,
        ]  # fmt: skip
        monkeypatch.setattr(sys, 'argv', arguments)
        # Two starts within a second write into one folder.
        logs = '*/vis_data/scalars.json'
        before = {
            path: len(path.read_text().splitlines())
            for path in (tmp_path / name).glob(logs)
        }
        train.main()
        newest = max(
            (tmp_path / name).glob(logs),
            key=lambda path: path.stat().st_mtime,
        )
        written = newest.read_text().splitlines()[before.get(newest, 0) :]
        lines = map(json.loads, written)
        rates = {line['step']: line['lr'] for line in lines if 'lr' in line}
        log = max((tmp_path / name).glob('*/*.log')).read_text()
        return rates, log + capsys.readouterr().err

    return run_train


def keep_first_epochs(work_dir: Path, num: int) -> None:
    """Make a work dir what it was after some epochs."""
    for path in work_dir.glob('epoch_*.pth'):
        if int(path.stem.removeprefix('epoch_')) > num:
            path.unlink()
    (work_dir / 'last_checkpoint').unlink()


@pytest.fixture(scope='module')
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of a run that several tests resume, once one has run it."""
    return tmp_path_factory.mktemp('first') / 'run'


@pytest.fixture(scope='module')
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a run of two epochs."""
    return tmp_path_factory.mktemp('short') / 'w'


@pytest.fixture
def two_epochs(
    run: Callable[..., tuple], short_run: Path, tmp_path: Path
) -> Path:
    """Work dir `w` of this test, with a run of two epochs; its checkpoint."""
    if not short_run.exists():
        run(str(short_run), options=('train_cfg.max_epochs=2',))
    shutil.copytree(short_run, tmp_path / 'w')
    path = tmp_path / 'w/epoch_2.pth'
    (tmp_path / 'w/last_checkpoint').write_text(str(path))
    return path


@pytest.mark.parametrize(
    'change',
    [
        'train_cfg.max_epochs=7',
        'optim_wrapper.optimizer.lr=0.03',
        'param_scheduler.2.gamma=0.1',
        'train_dataloader.batch_size=8',
        'train_dataloader.batch_size=2',
    ],
)
def test_rates_are_those_of_one_go(
    run: Callable[..., tuple], first_run: Path, tmp_path: Path, change: str
) -> None:
    if not first_run.exists():
        run(str(first_run))
    shutil.copytree(first_run, tmp_path / 'resumed')
    keep_first_epochs(tmp_path / 'resumed', 2)
    found, log = run('resumed', '--resume', options=(change,))
    wanted, _ = run('whole', options=(change,))
    assert (
        len(found)
        == len(wanted) - len(wanted) // (7 if 'epochs' in change else 4) * 2
    )
    for step, rate in found.items():
        # The same sums in the same order.
        assert rate == wanted[step], (step, rate, wanted[step])
    key = change.partition('=')[0]
    assert f'with other settings: {key}: ' in log


def test_rates_of_another_kind_of_schedule(
    run: Callable[..., tuple], tmp_path: Path
) -> None:
    run('resumed')
    keep_first_epochs(tmp_path / 'resumed', 2)
    config = tmp_path / 'config.py'
    text = config.read_text().partition('param_scheduler = [')
    rest = text[2].partition(']\ntrain_cfg')[2]
    # One scheduler less in place of the cosine, and one more at the end.
    config.write_text(
        text[0]
        + """param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3),
    dict(type='MultiStepLR', milestones=[1, 3], gamma=0.5),
    dict(type='StepLR', by_epoch=False, step_size=5, gamma=0.9),
    dict(type='ExponentialLR', gamma=0.8)]
train_cfg"""
        + rest
    )
    found, _ = run('resumed', '--resume')
    wanted, _ = run('whole')
    assert len(found) == len(wanted) // 2
    assert found == {step: wanted[step] for step in found}


@pytest.mark.parametrize('num_epochs', [1, 2])
def test_nothing_is_left_to_train(
    run: Callable[..., tuple],
    two_epochs: Path,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
    num_epochs: int,
) -> None:
    options = (f'train_cfg.max_epochs={num_epochs}',)
    if num_epochs == 2:
        (tmp_path / 'w/last_checkpoint').unlink()
        (tmp_path / 'w/epoch_3.pth').touch()
        _, log = run('w', '--resume', options=options)
        assert 'has all 2 epochs: nothing is left to train.' in log
        (line,) = re.findall(r'.*epoch_3\.pth is not a checkpoint.*', log)
        assert ' - WARNING - ' in line
        assert line.endswith(f'Going back to {two_epochs}.')
        return
    with pytest.raises(SystemExit) as ended:
        run('w', '--resume', options=options)
    assert ended.value.code == 2
    assert (
        'has 2 epochs, but train_cfg.max_epochs=1' in capsys.readouterr().err
    )


def test_other_weight_decay_and_momentum_count(
    run: Callable[..., tuple], tmp_path: Path
) -> None:
    run('w')
    keep_first_epochs(tmp_path / 'w', 3)
    options = (
        'optim_wrapper.optimizer.momentum=0.5',
        'optim_wrapper.optimizer.weight_decay=0.01',
    )
    _, log = run('w', '--resume', options=options)
    state = torch.load(tmp_path / 'w/epoch_4.pth', weights_only=False)
    for group in state['optimizer']['param_groups']:
        assert (group['momentum'], group['weight_decay']) == (0.5, 0.01)
    assert 'momentum: 0.9 -> 0.5; ' in log


@pytest.mark.parametrize(
    'change, message',
    [
        (
            'optim_wrapper.optimizer.type=LARS',
            "differs from the config's LARS",
        ),
        (
            'model.head.num_prototypes=5',
            'has head.prototypes.0.weight of (4, 8), not (5, 8)',
        ),
        ('model.backbone.base_channels=8', 'with another model'),
    ],
)
def test_what_cannot_go_on_is_one_line(
    run: Callable[..., tuple],
    two_epochs: Path,
    capsys: pytest.CaptureFixture,
    change: str,
    message: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        run('w', '--resume', options=(change, 'model.neck.in_channels=64')
            if 'base' in change else (change,))  # fmt: skip
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def _other_shape(state: dict) -> None:
    momenta = state['optimizer']['state']
    momenta[0]['momentum_buffer'] = momenta[0]['momentum_buffer'][:1]


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda s: s.update(optimizer=None), 'but not the state of a run'),
        (lambda s: s['meta'].update(epoch=-2), 'it says epoch -2'),
        (
            lambda s: s['optimizer']['param_groups'][0].update(lr=math.nan),
            'has lr=nan; give an earlier checkpoint',
        ),
        (_other_shape, 'has a momentum_buffer of (1, '),
        (
            lambda s: s['optimizer'].update(state=3),
            'is not a valid training state (',
        ),
        (
            lambda s: s.update(param_schedulers='x'),
            'is not a valid training state (',
        ),
        (
            lambda s: s['state_dict'].update(
                {'head.prototypes.0.weight': torch.ones(4, 8).cfloat()}
            ),
            'has head.prototypes.0.weight of torch.complex64: it is of a',
        ),
    ],
)
def test_a_state_that_no_training_writes_is_one_line(
    run: Callable[..., tuple],
    two_epochs: Path,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
    change: Callable[[dict], None],
    message: str,
) -> None:
    path = two_epochs
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    with pytest.raises(SystemExit) as ended:
        run('w', '--resume', options=('train_cfg.max_epochs=3',))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    'text', ['', 'a=' + '-' * 100_000 + '1', 'a={[1]:2}', '7', 'a=(', '[1]']
)
def test_a_config_that_is_none_is_told(
    run: Callable[..., tuple], two_epochs: Path, tmp_path: Path, text: str
) -> None:
    path = two_epochs
    state = torch.load(path, weights_only=True)
    state['meta'].update(cfg=text, iters_per_epoch='many')
    torch.save(state, path)
    _, log = run('w', '--resume', options=('train_cfg.max_epochs=3',))
    assert 'with other settings: ' in log


@pytest.mark.parametrize(
    'change, told',
    [
        ('more', 'number of training images: 16 -> 17'),
        ('others', 'the list of training images, though not their number'),
        ('moved', None),
    ],
)
def test_other_images_are_told(
    run: Callable[..., tuple],
    two_epochs: Path,
    images: Path,
    change: str,
    told: str | None,
    tmp_path: Path,
) -> None:
    options = ['train_cfg.max_epochs=3']
    moved = shutil.copytree(images, tmp_path / 'moved')
    try:
        if change == 'more':
            shutil.copy(images / '0.jpg', images / 'a.jpg')
        elif change == 'others':
            (images / '0.jpg').rename(images / 'a.jpg')
        else:
            options += [f'train_dataloader.dataset.data_root={moved}']
        _, log = run('w', '--resume', options=tuple(options))
    finally:
        shutil.copy(moved / '0.jpg', images / '0.jpg')
        (images / 'a.jpg').unlink(missing_ok=True)
    assert (
        'training images' in log.partition('with other settings: ')[2]
    ) == (told is not None)
    assert told is None or told in log


def test_a_full_disk_is_one_line(
    run: Callable[..., tuple],
    two_epochs: Path,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
) -> None:
    size = two_epochs.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
    try:
        with pytest.raises(SystemExit) as ended:
            run('w', '--resume', options=('train_cfg.max_epochs=4',))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ended.value.code == 2
    # It went on after the third epoch, and failed at its end alone.
    log = max((tmp_path / 'w').glob('*/*.log')).read_text()
    assert log.count('Training goes on meanwhile.') == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert 'no checkpoint can be saved: ' in error and 'File too' in error
    assert re.search(r'It needs \d+ MB, \d+ MB are free in ', error)
    assert error.endswith(f'The newest good one is {tmp_path}/w/epoch_2.pth.')
    assert not list((tmp_path / 'w').glob('*[34].pth'))
    # With room again, it ends as if nothing had happened.
    rates, _ = run('w', '--resume', options=('train_cfg.max_epochs=4',))
    assert [*rates] == [*range(9, 17)]
    assert (tmp_path / 'w/epoch_4.pth').exists()


def test_same_settings_are_not_listed(
    run: Callable[..., tuple], two_epochs: Path
) -> None:
    _, log = run(
        'w',
        '--resume',
        options=('train_cfg.max_epochs=2', 'default_hooks.logger.interval=2'),
    )
    assert 'other settings' not in log


@pytest.mark.parametrize('given', [None, '1'])
def test_a_resumed_run_keeps_its_threads(
    run: Callable[..., tuple],
    two_epochs: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
) -> None:
    """Other numbers of data workers would leave torch others, which round."""
    threads = torch.get_num_threads()
    state = torch.load(two_epochs, weights_only=True)
    assert state['meta']['num_threads'] == threads
    state['meta']['num_threads'] = 3
    torch.save(state, two_epochs)
    monkeypatch.setattr(processes, 'count_cores', lambda: 4)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    if given:
        monkeypatch.setenv('OMP_NUM_THREADS', given)
    try:
        _, log = run('w', '--resume', options=('train_cfg.max_epochs=2',))
        found = torch.get_num_threads()
    finally:
        torch.set_num_threads(threads)
    told = '--resume: the run began with 3 CPU threads of torch and '
    if given:
        assert found == threads
        assert f'{told}goes on with {threads}, from OMP_NUM_THREADS: ' in log
    else:
        assert found == 3 and f'{told}keeps that number, in place of 4' in log


def test_threads_beyond_the_cores_are_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, 'count_cores', lambda: 2)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    before = torch.get_num_threads()
    assert 'here it has 2 cores and takes' in processes.keep_threads(64)
    for unknown in (None, 0, -1, True, '2', before):
        assert processes.keep_threads(unknown) == ''
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    'text',
    ["a = __import__('os')", 'import os', 'a = b', 'a = f()', 'a = 1 +', '('],
)
def test_text_of_a_checkpoint_is_never_run(text: str) -> None:
    with pytest.raises(ValueError):
        read_config_text(text)


def test_lists_are_compared_by_entry() -> None:
    old = dict(param_scheduler=[dict(type='A', end=2)], work_dir='a')
    new = dict(param_scheduler=[dict(type='A', end=3)], work_dir='b')
    assert compare_configs(old, new) == ['param_scheduler.0.end: 2 -> 3']
    added = dict(param_scheduler=[*old['param_scheduler'], dict(type='B')])
    assert compare_configs(old, added) == [
        'param_scheduler.1.type: not set -> B'
    ]
