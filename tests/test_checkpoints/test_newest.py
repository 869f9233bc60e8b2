"""A training goes on from its newest good checkpoint."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.checkpoints.newest import find_checkpoint


def save(folder: Path, *names: str, seconds: int = 0) -> None:
    """Write checkpoints, the first one first."""
    folder.mkdir(exist_ok=True)
    for name in names:
        seconds += 1
        torch.save({'weight': torch.ones(9)}, folder / name)
        os.utime(folder / name, (seconds, seconds))


def found(folder: Path) -> str | None:
    """Return the name of what is found, which is in the folder itself."""
    path = find_checkpoint(str(folder))
    assert path is None or Path(path).parent == folder
    return None if path is None else Path(path).name


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b'')


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    begin = content.index(torch.ones(9).numpy().tobytes())
    content[begin : begin + 8] = bytes(8)
    path.write_bytes(content)


def write_page(path: Path) -> None:
    path.write_bytes(b'<html>')


def test_without_a_note_the_highest_number_counts(tmp_path: Path) -> None:
    assert found(tmp_path) is None
    assert found(tmp_path / 'absent') is None
    # The times are those of a copy.
    save(tmp_path, 'epoch_10.pth', 'epoch_9.pth', 'epoch_2.pth')
    save(tmp_path, 'best_acc_epoch_11.pth', 'epoch_x.pth', 'w-5b3fc7fc.pth')
    (tmp_path / 'epoch_12.pth').mkdir()
    assert found(tmp_path) == 'epoch_10.pth'
    save(tmp_path, 'iter_5.pth', seconds=99)  # which one is newer says time
    assert found(tmp_path) == 'iter_5.pth'


def test_the_note_counts_also_in_a_folder_that_was_moved(
    tmp_path: Path,
) -> None:
    save(tmp_path, 'epoch_8.pth', 'epoch_9.pth', 'epoch_10.pth')
    note = tmp_path / 'last_checkpoint'
    # From a shorter run than the one before it in this folder.
    note.write_text('/old/place/epoch_9.pth\n')
    assert found(tmp_path) == 'epoch_9.pth'
    # A file that is gone, written by the run of the note.
    note.write_text('/old/place/epoch_11.pth')
    assert found(tmp_path) == 'epoch_10.pth'


def test_a_copy_resumes_from_its_own_files(tmp_path: Path) -> None:
    old, new = tmp_path / 'old', tmp_path / 'new'
    save(old, 'epoch_1.pth', 'epoch_2.pth')
    (old / 'last_checkpoint').write_text(str(old / 'epoch_2.pth'))
    shutil.copytree(old, new)
    assert found(new) == 'epoch_2.pth'
    (new / 'epoch_2.pth').unlink()
    assert found(new) == 'epoch_1.pth'
    save(new, 'epoch_2.pth')
    empty(new / 'epoch_2.pth')
    assert found(new) == 'epoch_1.pth'


@pytest.mark.parametrize(
    'note',
    [
        b'',
        b'\xff\xfe\x00epoch_1.pth',
        b'epoch_1\x00.pth',
        b'epoch_1.pth\nepoch_1.pth',
        b'a' * 5000,
        b'/',
        b'..',
    ],
)
def test_a_broken_note_does_not_count(tmp_path: Path, note: bytes) -> None:
    save(tmp_path, 'epoch_1.pth', 'epoch_2.pth')
    (tmp_path / 'last_checkpoint').write_bytes(note)
    assert found(tmp_path) == 'epoch_2.pth'


@pytest.mark.parametrize('damage', [cut, empty, spoil, write_page])
@pytest.mark.parametrize('has_note', [True, False])
def test_a_damaged_file_is_passed_over(
    tmp_path: Path, damage, has_note: bool
) -> None:
    names = [f'epoch_{number}.pth' for number in (8, 9, 10)]
    save(tmp_path, *names)
    if has_note:
        save(tmp_path, 'epoch_200.pth')  # of another training
        (tmp_path / 'last_checkpoint').write_text('/x/epoch_10.pth')
    damage(tmp_path / 'epoch_10.pth')
    notes: list[str] = []
    path = find_checkpoint(str(tmp_path), notes)
    assert path == str(tmp_path / 'epoch_9.pth')
    (line,) = notes
    assert line.startswith(f'{tmp_path}/epoch_10.pth ')
    assert line.endswith(f'. Going back to {path}.') and line.isprintable()
    damage(tmp_path / 'epoch_9.pth')
    notes.clear()
    assert find_checkpoint(str(tmp_path), notes) == str(
        tmp_path / 'epoch_8.pth'
    )
    assert len(notes) == 2


def test_a_link_to_nothing_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 'epoch_1.pth')
    (tmp_path / 'epoch_2.pth').symlink_to(tmp_path / 'gone')
    notes: list[str] = []
    path = str(tmp_path / 'epoch_1.pth')
    assert find_checkpoint(str(tmp_path), notes) == path
    assert notes == [
        f'{tmp_path}/epoch_2.pth cannot be read: No such file or directory. '
        f'Going back to {path}.'
    ]


def test_a_file_of_another_work_dir_is_not_used(tmp_path: Path) -> None:
    other, own = tmp_path / 'other', tmp_path / 'own'
    save(other, 'epoch_1.pth')
    own.mkdir()
    (own / 'last_checkpoint').write_text(str(other / 'epoch_1.pth'))
    notes: list[str] = []
    assert find_checkpoint(str(own), notes) is None
    (line,) = notes
    assert line.startswith(f'{own}/last_checkpoint names {other}/epoch_1.pth')
    assert line.endswith(f'--resume {other}/epoch_1.pth')


def test_all_are_damaged(tmp_path: Path) -> None:
    save(tmp_path, 'epoch_1.pth', 'epoch_2.pth')
    for path in tmp_path.iterdir():
        cut(path)
    with pytest.raises(
        CheckpointError,
        match='epoch_2.pth cannot be read.* is true of 1 older.* Move them',
    ):
        find_checkpoint(str(tmp_path))


def test_old_format_is_read_through(tmp_path: Path) -> None:
    """It has no checksums."""
    for number in (1, 2):
        torch.save(
            {'weight': torch.ones(9)},
            tmp_path / f'iter_{number}.pth',
            _use_new_zipfile_serialization=False,
        )
    cut(tmp_path / 'iter_2.pth')
    assert found(tmp_path) == 'iter_1.pth'


def test_files_in_another_folder_with_names_of_ones_own(
    tmp_path: Path,
) -> None:
    """As CheckpointHook(out_dir=..., filename_tmpl=...) writes them."""
    work, out = tmp_path / 'work', tmp_path / 'out/work'
    work.mkdir()
    out.parent.mkdir()
    save(out, 'run2-step_0008.ckpt', 'run2-step_0009.ckpt')
    note = work / 'last_checkpoint'
    note.write_text(str(out / 'run2-step_0009.ckpt'))
    assert find_checkpoint(str(work)) == str(out / 'run2-step_0009.ckpt')
    empty(out / 'run2-step_0009.ckpt')
    assert find_checkpoint(str(work)) == str(out / 'run2-step_0008.ckpt')
