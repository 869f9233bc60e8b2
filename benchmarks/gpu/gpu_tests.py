"""The part that runs the tests marked `gpu`, several at a time."""

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TextIO

import pytest
from common import ROOT
from records import Call, Record, print_to

_OUTCOMES = 'PASSED|FAILED|SKIPPED|ERROR|XFAIL|XPASS'
# With pytest-xdist the outcome comes first, without it last.
_LINE = re.compile(
    rf'(?:^\[gw\d+\].*?\b({_OUTCOMES}) (\S+::.*?)'
    rf'|^(\S+::.*?) ({_OUTCOMES})\b.*)\s*$'
)
_BAD = ('failed', 'error')


def options(call: Call) -> dict[str, Any]:
    """Return what decides the outcomes."""
    return dict(files=_find_files(call.is_dry))


def _find_files(is_dry: bool) -> list[str]:
    """Return the test files with tests for a GPU; collecting all is slow."""
    if is_dry:
        return ['tests/test_evaluation/test_knn.py']
    return [
        str(path.relative_to(ROOT))
        for path in sorted(ROOT.glob('tests/**/test_*.py'))
        if 'pytest.mark.gpu' in path.read_text(encoding='utf-8')
    ]


def read_outcomes(output: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield test and outcome from the lines of `pytest -v`, as they come.

    >>> list(read_outcomes(['[gw1] [ 50%] PASSED t.py::test_a[x y] ',
    ...                     't.py::test_b SKIPPED (no CUDA) [100%]']))
    [('t.py::test_a[x y]', 'passed'), ('t.py::test_b', 'skipped')]
    """
    for line in output:
        if match := _LINE.match(line):
            first, its_test, test, outcome = match.groups()
            yield its_test or test, (first or outcome).lower()


def _run_pytest(argv: list[str], log: Path) -> None:
    """Run pytest as from the command line; all output goes to a file."""
    print_to(log)
    os.chdir(ROOT)
    sys.exit(pytest.main(argv))


def _follow(file: TextIO, process: BaseProcess) -> Iterator[str]:
    """Yield the lines of a file while a process writes them."""
    part = ''
    while True:
        is_over = not process.is_alive()
        while text := file.readline():
            part += text
            if part.endswith('\n'):
                yield part
                part = ''
        if is_over:
            return
        process.join(0.1)


def measure(record: Record, call: Call) -> None:
    """Run the tests that have not passed yet; keep each outcome at once."""
    outcomes = record.content.setdefault('outcomes', {})
    before_s = record.content.setdefault('seconds', 0)
    argv = ['-v', '-m', 'gpu', '-rfE', '--tb=short', '--color=no']
    argv += ['-p', 'no:cacheprovider']
    if find_spec('xdist') and not call.is_dry:
        argv += ['-n', str(min(8, call.hardware['cores']))]
    argv += record.content['options']['files']
    for name, outcome in outcomes.items():
        if outcome not in _BAD:
            argv.append(f'--deselect={name}')
    record.content['command'] = f'python -m pytest {" ".join(argv)}'
    start = time.monotonic()
    log = record.path.with_suffix('.log')
    log.touch()
    with open(log, encoding='utf-8', errors='replace') as file:
        file.seek(0, os.SEEK_END)
        process = call.start_process(_run_pytest, argv, log)
        for name, outcome in read_outcomes(_follow(file, process)):
            outcomes[name] = outcome
            seconds = before_s + time.monotonic() - start
            record.save(seconds=round(seconds, 1))
    # 5: nothing was left to run.
    code = process.exitcode
    if code not in (0, 1) and not (code == 5 and outcomes):
        raise RuntimeError(f'pytest ended with {code}; see {log.name}')
    bad = [name for name, outcome in outcomes.items() if outcome in _BAD]
    record.save(
        missing={name: f'{outcomes[name]}; see {log.name}' for name in bad},
        finished=not bad,
    )
    if bad:
        sys.exit(1)


def lines(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Return how many had which outcome."""
    counts = Counter(content.get('outcomes', {}).values())
    if not counts:
        return []
    numbers = ', '.join(f'{num} {name}' for name, num in counts.items())
    return [('tests marked gpu', f'{numbers} in {content["seconds"]} s')]
