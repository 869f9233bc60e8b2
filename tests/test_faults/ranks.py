"""Train on processes of this test's own, which may be killed one by one."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context, set_forkserver_preload
from multiprocessing.process import BaseProcess
from pathlib import Path

from ..test_commands.test_train import free_port

# Forked from a server that has imported all of it, a rank starts in a second.
_PRELOADED = [
    'torch.distributed',
    'swav_plugin.models',
    'swav_plugin.commands.train',
    'tests.test_faults.ranks',
]
POLL_S = 0.01
# All that were started; a test that fails leaves some running.
STARTED: list[BaseProcess] = []


class Ranks:
    """The processes of one run of the command train.

    Args:
        num_ranks: How many; they find each other over gloo.
        output: A folder for what they print.
        argv: Arguments of the command; a list for each rank if they differ.
        homes: What ~ is for each rank.
    """

    def __init__(
        self,
        num_ranks: int,
        output: Path,
        *argv: str | list[str],
        homes: Sequence[Path] = (),
    ) -> None:
        set_forkserver_preload(_PRELOADED)
        output.mkdir(parents=True, exist_ok=True)
        self._files = [output / f'{rank}.txt' for rank in range(num_ranks)]
        port = free_port()
        context = get_context('forkserver')
        self.processes: list[BaseProcess] = []
        for rank, file in enumerate(self._files):
            own = [
                each if isinstance(each, str) else each[rank] for each in argv
            ]
            file.write_text('')
            env = dict(HOME=str(homes[rank])) if homes else {}
            args = (rank, num_ranks, port, str(file), own, env)
            process = context.Process(target=_train, args=args)
            process.start()
            self.processes.append(process)
            STARTED.append(process)

    def children(self, rank: int = 0) -> list[int]:
        """Return the numbers of the data workers of a rank."""
        return children_of(self.processes[rank].pid or 0)

    def said(self, rank: int = 0) -> str:
        """Return what a rank has printed so far."""
        return self._files[rank].read_text()

    def wait_for(
        self, text: str, count: int = 1, timeout_s: float = 300
    ) -> None:
        """Wait until rank 0 has printed a text so many times.

        Raises:
            AssertionError: It has ended without, or not printed it in time.
        """
        until = time.monotonic() + timeout_s
        while self.said().count(text) < count:
            is_alive = self.processes[0].is_alive()
            if not is_alive and self.said().count(text) >= count:
                return
            assert is_alive and time.monotonic() < until, self.said()
            time.sleep(POLL_S)

    def send(self, number: signal.Signals, *ranks: int) -> None:
        """Send a signal to some ranks, or to all."""
        for rank, process in enumerate(self.processes):
            if process.is_alive() and (not ranks or rank in ranks):
                os.kill(process.pid or 0, number)

    def wait(self, timeout_s: float = 300) -> list[int | None]:
        """Wait for the end of all; return their exit codes.

        Who does not end in time is killed, and has the code -9.
        """
        until = time.monotonic() + timeout_s
        for process in self.processes:
            process.join(max(0, until - time.monotonic()))
        self.send(signal.SIGKILL)
        for process in self.processes:
            process.join()
        return [process.exitcode for process in self.processes]


def children_of(pid: int) -> list[int]:
    """Return the numbers of the processes that a process has started."""
    tasks = Path(f'/proc/{pid}/task').glob('*/children')
    return [int(child) for task in tasks for child in task.read_text().split()]


def _train(
    rank: int,
    num_ranks: int,
    port: str,
    output: str,
    argv: list[str],
    env: dict[str, str],
) -> None:
    """Run the command in a new process, with its output in a file."""
    os.environ.update(env)
    number = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(number, sys.stdout.fileno())
    os.dup2(number, sys.stderr.fileno())
    os.environ['OMP_NUM_THREADS'] = '1'
    if num_ranks > 1:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(num_ranks),
            LOCAL_WORLD_SIZE=str(num_ranks),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=port,
            GLOO_SOCKET_IFNAME='lo',
        )
    import torch

    from swav_plugin.commands import train

    torch.set_num_threads(1)
    sys.argv = ['train.py', *argv]
    train.main()
