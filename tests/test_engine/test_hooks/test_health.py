"""HealthHook watches without touching, and says what it sees."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from swav_plugin.checkpoints.safe_load import safe_load
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.runner import CommandRunner

from ...test_models.test_health import embeddings, make_head
from .test_runtime_info import Reads
from .test_swav import BATCH, NUM_IMAGES, RandomViews

PER_EPOCH, MAX_EPOCHS, INTERVAL = NUM_IMAGES // BATCH, 3, 3


class Losses(Hook):
    """Notes losses and random states; may end the run."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.losses: list[float] = []
        self.states: list[list] = []
        self.stop_at = stop_at

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        assert outputs is not None
        self.losses.append(outputs['loss'].detach())
        self.states.append(torch.get_rng_state().tolist())
        if runner.iter + 1 == self.stop_at:
            raise KeyboardInterrupt


def train(
    work_dir: Path,
    health: dict | None,
    stop_at: int | None = None,
    accumulated: int = 1,
    swav: dict | None = None,
    **cfg: Any,
) -> tuple[Losses, Runner]:
    """Train a small SwAV on noise, with checkpoints in every iteration."""
    recorder = Losses(stop_at)
    hooks = dict(
        runtime_info=dict(type='DeferredRuntimeInfoHook'),
        logger=dict(type='LoggerHook', interval=INTERVAL),
        checkpoint=dict(
            type='CheckpointHook', interval_iters=1, interval_minutes=None
        ),
    )
    if health is not None:
        hooks['health'] = dict(type='HealthHook', **health)
    if swav is not None:
        hooks['swav'] = swav
    runner = CommandRunner(
        model=dict(
            type='SwAV',
            backbone=dict(
                type='ResNet',
                depth=18,
                base_channels=4,
                stem_channels=4,
                norm_cfg=dict(type='GN', num_groups=2),
            ),
            neck=dict(
                type='SwAVNeck', in_channels=32, hid_channels=0, out_channels=8
            ),
            head=dict(type='SwAVHead', num_prototypes=4, queue_length=BATCH),
        ),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=RandomViews(),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
            batch_size=BATCH,
            num_workers=0,
        ),
        train_cfg=cfg.pop(
            'train_cfg', dict(by_epoch=True, max_epochs=MAX_EPOCHS)
        ),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.5, momentum=0.9),
            accumulative_counts=accumulated,
        ),
        default_hooks=hooks,
        custom_hooks=[recorder],
        visualizer=dict(
            type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]
        ),
        randomness=dict(seed=0),
        default_scope='swav_plugin',
        experiment_name=f'{work_dir.parent.name}_{work_dir.name}_{stop_at}',
        **cfg,
    )
    runner.train()
    return recorder, runner


def read(work_dir: Path, name: str) -> list[dict]:
    """Read lines of JSON of the newest run in a work dir."""
    newest = max(work_dir.glob(f'*/vis_data/{name}'))
    return [json.loads(line) for line in newest.read_text().splitlines()]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('health')


@pytest.fixture(scope='module')
def watched(folder: Path) -> tuple[Losses, int]:
    """A run with the hook, and how often it read from the device."""
    with Reads() as reads:
        recorder, _ = train(folder / 'watched', {})
    return recorder, reads.count


def test_it_changes_no_loss_and_draws_nothing(
    folder: Path, watched: tuple[Losses, int]
) -> None:
    recorder, _ = watched
    alone, _ = train(folder / 'alone', None)
    assert len(alone.losses) == MAX_EPOCHS * PER_EPOCH
    assert torch.equal(torch.stack(alone.losses), torch.stack(recorder.losses))
    assert alone.states == recorder.states


def test_gradients_of_steps_between_lines_of_the_log(folder: Path) -> None:
    """Steps after 5, 10 and 12 iterations; lines after 3, 4, 7, 8, ..."""
    train(folder / 'accumulated', {}, accumulated=5)
    norms = {
        row['step']: row['health/gradient_norm']
        for row in read(folder / 'accumulated', 'scalars.json')
        if 'health/gradient_norm' in row
    }
    assert [*norms] == [7, 11, 12] and min(norms.values()) > 0


