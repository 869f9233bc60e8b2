"""tools/check_dataset.py as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPO_ROOT


def run(*args: str) -> subprocess.CompletedProcess:
    """Run the command; its output goes to stdout."""
    return subprocess.run(
        [sys.executable, 'tools/check_dataset.py', *args],
        cwd=REPO_ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': '.'},
    )


def test_report_and_exit_code(tmp_path: Path) -> None:
    for name in ('cat', 'dog'):
        (tmp_path / name).mkdir()
        (tmp_path / name / '1.jpg').write_bytes(b'?')
    done = run('folder', str(tmp_path))
    assert (done.returncode, done.stdout) == (
        0,
        f'folder in {tmp_path}\n  all: 2 images of 2 classes, in 2 folders; '
        'left out: nothing\nNothing is missing.\n',
    )
    done = run('folder', str(tmp_path), '--decode')
    assert (done.returncode, done.stdout) == (
        1,
        f'folder in {tmp_path}\n  all: 2 images of 2 classes, in 2 folders; '
        f'left out: nothing\nProblem: {tmp_path}/cat/1.jpg: not an image of a '
        'format that is read\n',
    )
    done = run('imagenet', str(tmp_path), '--any-size')
    assert done.returncode == 1 and "train' is not a folder" in done.stdout
    done = run('imagenette', str(tmp_path))
    assert done.returncode == 2 and "'imagenet', " in done.stderr
