"""Commands that fail or are stopped."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swav_plugin.suite.measure import execute
from tests.conftest import REPO_ROOT


def environment() -> dict[str, str]:
    return {**os.environ, 'PYTHONPATH': str(REPO_ROOT), 'OMP_NUM_THREADS': '1'}


def test_what_a_failed_run_printed_is_told(tmp_path: Path) -> None:
    script = tmp_path / 'fail.py'
    script.write_text(
        'import sys\n'
        'for number in range(30): print("line", number)\n'
        'sys.exit("out of luck")\n'
    )
    log = tmp_path / 'log.txt'
    log.write_text('of an earlier run\n')
    reason = execute([sys.executable, '-u', str(script)], log)
    lines = reason.splitlines()
    assert lines[0] == f'exit status 1; {log} ends with:'
    assert lines[1:] == [f'line {n}' for n in range(19, 30)] + ['out of luck']
    assert log.read_text().startswith('of an earlier run\nline 0\n')
    script.write_text('')
    assert execute([sys.executable, str(script)], log) is None


@pytest.mark.skipif(not Path('/proc/self').exists(), reason='needs /proc')
def test_a_stopped_run_leaves_no_process(tmp_path: Path) -> None:
    """End a measurement with the suite, and do not call it done."""
    script = tmp_path / 'sleep.py'
    script.write_text(
        'import pathlib, time\npathlib.Path("begun").touch()\ntime.sleep(60)\n'
    )
    code = (
        'import sys\n'
        'from pathlib import Path\n'
        'from swav_plugin.commands import suite\n'
        'from swav_plugin.suite.measure import execute\n'
        'suite.run = lambda args: execute(\n'
        '    [sys.executable, "sleep.py"], Path("log.txt"))\n'
        'sys.argv = ["s", "w", "--out", "o"]\n'
        'suite.main()\n'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code], cwd=tmp_path, env=environment()
    )
    deadline = time.monotonic() + 240
    while not (tmp_path / 'begun').exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    (child,) = (
        int(name.name)
        for name in Path('/proc').iterdir()
        if name.name.isdigit() and is_child(name, process.pid)
    )
    process.terminate()
    assert process.wait(30) == 143
    assert not Path(f'/proc/{child}').exists()


def is_child(folder: Path, parent: int) -> bool:
    """Return whether `parent` started a process of /proc."""
    try:
        return (
            int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
            == parent
        )
    except (OSError, IndexError):
        return False