def test_lines_and_scalars(folder: Path, watched: tuple[Losses, int]) -> None:
    rows = read(folder / 'watched', 'health.json')
    assert [row['epoch'] for row in rows] == [1, 2, 3]
    assert [row['step'] for row in rows] == [4, 8, 12]
    losses = torch.stack(watched[0].losses) / math.log(4)
    # Of this window of the log and the last one: at first there is the epoch,
    # whose second window has one iteration.
    for row, window in zip(rows, (losses[:4], losses[4:8], losses[8:])):
        assert row['loss_share'] == pytest.approx(
            float(window.mean()), abs=1e-6
        )
        assert row['state'] in ('OK', 'WARN', 'COLLAPSED')
        assert row['stopping_score'] >= 0 and row['gradient_norm'] > 0
    scalars = read(folder / 'watched', 'scalars.json')
    health = [row for row in scalars if 'health/loss_share' in row]
    assert [row['step'] for row in health] == [3, 4, 7, 8, 11, 12]
    ends = [row for row in health if 'health/stopping_score' in row]
    assert [row['step'] for row in ends] == [4, 8, 12]
    assert health[0]['health/loss_share'] == pytest.approx(
        float(losses[:3].mean()), abs=1e-6
    )
    (log,) = (folder / 'watched').glob('*/*.log')
    lines = log.read_text().splitlines()
    assert sum(' Health: ' in line for line in lines) == MAX_EPOCHS
    numbers = [line for line in lines if ' Health in numbers: ' in line]
    # All of them, with a line for each epoch.
    for line, row in zip(numbers, rows, strict=True):
        for name in {*row} - {'epoch', 'step', 'state', 'message'}:
            assert f' {name} {row[name]:.4g}' in line
        assert ' gradient_norm ' in line and ' queue_overlap ' in line


def test_a_resumed_run_has_the_lines_of_one_in_one_go(
    folder: Path, watched: tuple[Losses, int]
) -> None:
    # In the middle of a window of the second epoch.
    with pytest.raises(KeyboardInterrupt):
        train(folder / 'resumed', {}, stop_at=7)
    latest = folder / 'resumed/latest.pth'
    saved = safe_load(str(latest))
    assert saved['meta']['iter'] == 6
    assert float(saved['health']['epoch'].abs().sum()) > 0
    train(folder / 'resumed', {}, resume=True, load_from=str(latest))
    found = read(folder / 'resumed', 'health.json')[-2:]
    expected = read(folder / 'watched', 'health.json')[1:]
    assert len(found) == len(expected) == 2
    for one, other in zip(found, expected):
        assert {*one} == {*other}
        for name, value in one.items():
            # Sums of fewer parts at a time; RankMe is a root of small ones.
            if not isinstance(value, str):
                value = pytest.approx(value, rel=1e-6)
            assert other[name] == value, name


def test_the_same_in_a_loop_over_iterations(
    folder: Path, watched: tuple[Losses, int]
) -> None:
    train(
        folder / 'iterations',
        {},
        train_cfg=dict(by_epoch=False, max_iters=2 * PER_EPOCH),
    )
    rows = read(folder / 'iterations', 'health.json')
    assert [row['step'] for row in rows] == [4, 8]


def test_a_collapsed_run_is_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swav_plugin.engine import verdict

    rule = verdict.Rule('COLLAPSED', 'all is lost', (), 'begin anew', 0)
    monkeypatch.setattr(verdict, 'RULES', (rule,))
    with pytest.raises(
        UsageError, match=r'iteration 4: .*all is lost.*begin anew'
    ):
        train(folder / 'stopped', dict(stop_on_collapse=True))
    (row,) = read(folder / 'stopped', 'health.json')
    assert row['state'] == 'COLLAPSED'
    train(folder / 'not_stopped', {})
    assert len(read(folder / 'not_stopped', 'health.json')) == MAX_EPOCHS
    (log,) = (folder / 'not_stopped').glob('*/*.log')
    # In each epoch, and without the path of a source file.
    lines = re.findall('.*Health: COLLAPSED', log.read_text())
    assert len(lines) == MAX_EPOCHS
    assert all(' - WARNING - Health: ' in line for line in lines), lines
    # Random prototypes say nothing: not before the second epoch.
    swav = dict(type='SwAVHook', freeze_prototypes_iters=PER_EPOCH)
    with pytest.raises(UsageError, match='iteration 8: '):
        train(folder / 'frozen', dict(stop_on_collapse=True), swav=swav)


def test_steps_between_lines_of_the_log_read_nothing() -> None:
    head = make_head(queue_length=24)
    statistics = head.start_statistics()
    views = torch.randn(2, 12, 3, 40, 40)
    with Reads() as reads:
        for seed in range(3):
            head.loss(embeddings(seed))
            statistics.add_views(*views)
            statistics.add_gradients([views])
        assert reads.count == 0
        head.collect_statistics()
    assert reads.count > 0
