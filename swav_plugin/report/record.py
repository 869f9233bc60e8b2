"""Note what a run is, where its log is, for a report that comes later."""

import importlib
import json
import math
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.runner import EpochBasedTrainLoop, Runner

import swav_plugin
from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.engine.agreement import Preempted
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.processes import count_cores, typed_command
from swav_plugin.engine.screen import (
    describe_batch,
    describe_data,
    describe_length,
    describe_model,
)
from swav_plugin.engine.wrappers import unwrap

from .history import SCALARS, read_start

RECORD = 'run.json'
_LIBRARIES = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain')


FINISHED = 'finished'
_TIME = '%Y-%m-%d %H:%M'


def record_run(runner: Runner, end: str = '') -> None:
    """Write what a run is and how far it has come, beside its log.

    Args:
        runner: The Runner; at the start, and once more at the end.
        end: How it ended, such as `FINISHED`; '' at the start.
    """
    loop = runner.train_loop
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    path = Path(runner.log_dir, RECORD)
    known = _read(path) if end else {}
    if 'facts' not in known:
        known.update(facts=describe_run(runner), first_iter=runner.iter)
    known.update(
        iter=runner.iter,
        max_iters=runner.max_iters,
        iters_per_epoch=len(runner.train_dataloader) if by_epoch else None,
        has_ended=end == FINISHED,
    )
    if end:
        known.update(end=end, ended=time.strftime(_TIME))
    write_atomic(path, json.dumps(known, indent=2) + '\n')


@contextmanager
def end_recorded(runner: Runner) -> Iterator[None]:
    """Note how a run ended that did not come to its end.

    Only where `ReportHook` has noted its start.
    """
    try:
        yield
    except BaseException as error:
        with suppress(Exception):  # a full disk, say: the error matters more
            if is_main_process() and _read(Path(runner.log_dir, RECORD)):
                record_run(runner, _describe_end(error))
        raise


def _describe_end(error: BaseException) -> str:
    """Say in a line what has ended a run."""
    if isinstance(error, Preempted):
        stopped, _, _ = error.message.partition(';')
        return f'{stopped}, with a checkpoint of that iteration'
    if isinstance(error, KeyboardInterrupt):
        return 'interrupted by Ctrl-C'
    told = ' '.join(str(error).split())
    if not isinstance(error, UsageError):
        told = f'{type(error).__name__}: {told}'
    return told


def read_record(work_dir: Path) -> dict[str, Any]:
    """Read what the newest start of a run noted; {} if none did.

    How far the run has come is there only if it was the last to train.
    """
    records = _read_records(work_dir)
    if not records:
        return {}
    folder = max(records)
    record = records[folder]
    if folder < max(find_starts(work_dir), default=folder):
        record = dict(facts=record['facts'], is_old=True)
    return record


def describe_starts(work_dir: Path) -> list[str]:
    """Say of each start of a run from where to where it trained, and when."""
    records = _read_records(work_dir)
    folders = sorted({*find_starts(work_dir), *records})
    return [
        _describe_start(
            folder, records.get(folder, {}), is_last=folder == folders[-1]
        )
        for folder in folders
    ]


def _describe_start(
    folder: Path, record: dict[str, Any], is_last: bool
) -> str:
    """Tell of one start, by its record or, without one, by its log."""
    log = folder / 'vis_data' / SCALARS
    history = read_start(log)
    first = record.get('first_iter')
    if first is None:
        first = max(0, history.first_iter - 1)
    verb, where = 'Begun', 'from the beginning'
    if first:
        verb, where = 'Resumed', f'from iteration {first:,}'
    try:
        begun = time.strptime(folder.name, '%Y%m%d_%H%M%S')
        when = f' {time.strftime(_TIME, begun)}'
    except ValueError:  # a folder that somebody has renamed
        when = ''
    end = record.get('end')
    last = record.get('iter', 0) if end else history.last_iter
    at = f'at {_describe_iteration(last, record)}'
    if end:
        told = f'ended {record.get("ended")} {at}: {end}'
    elif log.is_file():
        heard = time.localtime(log.stat().st_mtime)
        told = f'last heard of {time.strftime(_TIME, heard)} {at}: killed'
        if is_last:
            told += ', or not ended yet'
    else:
        told = 'nothing was logged'
    return f'{verb}{when} {where}; {told}'


