"""The part that runs the tests marked `gpu`, several at a time."""

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

from common import ROOT
from records import Call, Record

from swav_plugin.engine.processes import end_with_parent

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


def measure(record: Record, call: Call) -> None:
    """Run the tests that have not passed yet; keep each outcome at once."""
    outcomes = record.content.setdefault('outcomes', {})
    record.content.setdefault('seconds', 0)
    command = [sys.executable, '-m', 'pytest', '-v', '-m', 'gpu', '-rfE']
    command += ['-p', 'no:cacheprovider', '--tb=short', '--color=no']
    if find_spec('xdist') and not call.is_dry:
        command += ['-n', str(min(8, call.hardware['cores']))]
    command += record.content['options']['files']
    for name, outcome in outcomes.items():
        if outcome not in _BAD:
            command.append(f'--deselect={name}')
    record.content['command'] = ' '.join(command[1:])
    start, before_s = time.monotonic(), record.content['seconds']
    log = record.path.with_suffix('.log')
    with (
        open(log, 'a', encoding='utf-8') as file,
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='backslashreplace',
            preexec_fn=end_with_parent,
        ) as process,
    ):
        assert process.stdout is not None

        def copied() -> Iterator[str]:
            for line in process.stdout:
                file.write(line)
                file.flush()
                yield line

        for name, outcome in read_outcomes(copied()):
            outcomes[name] = outcome
            seconds = before_s + time.monotonic() - start
            record.save(seconds=round(seconds, 1))
    # 5: nothing was left to run.
    if process.returncode not in (0, 1) and not (
        process.returncode == 5 and outcomes
    ):
        raise RuntimeError(
            f'pytest ended with {process.returncode}; see {log.name}'
        )
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
