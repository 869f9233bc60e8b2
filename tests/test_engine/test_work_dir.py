"""One training in a work dir, and no other's checkpoints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from swav_plugin.checkpoints.digests import note_digest
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
            rf'process {process.pid} on .+ is training in {tmp_path}; wait '
            'for it, stop it, or choose another folder',
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
    with pytest.raises(
        UsageError, match=r'epoch_\d.pth; continue it with --resume'
    ):
        own_work_dir(str(tmp_path), is_new=True)
    assert own_work_dir(str(tmp_path), is_new=False) == []
    assert (tmp_path / 'epoch_1.pth').is_file()
    own_work_dir(str(tmp_path), is_new=True, overwrite=True, rank=1)
    assert (tmp_path / 'epoch_1.pth').is_file()  # rank 0 removes them
    (note,) = own_work_dir(str(tmp_path), is_new=True, overwrite=True)
    assert note == f'--overwrite: removed 2 checkpoints from {tmp_path}.'
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {'.lock', 'mine.txt'}


OWN = (
    'epoch_2 (copy).pth',
    'epoch_best_of_mine.pth',
    'iter_final.pth',
    'best_of_all.pth',
)


def test_only_what_a_training_saved_is_removed(tmp_path: Path) -> None:
    for name in (*OWN, 'iter_20.pth', 'best_acc_epoch_3.pth'):
        (tmp_path / name).write_text(name)
    (tmp_path / 'epoch_7.pth').mkdir()
    note_digest(tmp_path / 'best_acc_epoch_3.pth')
    (note,) = own_work_dir(str(tmp_path), is_new=True, overwrite=True)
    assert note == f'--overwrite: removed 2 checkpoints from {tmp_path}.'
    left = {path.name for path in tmp_path.iterdir()}
    others = {'.lock', 'checkpoint_digests.json', 'epoch_7.pth'}
    assert left == {*OWN, *others}


def test_best_checkpoints_alone_are_not_overlooked(tmp_path: Path) -> None:
    (tmp_path / 'best_acc_epoch_3.pth').write_text('weights')
    assert own_work_dir(str(tmp_path), is_new=True) == []  # somebody's own
    note_digest(tmp_path / 'best_acc_epoch_3.pth')
    with pytest.raises(UsageError, match='such as best_acc_epoch_3.pth'):
        own_work_dir(str(tmp_path), is_new=True)


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / 'precious'
    target.write_text('mine')
    folder = tmp_path / 'work'
    folder.mkdir()
    (folder / '.lock').symlink_to(target)
    with pytest.raises(UsageError, match='.lock is a link; remove it'):
        own_work_dir(str(folder), is_new=True)
    assert target.read_text() == 'mine'


def test_what_cannot_be_a_work_dir(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(UsageError, match='file is not a folder; give another'):
        own_work_dir(str(tmp_path / 'file'), is_new=True)
    with pytest.raises(UsageError, match='cannot be made: Not a directory'):
        own_work_dir(str(tmp_path / 'file/work'), is_new=True)
    (tmp_path / 'work/last_checkpoint').mkdir(parents=True)
    with pytest.raises(UsageError, match='is a folder, .* move it away'):
        own_work_dir(str(tmp_path / 'work'), is_new=True)
