"""A training ends at numbers that are not finite, and saves none."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub

from swav_plugin.engine import FiniteHook
from swav_plugin.engine.errors import UsageError


def runner(tmp_path: Path, losses: list[float], scaler: bool = False) -> Any:
    """Make the parts of a Runner that the hook uses, after some losses."""
    hub = MessageHub(f'finite {tmp_path}')
    for loss in losses:
        hub.update_scalar('train/loss', loss)
    hub.update_scalar('train/lr', float('nan'))  # not ours to judge
    loss_scaler = SimpleNamespace(is_enabled=lambda: scaler)
    return SimpleNamespace(
        hooks=[LoggerHook(interval=3)],
        iter=len(losses) - 1,
        message_hub=hub,
        optim_wrapper=SimpleNamespace(
            get_lr=lambda: dict(lr=[0.1, 0.25]), loss_scaler=loss_scaler
        ),
        train_dataloader=range(100),
        work_dir=str(tmp_path),
    )


NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
    'losses, scaler, is_stopped',
    [
        ([1.0, 1.0, 1.0], False, False),
        ([1.0, NAN, 1.0], False, True),
        ([1.0, 1.0, INF], False, True),
        ([1.0, NAN], False, False),  # no line of the log yet
        ([NAN, 1.0, 1.0, 1.0, 1.0, 1.0], False, False),  # an older window
        ([1.0, NAN, NAN], True, False),
        ([NAN, NAN, NAN], True, True),
    ],
)
def test_losses(
    tmp_path: Path, losses: list[float], scaler: bool, is_stopped: bool
) -> None:
    torch.save({}, tmp_path / 'epoch_4.pth')
    made = runner(tmp_path, losses, scaler)
    if not is_stopped:
        FiniteHook().after_train_iter(made, made.iter)
        return
    with pytest.raises(
        UsageError,
        match=rf'iteration {len(losses)}: loss is (nan|inf), at a learning '
        r'rate of 0.25\. Lower .* newest good checkpoint is .*epoch_4.pth',
    ):
        FiniteHook().after_train_iter(made, made.iter)


@pytest.mark.parametrize('value', [NAN, INF, -INF])
def test_weights(tmp_path: Path, value: float) -> None:
    state = {
        'a': torch.ones(2),
        'num_batches_tracked': torch.tensor(3),
        'b': torch.ones(3, 2, dtype=torch.float16),
    }
    made = runner(tmp_path, [1.0])
    FiniteHook().before_save_checkpoint(made, dict(state_dict=state))
    state['b'][1, 1] = value
    with pytest.raises(
        UsageError, match='b is not finite; nothing was saved.*No checkpoint'
    ):
        FiniteHook().before_save_checkpoint(made, dict(state_dict=state))
