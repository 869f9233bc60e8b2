"""One training in a work dir, and no other's checkpoints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.work_dir import own_work_dir

from ..conftest import REPO_ROOT

HOLD = """
import sys
from swav_plugin.engine.work_dir import own_work_dir
own_work_dir(sys.argv[1], is_new=True)
print('holds', flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_gone(
    tmp_path: Path,
) -> None:
    process = subprocess.Popen(
        [sys.executable, '-c', HOLD, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPO_ROOT,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(UsageError) as refused:
            own_work_dir(str(tmp_path), is_new=True)
        assert re.fullmatch(
            rf'process {process.pid} on .+ is at work in {tmp_path}; wait for '
            'it, stop it, or choose another folder',
            str(refused.value),
        )
        # Only rank 0 holds a lock.
        own_work_dir(str(tmp_path), is_new=True, rank=1)
    finally:
        process.kill()
        process.wait()
    assert own_work_dir(str(tmp_path), is_new=True) == []


def test_a_new_training_wants_no_other_checkpoints(tmp_path: Path) -> None:
    for name in ('epoch_1.pth', 'epoch_2.pth', 'last_checkpoint', 'mine.txt'):
        (tmp_path / name).write_text(name)
    with pytest.raises(UsageError, match=r'epoch_\d.pth; go on .* --resume'):
        own_work_dir(str(tmp_path), is_new=True)
    assert own_work_dir(str(tmp_path), is_new=False) == []
    assert (tmp_path / 'epoch_1.pth').is_file()
    own_work_dir(str(tmp_path), is_new=True, overwrite=True, rank=1)
    assert (tmp_path / 'epoch_1.pth').is_file()  # rank 0 removes them
    (note,) = own_work_dir(str(tmp_path), is_new=True, overwrite=True)
    assert note == f'--overwrite: removed 2 checkpoints from {tmp_path}.'
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {'.lock', 'mine.txt'}
