"""Note what a run is, where its log is, for a report that comes later."""

import importlib
import json
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.runner import EpochBasedTrainLoop, Runner

import swav_plugin
from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.engine.processes import count_cores
from swav_plugin.engine.screen import (
    describe_batch,
    describe_data,
    describe_length,
    describe_model,
)
from swav_plugin.engine.wrappers import unwrap

from .history import SCALARS

RECORD = 'run.json'
_LIBRARIES = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain')


def record_run(runner: Runner, has_ended: bool) -> None:
    """Write what a run is and how far it has come, beside its log.

    Args:
        runner: The Runner; at the start, and once more at the end.
        has_ended: All of it is trained.
    """
    loop = runner.train_loop
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    path = Path(runner.log_dir, RECORD)
    known = _read(path) if has_ended else {}
    now = time.strftime('%Y-%m-%d %H:%M')
    known.setdefault('facts', describe_run(runner) | {'Begun': now})
    known.update(
        iter=runner.iter,
        max_iters=runner.max_iters,
        iters_per_epoch=len(runner.train_dataloader) if by_epoch else None,
        has_ended=has_ended,
    )
    if has_ended:
        known['facts']['Ended'] = now
    write_atomic(path, json.dumps(known, indent=2) + '\n')


def read_record(work_dir: Path) -> dict[str, Any]:
    """Read what the starts of a run noted; {} if none did.

    Returns:
        What the newest of them noted, and when the first one began. How far
        the run has come is there only if it was the last to train.
    """
    records = [
        (path.parent, found)
        for path in sorted(work_dir.glob(f'*/{RECORD}'))
        if (found := _read(path))
    ]
    if not records:
        return {}
    folder, record = records[-1]
    facts = record['facts']
    num_starts = len({*find_starts(work_dir), *(each for each, _ in records)})
    if num_starts > 1:
        begun = records[0][1]['facts'].get('Begun', '')
        facts['Starts'] = f'{num_starts}, the last {facts.get("Begun")}'
        facts['Begun'] = begun
    if folder < max(find_starts(work_dir), default=folder):
        facts.pop('Ended', None)
        record = dict(facts=facts, is_old=True)
    return record


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
        'Command': f'{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}',
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
