"""Run one benchmark as a command, or find what an earlier one has left."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from swav_plugin import __version__
from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.checkpoints.newest import find_checkpoint
from swav_plugin.engine.processes import end_with_parent, torchrun
from swav_plugin.engine.results import RESULTS, read_results
from swav_plugin.shipped import SHIPPED

from .benchmarks import BENCHMARKS

TOOLS = (SHIPPED / 'tools').resolve()
DONE = 'result.json'  # of a run: what it adds to its entry in the report


class Run(NamedTuple):
    """One benchmark of one network.

    Args:
        entry: Its entry in the report, to be completed.
        folder: For its config, log and checkpoints.
        cfg: What it runs.
        weights: As of its `Subject`.
    """

    entry: dict[str, Any]
    folder: Path
    cfg: Config
    weights: str


def read_done(run: Run) -> dict[str, Any]:
    """Read what an earlier command has left of a run; {} if it is not done.

    The version of this package that ran it does not matter: numbers may have
    taken days. The report names it.
    """
    path = run.folder / DONE
    if not path.is_file():
        return {}
    return json.loads(path.read_text(encoding='utf-8'))


def add_version(folder: Path) -> list[str]:
    """Note that this version runs in a folder; return all that have."""
    path = folder / 'versions.txt'
    versions = path.read_text().split() if path.is_file() else []
    if __version__ not in versions:
        versions.append(__version__)
        write_atomic(path, '\n'.join(versions))
    return versions


def measure(run: Run, out: Path, gpus: int) -> dict[str, Any]:
    """Run a benchmark, or find what an earlier run has left.

    Args:
        run: What to run.
        out: Folder of the report.
        gpus: GPUs, or CPU processes.

    Returns:
        What the run adds to its entry.
    """
    done = read_done(run)
    if done:
        pictures = [
            name for name in done.get('pictures', ()) if (out / name).is_file()
        ]
        return dict(done, pictures=pictures)
    run.folder.mkdir(parents=True, exist_ok=True)
    versions = add_version(run.folder)
    run.cfg.dump(run.folder / 'config.py')
    log = run.folder / 'log.txt'
    before = {*run.folder.glob(f'*/{RESULTS}')}
    begin = time.monotonic()
    if BENCHMARKS[run.entry['benchmark']].trains:
        command = make_command(
            run, gpus, 'train.py', '--pretrained', run.weights, '--resume'
        )
    else:
        command = make_command(run, gpus, 'test.py', run.weights)
    failure = execute(command, log)
    path = newest_results(run.folder, before)
    trained = None
    if failure is None and path is None:
        # It had been stopped after its last epoch, before its numbers.
        trained = find_checkpoint(str(run.folder))
    if trained is not None:
        failure = execute(make_command(run, gpus, 'test.py', trained), log)
        path = newest_results(run.folder, before)
    entry = dict(
        command=shlex.join(command),
        seconds=time.monotonic() - begin,
        versions=versions,
    )
    results = read_results(path) if failure is None and path else []
    if path is None or not results:
        # mmdet has none for COCO where no object at all was found.
        reason = failure or f'no numbers; {log} says why'
        return dict(entry, status='failed', reason=reason)
    pictures = sorted(path.parent.glob('pictures/*.jpg'))
    entry.update(
        status='done',
        results=results,
        pictures=[str(picture.relative_to(out)) for picture in pictures],
    )
    write_atomic(run.folder / DONE, json.dumps(entry, indent=2))
    return entry


def make_command(run: Run, gpus: int, tool: str, *arguments: str) -> list[str]:
    """Return the command that runs a tool in the folder of a run."""
    end = ['--launcher', 'pytorch'] if gpus > 1 else []
    return [
        *(torchrun(gpus) if gpus > 1 else [sys.executable]),
        str(TOOLS / tool),
        str(run.folder / 'config.py'),
        *arguments,
        '--work-dir',
        str(run.folder),
        *end,
    ]


def execute(command: list[str], log: Path) -> str | None:
    """Run a command; return the end of what it printed if it failed."""
    # A checkout need not be installed: its commands find it here.
    path = f'{TOOLS.parent}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'
    with open(log, 'ab') as file:
        start = file.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, 'PYTHONPATH': path.rstrip(os.pathsep)},
            preexec_fn=end_with_parent,
        )
        try:
            status = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    if status == 0:
        return None
    printed = log.read_bytes()[start:].decode(errors='replace').splitlines()
    return '\n'.join(
        [f'exit status {status}; {log} ends with:', *printed[-12:]]
    )


def newest_results(folder: Path, before: set[Path]) -> Path | None:
    """Find the results of a run that were not there `before`, if any."""
    files = {*folder.glob(f'*/{RESULTS}')} - before
    return max(files, key=lambda path: path.stat().st_mtime, default=None)
