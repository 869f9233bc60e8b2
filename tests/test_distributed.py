"""Tests of the tests' own way to run several ranks."""

import time

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import ProcessRaisedException

from tests.distributed import run_on_ranks


def _gather(rank: int, offset: int) -> torch.Tensor:
    """Sum of all ranks' numbers, beside this rank's own."""
    own = torch.tensor([float(rank + offset)])
    total = own.clone()
    dist.all_reduce(total)
    return torch.cat([own, total])


def _fail_on_last(rank: int) -> None:
    """Raise on rank 1 while rank 0 waits for it."""
    if rank == 1:
        raise ValueError('rank 1 is unhappy')
    dist.barrier()


def _hang(rank: int) -> None:
    """Never return on rank 0."""
    time.sleep(600 if rank == 0 else 0)


def test_results_come_back_in_rank_order() -> None:
    first, second, third = run_on_ranks(_gather, 3, 10)
    assert first.tolist() == [10, 33]
    assert second.tolist() == [11, 33]
    assert third.tolist() == [12, 33]


def test_error_of_one_rank_is_shown() -> None:
    with pytest.raises(ProcessRaisedException, match='rank 1 is unhappy'):
        run_on_ranks(_fail_on_last, 2)


def test_hang_becomes_an_error() -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError, match='_hang on 2 ranks'):
        run_on_ranks(_hang, 2, timeout_s=8)
    assert time.monotonic() - start < 300  # the rank would sleep 600 s
