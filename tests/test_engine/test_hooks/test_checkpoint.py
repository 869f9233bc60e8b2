"""Old checkpoints are deleted late, and only those of the run itself."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner

from swav_plugin.checkpoints.rebuild import to_history
from swav_plugin.engine import AtomicBackend, CheckpointHook
from swav_plugin.engine.errors import DiskFull
from swav_plugin.engine.runner import CommandRunner
from tests.distributed import run_on_ranks


class Toy(BaseModel):
    """One weight, which is drawn to zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs: Any, mode: str = 'tensor') -> Any:
        if mode == 'loss':
            return dict(loss=self.weight.square().sum())
        return [1]


class Scores(BaseMetric):
    """Returns the scores of a list, one in each epoch."""

    def __init__(self, names: list[str], scores: list[float]) -> None:
        super().__init__()
        self.names, self.scores = names, iter(scores)

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(1)

    def compute_metrics(self, results: list) -> dict[str, float]:
        score = next(self.scores)
        signs = [1, -1]
        return {n: s * score for n, s in zip(self.names, signs)}


Train = Callable[..., set[str]]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Train a toy; return the names of the checkpoints in its folder."""

    def run(
        folder: str = 'w',
        epochs: int = 3,
        resume: str | None = None,
        scores: list[float] = [],
        metrics: tuple[str, ...] = ('acc',),
        **hook: Any,
    ) -> set[str]:
        loader = dict(dataset=[dict(inputs=0)] * 2, batch_size=1)
        loader['sampler'] = dict(type='DefaultSampler', shuffle=False)
        evaluation: dict[str, Any] = {}
        if scores:
            evaluation = dict(
                val_dataloader=loader,
                val_cfg=dict(),
                val_evaluator=[Scores([*metrics], scores)],
            )
        hook.setdefault('backend_args', dict(backend='atomic'))
        runner = Runner(
            Toy(),
            str(tmp_path / folder),
            train_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.1, momentum=0.9)
            ),
            param_scheduler=dict(type='MultiStepLR', milestones=[2], end=9),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', **hook)),
            default_scope='swav_plugin',
            experiment_name=f'{time.monotonic_ns()}',
            resume=resume is not None,
            load_from=resume,
            **evaluation,
        )
        (saver,) = (
            hook
            for hook in runner.hooks
            if isinstance(hook, MMEngineCheckpointHook)
        )
        assert type(saver) is CheckpointHook
        runner.train()
        return names(tmp_path / folder)

    return run


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob('*.pth*')}


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the disk be full when a file of this name is written."""

    def use(name: str) -> None:
        put = AtomicBackend.put

        def put_or_fail(self: Any, obj: bytes, filepath: str) -> None:
            if Path(filepath).name == name:
                raise OSError('No space left on device')
            put(self, obj, filepath)

        monkeypatch.setattr(AtomicBackend, 'put', put_or_fail)

    return use


@pytest.mark.parametrize('keep', [1, 2, 3])
def test_a_failed_save_deletes_nothing(
    train: Train, fail_at: Callable, tmp_path: Path, keep: int
) -> None:
    fail_at('epoch_4.pth')
    # The run goes on, and fails at its end.
    with pytest.raises(DiskFull, match='No space left'):
        train(epochs=4, interval=1, max_keep_ckpts=keep)
    assert names(tmp_path / 'w') == {
        f'epoch_{epoch}.pth' for epoch in range(4 - keep, 4)
    }


class FullDiskHook(Hook):
    """Let saves of rank 0 fail, and a signal stop rank 1 in an iteration."""

    def __init__(self, stop_at: int) -> None:
        self.stop_at = stop_at

    def before_train(self, runner: Any) -> None:
        runner.stop_signals = SimpleNamespace(
            received=0, ignore=lambda: None, saved_path=''
        )

    def before_train_iter(self, runner: Any, *args: Any, **more: Any) -> None:
        if runner.iter == self.stop_at and dist.get_rank() == 1:
            runner.stop_signals.received = signal.SIGTERM


