"""What a part has measured so far: one JSON file each, always whole."""

import datetime
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from common import device_name

from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.engine.processes import end_with_parent

# Numbers of a call belong to those of an earlier one if these are equal.
_SAME_HARDWARE = ('gpu', 'cpu', 'torch', 'commit')


@dataclass(frozen=True)
class Call:
    """What a part needs to know about the call of run.sh.

    Args:
        data: Folder of the images, if one was given.
        out: Folder of the records.
        is_dry: Measure tiny sizes, to see that everything runs.
        hardware: As `common.hardware` gives it.
        end: When the part should be done, on the monotonic clock.
        start_method: How processes start: 'fork' or 'spawn'.
    """

    data: Path | None
    out: Path
    is_dry: bool
    hardware: dict[str, Any]
    end: float
    start_method: str = 'fork'

    def left_s(self) -> float:
        """Return the seconds until the part should be done."""
        return self.end - time.monotonic()

    def start_process(
        self, target: Callable[..., None], *args: Any
    ) -> BaseProcess:
        """Start a process that ends with this one."""
        context: Any = multiprocessing.get_context(self.start_method)
        process = context.Process(
            target=_run_to_our_end, args=(target, os.getpid(), *args)
        )
        process.start()
        return process

    def find(self, folder: str) -> Path | None:
        """Return a folder of the data, or None if it is not there."""
        if self.data is None or not (self.data / folder).is_dir():
            return None
        return (self.data / folder).resolve()


def _run_to_our_end(
    target: Callable[..., None], parent: int, *args: Any
) -> None:
    """Run in a new process, if the one that started it still lives."""
    end_with_parent()
    if os.getppid() == parent:
        target(*args)


def print_to(log: Path) -> None:
    """Append to a file what this process and its children print."""
    sys.stdout.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)


class Record:
    """The file of a part.

    Args:
        path: The file.
        content: Its JSON. `missing` says what could not be measured and why;
            `finished` that nothing is left to measure; `took_s` how long all
            calls have worked on it.
    """

    def __init__(self, path: Path, content: dict[str, Any]):
        self.path = path
        self.content = content
        self._start_s: float | None = None

    def start_clock(self) -> None:
        """Count from now on; each save, in any process, writes the time."""
        self._start_s = time.monotonic() - self.content.get('took_s', 0)

    def reload(self) -> None:
        """Read what another process has written."""
        if self.path.exists():
            self.content = json.loads(self.path.read_text(encoding='utf-8'))

    def save(self, **changes: Any) -> None:
        """Change the content and write it, whole or not at all."""
        self.content.update(changes)
        if self._start_s is not None:
            took_s = time.monotonic() - self._start_s
            self.content['took_s'] = round(took_s, 1)
        write_atomic(self.path, json.dumps(self.content, indent=2) + '\n')


def open_record(
    part: str, out: Path, hardware: dict[str, Any], options: dict[str, Any]
) -> Record:
    """Return the record that goes on with an earlier one, or a new one.

    An earlier one is of the same card, torch, commit and options. Others stay
    as they are.
    """
    options = json.loads(json.dumps(options))  # tuples become lists
    name = f'{part}_{device_name(hardware)}'
    if options['is_dry']:
        name = f'{part}_dry-{device_name(hardware)}'
    for path in sorted(out.glob(f'{name}_*.json'), reverse=True):
        content = json.loads(path.read_text(encoding='utf-8'))
        if content['options'] == options and all(
            content['hardware'][key] == hardware[key] for key in _SAME_HARDWARE
        ):
            return Record(path, content)
    stem = f'{name}_{datetime.date.today().isoformat()}'
    path, number = out / f'{stem}.json', 1
    while path.exists():
        number += 1
        path = out / f'{stem}_{number}.json'
    return Record(
        path,
        dict(hardware=hardware, options=options, finished=False, missing={}),
    )


def print_table(rows: Sequence[tuple[str, str, str]]) -> None:
    """Print lines of a part, what was measured, and the numbers."""
    head = ('part', 'what', 'result')
    widths = [max(len(row[i]) for row in [head, *rows]) for i in (0, 1)]
    print()
    for part, what, result in [head, *rows]:
        print(f'{part:<{widths[0]}}  {what:<{widths[1]}}  {result}')
