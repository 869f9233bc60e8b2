"""Images that cannot be read: all are found, before they are needed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from PIL import Image

from swav_plugin.datasets import VOC07, ImageFolder, unreadable
from swav_plugin.datasets.transforms import UnreadableImage, read_rgb
from swav_plugin.datasets.unreadable import (
    _looks_whole,
    find_unreadable,
    refuse_unreadable,
)
from swav_plugin.datasets.voc07 import CLASSES
from tests.distributed import run_on_ranks

from .conftest import write_image


def cut(share: float) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return spoil


def blank(start: float, stop: float) -> Callable[[Path], None]:
    """Write zeros over a part of a file, as a disk does that lost a block."""

    def spoil(path: Path) -> None:
        data = bytearray(path.read_bytes())
        first, last = (int(share * len(data)) for share in (start, stop))
        data[first:last] = bytes(last - first)
        path.write_bytes(data)

    return spoil


def link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to('gone')


def be_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DEFECTS: dict[str, Callable[[Path], object]] = {
    'empty': lambda path: path.write_bytes(b''),
    'text': lambda path: path.write_text('<!DOCTYPE html><html>Sign in'),
    'a few bytes': cut(0.01),
    'half': cut(0.5),
    'without its end': cut(0.99),
    'zeros at the start': blank(0, 0.1),
    'zeros at the end': blank(0.6, 1),
    'zeros': blank(0, 1),
    'link': link_to_nowhere,
    'folder': be_a_folder,
}
KINDS = ('jpg', 'png', 'bmp', 'webp', 'tif')


def is_readable(path: Path) -> bool:
    try:
        read_rgb(path)
    except UnreadableImage:
        return False
    return True


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('defect', DEFECTS)
def test_every_defect_is_found(kind: str, defect: str, tmp_path: Path) -> None:
    """Every file that `read_rgb` refuses, of any format, and no other."""
    sound, spoiled = [tmp_path / f'{name}.{kind}' for name in ('a', 'b')]
    write_image(sound, 0)
    shutil.copy(sound, spoiled)
    DEFECTS[defect](spoiled)
    paths = [str(sound), str(spoiled), str(sound)]
    found = find_unreadable(paths)
    assert [*found] == ([] if is_readable(spoiled) else [1])
    assert [*found] == [*find_unreadable(paths, decode=True)]
    # Zeros are pixels of a format without compression.
    if defect != 'zeros at the end':
        assert str(found[1]).startswith(f'{spoiled}: ')
    # In a moment, without decoding.
    assert _looks_whole(str(sound)) == (kind in ('jpg', 'png'))


def test_a_damaged_chunk_of_a_png_is_found(tmp_path: Path) -> None:
    path = tmp_path / 'a.png'
    write_image(path, 0)
    blank(0.4, 0.5)(path)
    with Image.open(path) as img:  # the header is sound
        assert img.size == (60, 40)
    assert [*find_unreadable([str(path)])] == [0]


def test_a_file_with_more_after_its_end_is_read(tmp_path: Path) -> None:
    """As some cameras write them: it is decoded, and whole."""
    path = tmp_path / 'a.jpg'
    write_image(path, 0)
    path.write_bytes(path.read_bytes() + b'and more')
    assert not _looks_whole(str(path))
    assert find_unreadable([str(path)]) == {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three images each; an unreadable one in each."""
    for name in ('cat', 'dog'):
        for number in range(3):
            write_image(tmp_path / f'own/{name}/{number}.jpg', number)
    (tmp_path / 'own/cat/1.jpg').write_text('no image')
    cut(0.5)(tmp_path / 'own/dog/2.jpg')
    return tmp_path / 'own'


LOAD = [dict(type='LoadImage')]


def test_all_of_them_are_named_one_on_each_line(folder: Path) -> None:
    dataset = ImageFolder(folder, LOAD, test_mode=True)
    with pytest.raises(ValueError) as error:
        refuse_unreadable({'bank set': dataset, 'test set': dataset})
    _, *lines, last = str(error.value).splitlines()
    assert [line.rpartition('.jpg: ')[0] for line in lines] == [
        f'{name} set: {folder}/{file}'
        for name in ('bank', 'test')
        for file in ('cat/1', 'dog/2')
    ]
    assert last.startswith('4 of 12 images cannot be read; mend or remove')
    assert 'skip_unreadable=True' in last


def test_datasets_of_others_are_left_alone(folder: Path) -> None:
    """Their loader may read what ours does not."""
    dataset = ImageFolder(folder, [lambda results: results], test_mode=True)
    refuse_unreadable({'test set': dataset})


def test_they_are_left_out(folder: Path) -> None:
    with mock.patch.object(unreadable, 'print_log') as log:
        dataset = ImageFolder(
            folder, LOAD, test_mode=True, skip_unreadable=True
        )
    assert (len(dataset), dataset.num_unreadable) == (4, 2)
    assert dataset.num_classes == 2
    files = [dataset[i]['img_path'] for i in range(4)]
    assert [os.path.relpath(file, folder) for file in files] == [
        'cat/0.jpg',
        'cat/2.jpg',
        'dog/0.jpg',
        'dog/1.jpg',
    ]
    refuse_unreadable({'test set': dataset})
    first, *lines = log.call_args.args[0].splitlines()
    assert first.startswith('2 of 6 images cannot be read and are left out')
    assert [line.rpartition('.jpg: ')[0] for line in lines] == [
        f'{folder}/cat/1',
        f'{folder}/dog/2',
    ]


def test_they_are_left_out_of_the_memory_too(folder: Path) -> None:
    dataset = ImageFolder(folder, LOAD, skip_unreadable=True, in_memory=True)
    assert len(dataset.memory.shapes) == 4
    assert all(dataset[i]['img'].shape == (40, 60, 3) for i in range(4))


def test_a_set_without_any_readable_image(tmp_path: Path) -> None:
    (tmp_path / 'cat').mkdir()
    (tmp_path / 'cat/1.jpg').write_text('no image')
    with pytest.raises(ValueError, match='none of 1 images can be read, such'):
        ImageFolder(tmp_path, skip_unreadable=True)


def test_voc(tmp_path: Path) -> None:
    (tmp_path / 'ImageSets/Main').mkdir(parents=True)
    for name in CLASSES:
        list_file = tmp_path / f'ImageSets/Main/{name}_test.txt'
        list_file.write_text('1 1\n2 -1\n')
    for number in (1, 2):
        write_image(tmp_path / f'JPEGImages/{number}.jpg', 0)
    cut(0.5)(tmp_path / 'JPEGImages/1.jpg')
    dataset = VOC07(str(tmp_path), 'test', LOAD)
    with pytest.raises(ValueError, match='1 of 2 images cannot be read'):
        refuse_unreadable({'test set': dataset})
    dataset = VOC07(str(tmp_path), 'test', LOAD, skip_unreadable=True)
    assert (len(dataset), dataset.num_unreadable) == (1, 1)
    assert dataset[0]['img_path'].endswith('2.jpg')


def _find(rank: int, paths: list[str]) -> list[str]:
    return [str(error) for error in find_unreadable(paths).values()]


def test_ranks_share_the_files_and_know_all(folder: Path) -> None:
    paths = [str(path) for path in sorted(folder.rglob('*.jpg'))]
    expected = _find(0, paths)
    assert len(expected) == 2
    assert run_on_ranks(_find, 2, paths) == [expected] * 2
