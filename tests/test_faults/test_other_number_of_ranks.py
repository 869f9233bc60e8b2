"""A run goes on with another number of ranks as if nothing had changed.

In float64, in which rounding over a few steps stays below 1e-9; float32 is
off by as much as the processor likes.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from .ranks import Ranks
from .recipe import draw_images, losses, write_config

NUM_ITERS = 10
# Without drop path, which draws on each rank. A checkpoint of each iteration.
MORE = """
custom_imports = dict(imports=['tests.test_faults.in_float64'])
model['backbone']['drop_path_rate'] = 0.0
optim_wrapper = dict(type='OptimWrapper', accumulative_counts=2)
default_hooks['checkpoint'].update(
    by_epoch=False, interval=1, max_keep_ckpts=-1)
"""


class Runs:
    """Runs of one recipe on several numbers of ranks, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        images = draw_images(folder / 'images')
        self.config = write_config(folder / 'config.py', images, MORE)

    def train(
        self, num_ranks: int, begin: Path | None = None, batch: int = 8
    ) -> Path:
        """Train from a checkpoint or the start; return the work dir."""
        name = f'{num_ranks}x{batch}-from-{begin.stem if begin else 0}'
        run = Ranks(
            num_ranks,
            self.folder / f'{name}-said',
            self.config,
            '--work-dir',
            str(self.folder / name),
            *(('--resume', str(begin)) if begin else ()),
            '--cfg-options',
            f'train_dataloader.batch_size={batch // num_ranks}',
        )
        assert run.wait() == [0] * num_ranks, run.said()
        return self.folder / name


@pytest.fixture(scope='module')
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp('runs'))


@pytest.fixture(scope='module')
def whole(runs: Runs) -> Path:
    """A run on one rank in one go."""
    return runs.train(1)


@pytest.fixture(scope='module')
def on_two(runs: Runs, whole: Path) -> Path:
    """From the middle of its first epoch on two ranks, a gradient waiting."""
    return runs.train(2, whole / 'iter_3.pth')


def assert_goes_on(after: Path, begin: int, whole: Path) -> None:
    """Compare losses, weights, queue and momenta with those of one go."""
    expected = losses(whole)
    assert [*expected] == [*range(1, NUM_ITERS + 1)]
    assert max(expected.values()) - min(expected.values()) > 0.1  # it moves
    found = losses(after)
    assert [*found] == [*range(begin + 1, NUM_ITERS + 1)]
    for step, loss in found.items():
        assert abs(loss - expected[step]) < 1e-9, step
    states = [
        torch.load(folder / f'iter_{NUM_ITERS}.pth', weights_only=True)
        for folder in (whole, after)
    ]
    one, other = (state['state_dict'] for state in states)
    assert one.keys() == other.keys()
    assert 'head.queue.features' in one
    for key in one:
        torch.testing.assert_close(other[key], one[key], rtol=0, atol=1e-9)
    momenta, others = (state['optimizer']['state'] for state in states)
    for key, value in momenta.items():
        np.testing.assert_allclose(
            others[key]['momentum_buffer'],
            value['momentum_buffer'],
            rtol=0,
            atol=1e-9,
        )


def test_one_to_two(whole: Path, on_two: Path) -> None:
    begin = torch.load(whole / 'iter_3.pth', weights_only=True)
    assert len(begin['gradients']) == 1
    assert_goes_on(on_two, 3, whole)


@pytest.mark.parametrize('num_ranks', [1, 4])
def test_two_to_another(
    num_ranks: int, runs: Runs, whole: Path, on_two: Path
) -> None:
    begin = torch.load(on_two / 'iter_7.pth', weights_only=True)
    assert len(begin['gradients']) == 2
    after = runs.train(num_ranks, on_two / 'iter_7.pth')
    assert_goes_on(after, 7, whole)
    (log,) = after.glob('*/*.log')
    assert f'the same total batch: 2 x 4 = 8 -> {num_ranks} x' in (
        log.read_text()
    )


def test_another_total_batch_is_told(runs: Runs, whole: Path) -> None:
    """At the end of an epoch, which its checkpoint has not counted yet."""
    after = runs.train(2, whole / 'iter_5.pth', batch=4)
    (log,) = after.glob('*/*.log')
    assert 'total batch: 1 x 8 = 8 -> 2 x 2 = 4' in log.read_text()
    assert 'iterations of an epoch: 5 -> 10' in log.read_text()
    assert [*losses(after)] == [*range(11, 21)]
