"""Too little shared memory is said before training, or at least in a line."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from swav_plugin.datasets import ImageFolder
from swav_plugin.engine import shared_memory
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.shared_memory import (
    check_shared_memory,
    lost_workers_in_one_line,
)
from tests.test_datasets.conftest import write_image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(4):
        write_image(tmp_path / f'{number}.png', number)  # 40 x 60
    return tmp_path


def views(root: Path, **options: Any) -> ImageFolder:
    """A set of samples of 2 * 3 * 8 * 8 + 3 * 4 * 4 = 432 bytes."""
    multi_crop = dict(
        type='MultiCrop',
        num_views=[2, 1],
        sizes=options.pop('sizes', [8, 4]),
        crop_ratio_ranges=[(0.5, 1.0), (0.2, 0.5)],
        **options,
    )
    pipeline = [dict(type='LoadImage'), multi_crop, dict(type='PackViews')]
    return ImageFolder(root, pipeline)


def check(
    dataset: Any, free: int, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> list[str]:
    """Check a loader with so many bytes free; return the warnings."""
    monkeypatch.setattr(shared_memory, 'free_bytes', lambda: free)
    loader = DataLoader(dataset, batch_size=4, **options)
    messages: list[str] = []
    runner: Any = SimpleNamespace(
        train_dataloader=loader,
        logger=SimpleNamespace(warning=messages.append),
    )
    check_shared_memory(runner, 'train')
    return messages


def test_a_batch_of_each_worker_must_fit(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 3 * 4 * 432
    dataset = views(root)
    with pytest.raises(
        UsageError,
        match='has 0.0 MB of shared memory free, but 3 workers with a batch '
        'of 4 each need 0.0 MB. Give the container more .*num_workers=0',
    ):
        check(dataset, needed - 1, monkeypatch, num_workers=3)
    (message,) = check(dataset, needed, monkeypatch, num_workers=3)
    assert 'for each of the 2 batches they make ahead' in message
    assert not check(dataset, 2 * needed, monkeypatch, num_workers=3)
    assert not check(dataset, 0, monkeypatch, num_workers=0)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    with pytest.raises(UsageError, match='6 workers'):
        check(dataset, 2 * needed - 1, monkeypatch, num_workers=3)


def test_whole_images_and_their_parameters(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 4 * 3 * 40 * 60
    dataset = views(root, on_device=True, sizes=[30, 20])  # none is shrunk
    check(dataset, needed, monkeypatch, num_workers=1)
    with pytest.raises(UsageError):
        check(dataset, needed - 1, monkeypatch, num_workers=1)


def test_random_numbers_stay_as_they_were(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Drawing(torch.utils.data.Dataset):
        def __getitem__(self, index: int) -> dict:
            return dict(inputs=torch.rand(3) + np.random.rand())

        def __len__(self) -> int:
            return 5

    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    check(Drawing(), 10**6, monkeypatch, num_workers=1)
    assert (torch.rand(1), np.random.rand()) == expected


def test_unreadable_images_are_not_its_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'a.jpg').touch()
    assert not check(views(tmp_path), 1, monkeypatch, num_workers=1)


def test_real_shared_memory() -> None:
    if not os.path.isdir('/dev/shm'):
        assert shared_memory.free_bytes() >= 2**34
        return
    status = os.statvfs('/dev/shm')
    free = shared_memory.free_bytes()
    assert 0 <= free <= status.f_blocks * status.f_frsize


@pytest.mark.parametrize(
    'message',
    [
        # torch 2.1 to 2.14
        'unable to allocate shared memory(shm) for file </torch_29_0>: No '
        'space left on device (28)',
        'unable to write to file </torch_29_0>: No space left on device (28)',
        'DataLoader worker (pid 7) is killed by signal: Bus error. It is '
        "possible that dataloader's workers are out of shared memory. Please "
        'try to raise your shared memory limit.',
        'unable to mmap 128 bytes from file </torch_1>: Cannot allocate '
        'memory (12)',
    ],
)
def test_what_torch_says_becomes_a_line(message: str) -> None:
    with (
        pytest.raises(UsageError, match='ran out of shared memory, /dev/shm'),
        lost_workers_in_one_line(),
    ):
        raise RuntimeError(message)


def test_a_batch_of_a_killed_worker() -> None:
    """Nobody answers where the batch was to be had; torch says nothing."""
    rows = TensorDataset(torch.zeros(8, 4))
    batches = iter(DataLoader(rows, num_workers=1))
    (worker,) = batches._workers
    at_end = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        while batches._worker_result_queue.empty():
            time.sleep(0.01)
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        with (
            pytest.raises(
                UsageError,
                match=f'rank 0: its data worker, process {worker.pid}, was '
                r'killed \(SIGKILL\)\. The system does that when',
            ),
            lost_workers_in_one_line(),
        ):
            next(batches)
    finally:
        signal.signal(signal.SIGCHLD, at_end)


def test_other_errors_stay() -> None:
    with (
        pytest.raises(RuntimeError, match='unable to open file a.pth'),
        lost_workers_in_one_line(),
    ):
        raise RuntimeError('unable to open file a.pth')


def test_fewer_workers_where_their_batches_do_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each may hold three batches: 64 MB are enough for two of 10 MB."""
    monkeypatch.setattr(shared_memory, 'free_bytes', lambda: 64_000_000)
    assert shared_memory.workers_that_fit(16, 10_000_000) == 2
    assert shared_memory.workers_that_fit(1, 10_000_000) == 1
    assert shared_memory.workers_that_fit(16, 100_000_000) == 0
