"""Check the text of a training line."""

import math
import re
from types import SimpleNamespace

import pytest
from mmengine.logging import HistoryBuffer
from torch import nn

from swav_plugin.engine import SwAVLogProcessor
from tests.distributed import run_on_ranks


class Loader(SimpleNamespace):
    """A data loader of 318 batches."""

    def __len__(self) -> int:
        return 318


def runner(
    num_prototypes: list[int] | None = None,
    loss: float = 7.5,
    **scalars: float,
) -> SimpleNamespace:
    """Make the parts of a Runner that are used: iteration 50 of 3 x 318.

    An iteration of 64 images takes half a second, the data 20 ms of it.
    """
    model = nn.Module()
    if num_prototypes is not None:
        model.head = nn.Module()
        model.head.num_prototypes = num_prototypes
    logged = dict(
        lr=0.48, base_lr=0.48, time=0.5, data_time=0.02, loss=loss, **scalars
    )
    buffers = {}
    for name, value in logged.items():
        # The last two of ten: means of the window, not last values.
        buffers[f'train/{name}'] = HistoryBuffer()
        for factor in (1, 1, 1, 1, 1, 1, 1, 1, 0.5, 1.5):
            buffers[f'train/{name}'].update(
                value if name.endswith('lr') else value * factor
            )
    hub = SimpleNamespace(
        log_scalars=buffers,
        runtime_info=dict(eta=3723.9),
        get_info=lambda name: dict(eta=3723.9)[name],
    )
    loader = Loader(batch_sampler=SimpleNamespace(batch_size=64))
    return SimpleNamespace(
        model=model,
        message_hub=hub,
        epoch=0,
        iter=49,
        max_epochs=3,
        max_iters=954,
        train_dataloader=loader,
        _train_loop=object(),
        train_loop=SimpleNamespace(dataloader=loader),
        val_loop=SimpleNamespace(dataloader=loader),
    )


def line_of(run: SimpleNamespace, **arguments: object) -> tuple[dict, str]:
    processor = SwAVLogProcessor(window_size=10, **arguments)
    return processor.get_log_after_iter(run, 49, 'train')


def test_line() -> None:
    tag, line = line_of(runner([3000]))
    memory = tag['memory']
    assert line == (
        'Epoch(train) [1][ 50/318]  lr: 4.8000e-01  eta: 1:02:03  '
        'time: 0.500 s  data wait: 4.0%  128.0 images/s  '
        f'memory: {memory} MB  loss: 7.5000 (ln K 8.0064)'
    )
    assert 50 < memory < 1e5  # MB of this process
    assert tag['ln_K'] == pytest.approx(math.log(3000))
    assert tag['images_per_s'] == pytest.approx(128)
    assert tag['data_wait'] == pytest.approx(0.04)
    assert (tag['loss'], tag['iter'], tag['epoch']) == (7.5, 50, 1)


def test_several_heads_and_other_scalars() -> None:
    tag, line = line_of(runner([100, 10000], grad_norm=2.0))
    # The mean of ln 100 and ln 10000 is ln 1000.
    assert line.endswith('loss: 7.5000 (ln K 6.9078)  grad_norm: 2.0000')
    assert tag['ln_K'] == pytest.approx(math.log(1000))


def test_model_without_prototypes() -> None:
    tag, line = line_of(runner())
    assert line.endswith('loss: 7.5000')
    assert 'ln_K' not in tag


def test_by_iteration_and_with_hierarchy() -> None:
    tag, line = line_of(
        runner([3000]), by_epoch=False, log_with_hierarchy=True
    )
    assert line.startswith('Iter(train) [ 50/954]  lr: 4.8000e-01  eta: ')
    assert line.endswith('  loss: 7.5000 (ln K 8.0064)')
    assert tag['train/ln_K'] == pytest.approx(math.log(3000))
    assert tag['train/images_per_s'] == pytest.approx(128)


def line_on_rank(rank: int) -> tuple[dict, str]:
    return line_of(runner([3000], loss=7.0 + rank))


def test_ranks_log_the_mean_loss_and_the_sum_of_images() -> None:
    for tag, line in run_on_ranks(line_on_rank, 2):
        assert tag['loss'] == pytest.approx(7.5)
        assert tag['images_per_s'] == pytest.approx(256)
        assert re.search(r'256.0 images/s .* loss: 7.5000 \(ln K', line)


def test_validation_lines_are_mmengines() -> None:
    run = runner([3000])
    run.message_hub.log_scalars = {
        key.replace('train', 'val'): value
        for key, value in run.message_hub.log_scalars.items()
    }
    tag, line = SwAVLogProcessor().get_log_after_iter(run, 49, 'val')
    assert 'data_time: 0.0200' in line
    assert 'ln_K' not in tag
