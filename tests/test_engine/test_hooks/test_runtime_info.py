"""Deferred scalars are mmengine's numbers, without its reads."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from swav_plugin.checkpoints.rebuild import to_history
from swav_plugin.checkpoints.safe_load import safe_load
from swav_plugin.engine import ScalarHistory

NUM_ITERS, INTERVAL = 7, 3


@pytest.mark.parametrize('max_length', [5, 1000])
@pytest.mark.parametrize('num_before', [0, 3])
def test_a_history_is_mmengines(max_length: int, num_before: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=40)
    before = HistoryBuffer(
        list(values[:num_before]), [1] * num_before, max_length
    )
    theirs, ours = copy.deepcopy(before), ScalarHistory(before)
    for step, value in enumerate(values[num_before:].tolist()):
        is_tensor = step % 4 != 2
        count = 1 if is_tensor else 3
        theirs.update(value, count)
        ours.update(
            torch.tensor([value], dtype=torch.float64) if is_tensor else value,
            count,
        )
        if step % 5 == 0:
            for one, other in zip(theirs.data, ours.data):
                np.testing.assert_array_equal(one, other)
            for name in ('mean', 'min', 'max'):
                for window in ((), (1,), (4,), (50,)):
                    assert ours.statistics(name, *window) == (
                        theirs.statistics(name, *window)
                    )
            assert ours.current() == theirs.current()


def test_a_copy_is_mmengines_class_and_goes_on_alone() -> None:
    history = ScalarHistory(HistoryBuffer([1.0], [1]))
    history.update(torch.tensor(2.0))
    for copied in (
        copy.deepcopy(history),
        pickle.loads(pickle.dumps(history)),
    ):
        assert type(copied) is HistoryBuffer
        assert copied.data[0].tolist() == [1, 2]
        copied.update(3.0)
    assert history.data[0].tolist() == [1, 2]


def test_unread_tensors_are_few_and_hold_no_graph() -> None:
    history = ScalarHistory(HistoryBuffer())
    weight = torch.ones((), requires_grad=True)
    for _ in range(2 * history.MAX_UNREAD + 1):
        history.update(2 * weight)
    assert len(history._unread) == 1
    assert not history._unread[0].requires_grad
    assert len(history.data[0]) == 2 * history.MAX_UNREAD + 1


class Line(BaseModel):
    """Fits a number; logs two losses."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(
        self, inputs: Tensor, mode: str = 'tensor'
    ) -> dict[str, Tensor]:
        error = (self.weight * inputs - 3).pow(2).mean()
        return dict(loss_line=error, loss_size=0.1 * self.weight.abs())


class Reads(TorchDispatchMode):
    """Counts where the host asks for the value of a tensor."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += 'local_scalar_dense' in func.overloadpacket.__name__
        return func(*args, **(kwargs or {}))


def train(hook: str, work_dir: Path, **changes: Any) -> tuple[Runner, int]:
    torch.manual_seed(0)
    data = torch.utils.data.DataLoader(
        [dict(inputs=torch.tensor(float(i))) for i in range(NUM_ITERS)]
    )
    runner = Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=data,
        train_cfg=dict(by_epoch=False, max_iters=NUM_ITERS),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3)),
        default_hooks=dict(
            runtime_info=dict(type=hook),
            logger=dict(type='LoggerHook', interval=INTERVAL),
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4),
        ),
        log_processor=dict(by_epoch=False, window_size=INTERVAL),
        visualizer=dict(
            type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]
        ),
        default_scope='swav_plugin',
        experiment_name=f'{work_dir.parent.name}_{work_dir.name}',
        log_level='ERROR',
        **changes,
    )
    with Reads() as reads:
        runner.train()
    return runner, reads.count - 1  # torch's loader reads its seed


def logged(work_dir: Path) -> list[dict]:
    """Read the log lines of a run, without their times."""
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if 'time' not in name}
        for line in lines
    ]


def test_logs_and_checkpoints_are_equal_and_reads_are_not(
    tmp_path: Path,
) -> None:
    num_reads, hubs = {}, {}
    for hook in ('RuntimeInfoHook', 'DeferredRuntimeInfoHook'):
        _, num_reads[hook] = train(hook, tmp_path / hook)
        hubs[hook] = safe_load(tmp_path / hook / 'iter_4.pth')['message_hub']
    theirs, ours = (logged(tmp_path / hook) for hook in hubs)
    assert len(ours) == NUM_ITERS // INTERVAL
    assert ours == theirs and ours[1]['loss_line'] > 0
    for name in ('train/loss', 'train/loss_size', 'train/lr'):
        stored = [
            to_history(hub['log_scalars'][name]) for hub in hubs.values()
        ]
        for one, other in zip(*(history.data for history in stored)):
            np.testing.assert_array_equal(one, other)
        assert stored[1] is not None
        assert len(stored[1].data[0]) == 4
    # Three losses each: mmengine in every iteration, ours in the first.
    assert num_reads == dict(
        RuntimeInfoHook=3 * NUM_ITERS, DeferredRuntimeInfoHook=3
    )


def test_a_resumed_run_goes_on_with_what_was_logged(tmp_path: Path) -> None:
    whole, _ = train('DeferredRuntimeInfoHook', tmp_path / 'whole')
    resumed, num_reads = train(
        'DeferredRuntimeInfoHook',
        tmp_path / 'resumed',
        load_from=str(tmp_path / 'whole/iter_4.pth'),
        resume=True,
    )
    assert num_reads == 0
    assert len(whole.message_hub.get_scalar('train/loss').data[0]) == NUM_ITERS
    for name in ('train/loss', 'train/lr'):
        one, other = (
            run.message_hub.get_scalar(name).data[0]
            for run in (whole, resumed)
        )
        np.testing.assert_array_equal(one[:4], other[:4])
        assert len(other) == NUM_ITERS
