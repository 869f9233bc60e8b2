"""Compute a little on each device: `python -m ...` prints a line for each.

In a process of its own, since a driver that does not fit may end it or hang.
"""

import json
import os
from collections.abc import Iterator
from tempfile import TemporaryDirectory

import torch
from torch import distributed


def try_devices() -> Iterator[dict[str, str]]:
    """Yield 'name' and 'text' of what works, before it goes on."""
    num_gpus = torch.cuda.device_count()
    for index in range(num_gpus):
        _multiply(f'cuda:{index}')
        found = torch.cuda.get_device_properties(index)
        free = torch.cuda.mem_get_info(index)[0]
        yield dict(
            name=f'GPU {index}',
            text=f'{found.name}, {free / 1e9:.1f} of '
            f'{found.total_memory / 1e9:.1f} GB free',
        )
    _multiply('cpu')
    backend = 'nccl' if num_gpus else 'gloo'
    _reduce(backend, 'cuda:0' if num_gpus else 'cpu')
    yield dict(name=backend, text='sums over the processes of a training')


def _multiply(device: str) -> None:
    """Multiply two matrices, and compare with float64."""
    torch.manual_seed(0)
    left, right = torch.rand(2, 256, 256, dtype=torch.float64)
    product = left.float().to(device) @ right.float().to(device)
    # TF32 keeps 11 bits of each of 256 terms below 1.
    if (product.cpu() - left @ right).abs().max() > 256 * 2**-10:
        raise RuntimeError(f'{device} computes wrong products')


def _reduce(backend: str, device: str) -> None:
    """Sum over a group of this one process."""
    with TemporaryDirectory() as folder:
        distributed.init_process_group(
            backend, init_method=f'file://{folder}/meet', rank=0, world_size=1
        )
        numbers = torch.ones(3, device=device)
        distributed.all_reduce(numbers)
        if numbers.tolist() != [1, 1, 1]:
            raise RuntimeError(f'{backend} computes wrong sums')
        distributed.destroy_process_group()


if __name__ == '__main__':
    for line in try_devices():
        print(json.dumps(line), flush=True)
    # As `engine.processes.leave_cpu_group`: gloo may abort what shuts down.
    os._exit(0)