def save_on_full_disk(
    rank: int, work_dir: str, epochs: int, stop_at: int
) -> tuple[str, str]:
    def fail(self: Any, obj: bytes, filepath: str) -> None:
        raise OSError('No space left on device')

    AtomicBackend.put = fail  # type: ignore[method-assign]
    loader = dict(
        dataset=[dict(inputs=0)] * 4,
        batch_size=1,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    hook = dict(
        type='CheckpointHook',
        interval=1,
        save_best='acc',
        rule='greater',
        backend_args=dict(backend='atomic'),
    )
    runner = CommandRunner(
        Toy(),
        work_dir,
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=[Scores(['acc'], [0.5, 0.6])],
        default_hooks=dict(checkpoint=hook),
        custom_hooks=[FullDiskHook(stop_at)],
        default_scope='swav_plugin',
    )
    try:
        Runner.train(runner)
    except BaseException as error:
        return type(error).__name__, str(error)
    return 'nothing', ''


@pytest.mark.parametrize('stop_at', [1, 99], ids=['stopped', 'to the end'])
def test_ranks_agree_that_the_disk_is_full(
    tmp_path: Path, stop_at: int
) -> None:
    """Rank 0 alone writes; the others would go on, or end with 75 or 0."""
    one, other = run_on_ranks(save_on_full_disk, 2, str(tmp_path), 2, stop_at)
    assert one[0] == 'DiskFull'
    assert 'no checkpoint can be saved: No space left on device.' in one[1]
    assert one == other


@pytest.mark.parametrize('keep', [1, 2, 5, -1])
def test_as_many_are_kept_as_asked_for(train: Train, keep: int) -> None:
    kept = train(epochs=4, interval=1, max_keep_ckpts=keep)
    first = max(5 - keep, 1) if keep > 0 else 1
    assert kept == {f'epoch_{epoch}.pth' for epoch in range(first, 5)}


def test_the_new_file_is_there_when_the_old_one_goes(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []
    remove = AtomicBackend.remove

    def note(self: Any, filepath: str) -> None:
        files = sorted(names(Path(filepath).parent))
        torch.load(Path(filepath).with_name(files[-1]))  # it is whole
        seen.append((Path(filepath).name, len(files)))
        remove(self, filepath)

    monkeypatch.setattr(AtomicBackend, 'remove', note)
    train(interval=1, max_keep_ckpts=1)
    assert seen == [('epoch_1.pth', 2), ('epoch_2.pth', 2)]


def test_a_resumed_run_deletes_what_it_wrote_before(
    train: Train, tmp_path: Path
) -> None:
    train(epochs=3, interval=1, max_keep_ckpts=3)
    newest = str(tmp_path / 'w/epoch_3.pth')
    # Also if fewer are to be kept now.
    kept = train(epochs=4, interval=1, max_keep_ckpts=2, resume=newest)
    assert kept == {'epoch_3.pth', 'epoch_4.pth'}


def test_files_of_another_run_are_left_alone(
    train: Train, tmp_path: Path
) -> None:
    """A foreign checkpoint, or a run of its own, does not know this folder."""
    train('first', epochs=3, interval=1, max_keep_ckpts=3)
    (tmp_path / 'w').mkdir()
    for name in ('epoch_1.pth', 'epoch_2.pth', 'best_acc_epoch_1.pth'):
        (tmp_path / 'w' / name).write_text('precious')
    kept = train(
        epochs=4,
        interval=1,
        max_keep_ckpts=1,
        resume=str(tmp_path / 'first/epoch_3.pth'),
        scores=[0.9],
        save_best='acc',
    )
    assert kept == {
        'epoch_1.pth',
        'epoch_2.pth',
        'best_acc_epoch_1.pth',
        'best_acc_epoch_4.pth',
        'epoch_4.pth',
    }
    assert len(names(tmp_path / 'first')) == 3


def _make_foreign(path: Path, **info: Any) -> None:
    """Put what an attacker likes into a checkpoint's hub and notes."""
    state = torch.load(path)
    state['message_hub']['runtime_info'].update(info)
    state['message_hub']['resumed_keys'].update(dict.fromkeys(info, True))
    for key in ('best_ckpt', 'best_ckpt_acc'):
        if key in info:
            state['meta']['best_checkpoints'] = {'acc': info[key]}
    torch.save(state, path)


@pytest.mark.parametrize(
    'key, value',
    [
        ('best_ckpt', '{}/precious'),
        ('best_ckpt', '{}/precious.pth'),
        ('best_ckpt', '../precious.pth'),
        ('best_ckpt', '..'),
        ('best_ckpt', 'precious'),
        ('best_ckpt', 3),
        ('best_ckpt_acc', '{}/precious'),
        ('keep_ckpt_ids', ['1/../../precious']),
        ('keep_ckpt_ids', ['x', 1, 2, 3]),
        ('keep_ckpt_ids', 3),
        ('keep_ckpt_ids', [[3], 4.0, True]),
        ('keep_ckpt_ids', {1: 2}),
        ('last_ckpt', '{}/precious'),
        ('keep_ckpt_ids', [10**300]),
    ],
)
def test_text_of_a_checkpoint_is_not_a_path(
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    value: Any,
) -> None:
    train(epochs=1, interval=1, scores=[0.1], save_best='acc')
    for folder in (tmp_path, tmp_path / 'w'):
        (folder / 'precious/inner').mkdir(parents=True)
        (folder / 'precious/inner/photo').touch()
        (folder / 'precious.pth').touch()
    (tmp_path / 'w/epoch_1').mkdir()
    monkeypatch.chdir(tmp_path)
    newest = tmp_path / 'w/epoch_1.pth'
    if isinstance(value, str):
        value = value.format(tmp_path)
    _make_foreign(newest, **{key: value})
    train(
        epochs=3,
        interval=1,
        scores=[0.5, 0.9],
        save_best='acc',
        max_keep_ckpts=1,
        resume=str(newest),
    )
    for folder in (tmp_path, tmp_path / 'w'):
        assert (folder / 'precious/inner/photo').exists()
        assert (folder / 'precious.pth').exists()


@pytest.mark.parametrize('save_best', ['acc', 'auto', ['acc', 'loss']])
def test_the_best_stays_until_a_better_one_is_whole(
    train: Train, fail_at: Callable, tmp_path: Path, save_best: Any
) -> None:
    metrics = ('acc', 'loss') if isinstance(save_best, list) else ('acc',)
    rule = ['greater', 'less'] if len(metrics) == 2 else 'greater'
    options = dict(
        interval=1,
        max_keep_ckpts=1,
        save_best=save_best,
        rule=rule,
        metrics=metrics,
    )
    kept = train(epochs=2, scores=[0.5, 0.4], **options)
    best = {f'best_{name}_epoch_1.pth' for name in metrics}
    assert kept == best | {'epoch_2.pth'}
    fail_at('best_acc_epoch_3.pth')
    newest = str(tmp_path / 'w/epoch_2.pth')
    with pytest.raises(DiskFull):
        train(epochs=3, scores=[0.9], resume=newest, **options)
    assert names(tmp_path / 'w') == best | {'epoch_3.pth'}


@pytest.mark.parametrize('is_copy', [True, False])
def test_a_resumed_run_replaces_its_own_best(
    train: Train, tmp_path: Path, is_copy: bool
) -> None:
    """In a copied folder, it replaces the one in the copy."""
    options = dict(interval=1, max_keep_ckpts=1, save_best='acc')
    train(epochs=2, scores=[0.5, 0.4], **options)
    before = names(tmp_path / 'w')
    folder = 'v' if is_copy else 'w'
    if is_copy:
        shutil.copytree(tmp_path / 'w', tmp_path / 'v')
    newest = str(tmp_path / folder / 'epoch_2.pth')
    kept = train(folder, epochs=3, scores=[0.3], resume=newest, **options)
    assert kept == {'best_acc_epoch_1.pth', 'epoch_3.pth'}
    newest = str(tmp_path / folder / 'epoch_3.pth')
    kept = train(folder, epochs=4, scores=[0.9], resume=newest, **options)
    assert kept == {'best_acc_epoch_4.pth', 'epoch_4.pth'}
    if is_copy:
        assert names(tmp_path / 'w') == before


def test_files_hold_plain_values(train: Train, tmp_path: Path) -> None:
    """So that nobody need allow anything to read them."""
    train(epochs=2, interval=1, scores=[0.5, 0.6], save_best='acc')
    for path in (tmp_path / 'w').glob('*.pth'):
        state = torch.load(path, weights_only=True)
        history = to_history(state['message_hub']['log_scalars']['train/loss'])
        assert history is not None and len(history.data[0]) > 1
        best = state['meta'].get('best_checkpoints')
        assert best is None or best.keys() == {'acc'}


def test_histories_go_on_where_they_were(train: Train, tmp_path: Path) -> None:
    def losses(folder: str) -> np.ndarray:
        path = tmp_path / folder / 'epoch_4.pth'
        hub = torch.load(path)['message_hub']
        return to_history(hub['log_scalars']['train/loss']).data[0]

    train('whole', epochs=4, interval=1)
    train('parts', epochs=2, interval=1)
    newest = str(tmp_path / 'parts/epoch_2.pth')
    train('parts', epochs=4, interval=1, resume=newest)
    assert len(losses('whole')) == 8
    assert np.array_equal(losses('whole'), losses('parts'))


def test_out_dir(train: Train, tmp_path: Path) -> None:
    out = str(tmp_path / 'out')
    options = dict(interval=1, max_keep_ckpts=1, out_dir=out)
    assert train(epochs=2, **options) == set()
    note = 'checkpoint_digests.json'
    assert {*os.listdir(tmp_path / 'out/w')} == {'epoch_2.pth', note}
    newest = str(tmp_path / 'out/w/epoch_2.pth')
    train(epochs=3, resume=newest, **options)
    assert {*os.listdir(tmp_path / 'out/w')} == {'epoch_3.pth', note}
