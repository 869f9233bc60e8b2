"""Start, connect and end processes, and share cores among them."""

import ctypes
import datetime
import functools
import logging
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch
from mmengine.config import Config
from mmengine.device import get_device

from swav_plugin.shipped import TOOLS

from .agreement import kill_workers
from .errors import UsageError

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
# What the user typed, for the processes that it started.
_TYPED = 'SWAV_COMMAND'


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
    is_given = launcher != 'none'
    launcher = launcher if is_given else find_launcher()
    cfg.launcher = launcher
    if launcher == 'none':
        return
    _check_environment(launcher)
    if get_device() == 'cpu':
        if launcher != 'pytorch':
            said = '' if is_given else ' (detected from the environment)'
            raise UsageError(
                f'--launcher {launcher}{said} needs GPUs, but none is '
                f'visible; on CPU use {TOOLS}/dist_train.sh CONFIG PROCESSES'
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
    num_processes = _number_in_env(per_node, 1)
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
    if 'RANK' in env and _number_in_env('WORLD_SIZE', 1) > 1:
        return 'pytorch'
    is_step = 'SLURM_STEP_ID' in env or env.get('SLURM_PROCID', '0') != '0'
    num_tasks = _number_in_env(
        'SLURM_STEP_NUM_TASKS', _number_in_env('SLURM_NTASKS', 1)
    )
    if is_step and num_tasks > 1:
        return 'slurm'
    if _number_in_env('OMPI_COMM_WORLD_SIZE', 1) > 1:
        return 'mpi'
    return 'none'


def torchrun(num_ranks: int) -> list[str]:
    """Return the command that starts processes of what follows it."""
    return [
        sys.executable, '-m', 'torch.distributed.run', '--standalone',
        f'--nproc_per_node={num_ranks}',
    ]  # fmt: skip


def start_ranks(
    num_ranks: int, command: str, arguments: Sequence[str]
) -> NoReturn:
    """Become torchrun, which runs a command on GPUs of this machine.

    Args:
        num_ranks: How many; without a GPU as many processes on the CPU.
        command: 'train' or 'test'.
        arguments: Those of the command.
    """
    os.environ.setdefault('OMP_NUM_THREADS', '1')  # torchrun's, but silent
    module = f'swav_plugin.commands.{command}'
    os.execve(
        sys.executable,
        [
            *torchrun(num_ranks), '-m', module, *arguments,
            '--launcher', 'pytorch',
        ],
        {**os.environ, _TYPED: typed_command()},
    )  # fmt: skip


def typed_command() -> str:
    """Return the command line that the user typed.

    Also in processes that `start_ranks` started. A script is named as Python
    got it: 'python tools/train.py CONFIG'.
    """
    if _TYPED in os.environ:
        return os.environ[_TYPED]
    program, *arguments = sys.argv
    if program.endswith('.py'):
        program = f'python {shlex.quote(program)}'
    return ' '.join([program, *map(shlex.quote, arguments)])


def check_gpus(gpus: int) -> None:
    """Check that there are as many GPUs; without any the CPU will do.

    Raises:
        UsageError: There are some, but not so many.
    """
    num_gpus = torch.cuda.device_count()
    if get_device() != 'cpu' and gpus > num_gpus:
        raise UsageError(f'--gpus {gpus}: only {num_gpus} are visible')


def _number_in_env(variable: str, default: int) -> int:
    """Return a number of the environment that a launcher sets.

    Raises:
        UsageError: It is none.
    """
    text = os.environ.get(variable, str(default))
    # Slurm writes 2(x3) for three machines with two tasks.
    match = re.fullmatch(r'(\d+)(\(x\d+\))?', text)
    if match is None:
        raise UsageError(
            f'the environment variable {variable} is {text!r}, but '
            'launchers set it to a number; unset it to train in one process'
        )
    return int(match[1])


def _check_environment(launcher: str) -> None:
    """Check what a launcher tells its processes.

    Raises:
        UsageError: Something is missing, and they would not find each other.
    """
    if launcher != 'pytorch':
        return
    start = f'torchrun sets it: use {TOOLS}/dist_train.sh CONFIG GPUS'
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        if not os.environ.get(name):
            raise UsageError(
                'one of several processes needs the environment variable '
                f'{name}; {start}'
            )
    rank = _number_in_env('RANK', 0)
    num_ranks = _number_in_env('WORLD_SIZE', 1)
    if rank >= num_ranks:
        raise UsageError(
            f'RANK={rank}, but WORLD_SIZE={num_ranks}: ranks are 0 to '
            f'{num_ranks - 1}; {start}'
        )
    if not 0 < _number_in_env('MASTER_PORT', 0) < 2**16:
        raise UsageError(
            f'MASTER_PORT={os.environ["MASTER_PORT"]} is not a port; give '
            'PORT=1024 to 65535'
        )


def rank_before_init(launcher: str) -> int:
    """Return the rank of this process, which is in no group yet."""
    variable = dict(
        pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK'
    )
    return _number_in_env(variable.get(launcher, ''), 0)


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


def keep_threads(saved: object) -> str:
    """Let torch compute on the CPU with as many threads as a run began with.

    Another number rounds differently. The user's OMP_NUM_THREADS stays, and
    a number that is too large for this machine is not taken.

    Args:
        saved: `num_threads` of a checkpoint; anything but a number above 0 is
            not known.

    Returns:
        What the log should say; '' if nothing differs.
    """
    now = torch.get_num_threads()
    if type(saved) is not int or saved < 1 or saved == now:
        return ''
    begun = f'--resume: the run began with {saved} CPU threads of torch'
    rounds = 'results agree to rounding, not bit for bit'
    if 'OMP_NUM_THREADS' in os.environ:
        return (
            f'{begun} and goes on with {now}, from OMP_NUM_THREADS: {rounds}.'
        )
    cores = count_cores()
    if saved > cores:
        return f'{begun}; here it has {cores} cores and takes {now}: {rounds}.'
    torch.set_num_threads(saved)
    return f'{begun} and keeps that number, in place of {now}.'


def count_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_launcher() -> None:
    """Make a rank end with the launcher that started it, on Linux.

    It would go on for ever, and beside the next run into its work dir. Ranks
    that a shell starts are left alone: the shell may go before them.
    """
    if 'TORCHELASTIC_RUN_ID' in os.environ or (
        find_launcher() in ('slurm', 'mpi')
    ):
        end_with_parent()


def end_with_parent() -> None:
    """Make this process end when the one that started it does, on Linux."""
    if sys.platform != 'linux':
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may be gone since before: then init has taken its place, which in a
    # container may be the launcher itself.
    parent = os.getppid()
    try:
        command = Path(f'/proc/{parent}/cmdline').read_bytes()
    except OSError:
        return
    if re.match(rb'\S*/(systemd|init)\b', command) or (
        parent == 1 and not re.search(rb'torch|python|mpi|slurm', command)
    ):
        os._exit(1)


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


def end_processes(code: int = 0) -> None:
    """Leave the process group, if there is one, when all is done.

    Args:
        code: The exit code of a process that trained over gloo, which ends
            here; others go on.
    """
    if torch.distributed.is_initialized():
        if get_device() == 'cpu':
            leave_cpu_group(code)
        torch.distributed.destroy_process_group()


def leave_cpu_group(code: int = 0) -> NoReturn:
    """End a process that trained over gloo.

    While Python shuts down, gloo's threads abort some processes (torch 2.14;
    https://github.com/pytorch/pytorch/pull/179291), with or without
    ``destroy_process_group``, and torchrun would report a failed run.
    """
    kill_workers()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
