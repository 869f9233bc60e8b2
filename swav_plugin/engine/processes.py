"""Start, connect and end processes, and share cores among them."""

import ctypes
import datetime
import functools
import logging
import multiprocessing
import os
import signal
import sys
from typing import NoReturn

import torch
from mmengine.config import Config
from mmengine.device import get_device

from .errors import UsageError

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


def set_launcher(cfg: Config, launcher: str) -> None:
    """Prepare a config for how the processes were started.

    On a machine without a GPU the model gets `CPUDistributedDataParallel`;
    call `init_cpu_group` before the Runner.

    Args:
        cfg: Changed in place.
        launcher: 'none', 'pytorch' (torchrun), 'slurm' or 'mpi'. With 'none',
            the environment tells whether there is one all the same.

    Raises:
        UsageError: The launcher did not start this process, needs GPUs, or
            has started more processes than this machine has GPUs.
    """
    launcher = find_launcher() if launcher == 'none' else launcher
    cfg.launcher = launcher
    if launcher == 'none':
        return
    end_with_parent()
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise UsageError(
            '--launcher pytorch is for processes that torchrun '
            'starts: use tools/dist_train.sh CONFIG GPUS'
        )
    if get_device() == 'cpu':
        if launcher != 'pytorch':
            raise UsageError(
                f'--launcher {launcher} needs GPUs and none is visible; on '
                'CPU use tools/dist_train.sh CONFIG PROCESSES'
            )
        wrapper = dict(
            find_unused_parameters=cfg.get('find_unused_parameters', False)
        )
        wrapper.update(cfg.get('model_wrapper_cfg') or {})
        # The full path is found under any default_scope.
        wrapper['type'] = 'swav_plugin.engine.CPUDistributedDataParallel'
        cfg.model_wrapper_cfg = wrapper
        return
    per_node = dict(
        pytorch='LOCAL_WORLD_SIZE',
        slurm='SLURM_NTASKS_PER_NODE',
        mpi='OMPI_COMM_WORLD_LOCAL_SIZE',
    )[launcher]
    num_processes = int(os.environ.get(per_node, 1))
    num_gpus = torch.cuda.device_count()
    if get_device() == 'cuda' and num_processes > num_gpus:
        raise UsageError(
            f'{num_processes} processes on this machine, but only {num_gpus} '
            f'GPUs are visible: start at most {num_gpus}'
        )


def find_launcher() -> str:
    """Return what started this process and others, from the environment.

    A shell or batch script of a Slurm job, which srun has not started as one
    of several tasks, is a process of its own.
    """
    env = os.environ
    if 'RANK' in env and int(env.get('WORLD_SIZE', 1)) > 1:
        return 'pytorch'
    is_step = 'SLURM_STEP_ID' in env or env.get('SLURM_PROCID', '0') != '0'
    num_tasks = env.get('SLURM_STEP_NUM_TASKS', env.get('SLURM_NTASKS', 1))
    if is_step and int(num_tasks) > 1:
        return 'slurm'
    if int(env.get('OMPI_COMM_WORLD_SIZE', 1)) > 1:
        return 'mpi'
    return 'none'


def rank_before_init(launcher: str) -> int:
    """Return the rank of this process, which is in no group yet."""
    variable = dict(
        pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK'
    )
    return int(os.environ.get(variable.get(launcher, ''), 0))


def prepare_processes(cfg: Config) -> None:
    """Let processes on CPU find each other, or share its cores well."""
    if cfg.launcher != 'none' and get_device() == 'cpu':
        init_cpu_group(cfg)
    else:
        leave_cores_to_workers(cfg)


def init_cpu_group(cfg: Config) -> None:
    """Join torchrun's processes over gloo; mmengine would ask for CUDA."""
    dist_cfg = (cfg.get('env_cfg') or {}).get('dist_cfg') or {}
    timeout_s = dist_cfg.get('timeout', 1800)
    torch.distributed.init_process_group(
        'gloo', timeout=datetime.timedelta(seconds=timeout_s)
    )


def leave_cores_to_workers(cfg: Config) -> None:
    """Give torch the CPU cores that the data loader leaves free.

    Threads of torch that share a core with a worker wait for each other: on
    two cores with one worker, two threads were four times slower than one.
    Several processes get their threads from torchrun.
    """
    if get_device() == 'cpu' and 'OMP_NUM_THREADS' not in os.environ:
        loader = cfg.get('train_dataloader') or cfg.test_dataloader
        num_workers = loader.get('num_workers', 0)
        torch.set_num_threads(max(1, count_cores() - num_workers))


def count_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_parent() -> None:
    """Make this process end when the one that started it does, on Linux.

    A rank whose launcher is gone would go on for ever, and beside the next
    run into its work dir.
    """
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@functools.cache
def end_children_with_us() -> None:
    """Make data workers end when this process is killed, on Linux.

    A worker that waits to hand over masks, which are too large for a pipe,
    never checks whether its parent is gone. A SIGTERM handler would not do:
    while a child is being forked Python forgets the signal, and mmdet's VOC
    metric would wait for that child forever. To the kernel the parent is a
    thread: nothing here may fork from a thread that ends before its child.
    """
    if sys.platform == 'linux':
        libc = ctypes.CDLL(None)
        os.register_at_fork(
            after_in_child=functools.partial(
                libc.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL
            )
        )


def end_processes() -> None:
    """Leave the process group, if there is one, when all is done."""
    if torch.distributed.is_initialized():
        if get_device() == 'cpu':
            leave_cpu_group()
        torch.distributed.destroy_process_group()


def leave_cpu_group() -> NoReturn:
    """End a process that trained over gloo, successfully.

    While Python shuts down, gloo's threads abort some processes (torch 2.14;
    https://github.com/pytorch/pytorch/pull/179291), with or without
    ``destroy_process_group``, and torchrun would report a failed run.
    """
    for worker in multiprocessing.active_children():
        worker.terminate()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
