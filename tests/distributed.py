"""Run a function on several CPU processes that talk over gloo."""

import datetime
import os
import sys
import time
from collections.abc import Callable
from multiprocessing import set_forkserver_preload
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

# Children are forked from a server that has imported these once: 8 ranks
# start in about a second instead of 8 imports of torch.
set_forkserver_preload(['torch', 'torch.distributed', 'swav_plugin.models'])


def run_on_ranks(
    fn: Callable[..., Any], world_size: int, *args: Any, timeout_s: float = 180
) -> list:
    """Call ``fn(rank, *args)`` on every rank of a gloo group.

    Each rank is a process of its own with one torch thread; `fn` finds the
    default process group ready. An exception on one rank ends the others.

    Args:
        fn: A module-level function of an importable module. What it returns
            is saved with ``torch.save``.
        world_size: Number of processes, >= 1.
        args: Passed to `fn`, pickled.
        timeout_s: The whole call ends after this long.

    Returns:
        What `fn` returned on ranks 0, 1, ....

    Raises:
        TimeoutError: The ranks were not done in time; they are killed.
        torch.multiprocessing.ProcessRaisedException: `fn` raised on a rank;
            the message holds its traceback.
    """
    deadline = time.monotonic() + timeout_s
    with TemporaryDirectory() as folder:
        ranks = mp.start_processes(
            _run_rank,
            args=(world_size, folder, timeout_s, fn, args),
            nprocs=world_size,
            join=False,
            start_method='forkserver',
        )
        try:
            while not ranks.join(timeout=max(0, deadline - time.monotonic())):
                if time.monotonic() >= deadline:
                    raise TimeoutError(
                        f'{fn.__name__} on {world_size} ranks did not end '
                        f'in {timeout_s} s: a rank waits for another.'
                    )
        finally:
            for process in ranks.processes:
                process.kill()
                process.join()
        # Our own children wrote these files: any object may come back.
        return [
            torch.load(Path(folder, f'{rank}.pth'), weights_only=False)
            for rank in range(world_size)
        ]


def _run_rank(
    rank: int,
    world_size: int,
    folder: str,
    timeout_s: float,
    fn: Callable[..., Any],
    args: tuple,
) -> None:
    """Join the group, call `fn` and leave its result in `folder`."""
    if sys.platform == 'linux':
        # Else gloo asks for the address of the host's name, which may fail.
        os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/rendezvous',
        rank=rank,
        world_size=world_size,
        timeout=datetime.timedelta(seconds=timeout_s),
    )
    result = fn(rank, *args)
    torch.save(result, Path(folder, f'{rank}.pth'))
    # A rank that leaves early would break its peers' last collective.
    dist.barrier()
    # No clean-up: in torch 2.1 gloo's destructor holds the GIL while it waits
    # for a thread that may want the GIL, which hung about one call in thirty.
    sys.stdout.flush()
    os._exit(0)