def _describe_iteration(done: int, record: dict[str, Any]) -> str:
    """Name an iteration, and its epoch.

    >>> _describe_iteration(300, dict(max_iters=560, iters_per_epoch=28))
    'iteration 300 of 560 (epoch 11)'
    """
    told = f'iteration {done:,}'
    if record.get('max_iters'):
        told += f' of {record["max_iters"]:,}'
    if record.get('iters_per_epoch'):
        told += f' (epoch {math.ceil(done / record["iters_per_epoch"])})'
    return told


def _read_records(work_dir: Path) -> dict[Path, dict[str, Any]]:
    """Read what each start noted, by the folder of its log."""
    return {
        path.parent: found
        for path in sorted(work_dir.glob(f'*/{RECORD}'))
        if (found := _read(path))
    }


def find_starts(work_dir: Path) -> list[Path]:
    """Return the folders of the starts that have trained, in their order.

    `swav test` leaves such folders, too, but no loss in them.
    """
    return [
        path.parents[1]
        for path in sorted(work_dir.glob(f'*/vis_data/{SCALARS}'))
        if '"loss"' in path.read_text(encoding='utf-8', errors='replace')
    ]


def _read(path: Path) -> dict[str, Any]:
    """Read a record; a broken one counts as missing."""
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    is_one = isinstance(found, dict) and isinstance(found.get('facts'), dict)
    return found if is_one else {}


def describe_run(runner: Runner) -> dict[str, str]:
    """Return what is to be told of a run, by name."""
    dataset = runner.train_dataloader.dataset
    facts = {
        'Config': Path(str(runner.cfg.filename or 'none')).name,
        'Data': describe_data(dataset),
        'Left out': describe_left_out(dataset),
        'Model': describe_model(unwrap(runner.model)),
        'Batch': describe_batch(runner),
        'Length': describe_length(runner),
        'Seed': str(runner.seed),
        'Code': describe_code(),
        'Hardware': describe_hardware(),
        'Software': describe_software(),
        'Command': typed_command(),
    }
    return {name: fact for name, fact in facts.items() if fact}


def describe_left_out(dataset: Any) -> str:
    """Say which files beside its images a dataset did not take."""
    parts = [
        found.describe_left_out() for found in getattr(dataset, 'found', ())
    ]
    num_unreadable = getattr(dataset, 'num_unreadable', 0)
    if num_unreadable:
        parts.append(f'{num_unreadable:,} that cannot be read')
    return ', '.join(filter(None, parts))


def describe_code() -> str:
    """Return the version of this package and, of a checkout, the commit."""
    text = f'swav_plugin {swav_plugin.__version__}'
    root = Path(swav_plugin.__file__).resolve().parents[1]
    commit = _git(root, 'rev-parse', '--short=10', 'HEAD')
    if not (root / '.git').exists() or not commit:
        return text
    changes = _git(root, 'status', '--porcelain', '--untracked-files=no')
    return f'{text}, commit {commit}' + ' with changes' * bool(changes)


def _git(root: Path, *arguments: str) -> str:
    """Ask git about a checkout; '' if it does not know."""
    try:
        done = subprocess.run(
            ['git', '-C', str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return done.stdout.strip() if done.returncode == 0 else ''


def describe_hardware() -> str:
    """Name GPUs, if it trains on them, and processor."""
    parts = [f'{count_cores()} cores of {_processor()}']
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        parts.insert(0, f'{get_world_size()} x {name}')
    return ', '.join(parts)


def _processor() -> str:
    """Name the processor."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def describe_software() -> str:
    """Return the versions of Python and of what matters most."""
    parts = [f'Python {platform.python_version()}']
    parts += [
        f'{name} {importlib.import_module(name).__version__}'
        for name in _LIBRARIES
    ]
    if torch.version.cuda:
        parts.append(f'CUDA {torch.version.cuda}')
    return ', '.join(parts)
