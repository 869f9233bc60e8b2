"""What counts as an image in a folder, and what is said of the rest."""

import io
import os
import runpy
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from swav_plugin.datasets import image_search
from swav_plugin.datasets.image_search import (
    class_names,
    find_images,
    search_images,
)


def touch(root: Path, *names: str) -> str:
    """Make empty files, which is enough to be found."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return str(root)


def test_every_format_that_pillow_writes_and_reads(tmp_path: Path) -> None:
    Image.init()
    written = []
    for extension, name in Image.EXTENSION.items():
        path = tmp_path / f'{len(written)}{extension.upper()}'
        try:
            Image.new('RGB', (16, 16), 'red').convert('P').save(path, name)
            Image.open(path).load()
        except (OSError, ValueError, KeyError, SystemError):
            path.unlink(missing_ok=True)
            continue
        written.append(path.name)
    # Whatever this Pillow has, these are common.
    kinds = {os.path.splitext(name)[1] for name in written}
    assert {'.PNG', '.GIF', '.TIF', '.BMP', '.TGA', '.ICO'} <= kinds
    assert sorted(search_images(str(tmp_path)).files) == sorted(written)


def test_what_is_left_out_is_counted_by_extension(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f'{i}.txt' for i in range(1200)] + ['a.CSV', 'b.csv', 'README']
    root = touch(
        tmp_path / 'd', 'x.jfif', 'deep/y.jpe', 'deep/er/z.jp2', *names
    )
    messages: list[str] = []
    monkeypatch.setattr(
        image_search,
        'print_log',
        lambda message, **_: messages.append(message),
    )
    assert find_images(root) == ['deep/er/z.jp2', 'deep/y.jpe', 'x.jfif']
    assert messages == [
        f'Found 3 images in {root}, in 3 folders; left out: 1,203 not images '
        '(1,200 .txt, 2 .csv, 1 without extension)'
    ]


def test_many_kinds_are_cut_short(tmp_path: Path) -> None:
    root = touch(tmp_path, 'a.png', *(f'a.kind{i}' for i in range(25)))
    (last,) = search_images(root).describe_left_out().split(', ')[-1:]
    assert last == '15 more kinds)'


SYSTEM = [
    '.git',
    '.Trash-1000',
    '.thumbnails',
    '@eaDir',
    '#recycle',
    '#snapshot',
    '@Recycle',
    '@Recently-Snapshot',
    '~snapshot',
    '$RECYCLE.BIN',
    'RECYCLER',
    'System Volume Information',
    '__MACOSX',
    'lost+found',
    'Network Trash Folder',
    'found.000',
]


@pytest.mark.parametrize('name', SYSTEM)
def test_system_folders_are_left_out_anywhere(
    tmp_path: Path, name: str
) -> None:
    root = touch(
        tmp_path, 'cat/1.jpg', f'{name}/2.jpg', f'cat/{name}/deep/3.jpg'
    )
    found = search_images(root)
    assert found.files == ['cat/1.jpg']
    assert class_names(root) == ['cat']
    assert found.describe() == (
        f'1 image in {root}, in 1 folder; left out: 2 hidden or of the '
        f'system ({name})'
    )


def test_names_that_only_look_like_the_systems(tmp_path: Path) -> None:
    names = ['@home/1.jpg', '#1/1.jpg', 'recycle/1.jpg', 'trash/1.jpg']
    root = touch(tmp_path, *names)
    assert search_images(root).files == sorted(names)
    # A folder that was asked for by name is searched.
    root = touch(tmp_path / '#recycle', '1.jpg')
    assert search_images(root).files == ['1.jpg']


def test_links_in_a_circle_end_nothing(tmp_path: Path) -> None:
    root = touch(tmp_path, 'cat/1.jpg')
    (tmp_path / 'loop').symlink_to('loop')
    (tmp_path / 'a').symlink_to('b')
    (tmp_path / 'b').symlink_to('a')
    (tmp_path / 'cat/up').symlink_to(tmp_path)
    (tmp_path / '.hidden').symlink_to('.hidden')
    (tmp_path / 'cat/lost.jpg').symlink_to('nowhere')
    found = search_images(root)
    # A missing image stays, to be counted as unreadable.
    assert found.files == ['cat/1.jpg', 'cat/lost.jpg']
    assert found.others == {'': 3}
    assert class_names(root) == ['cat']


def test_pipes_and_sockets_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = touch(tmp_path, '1.jpg')
    os.mkfifo(tmp_path / 'pipe.jpg')  # reading it would wait for ever
    monkeypatch.chdir(tmp_path)  # the name of a socket has to be short
    with socket.socket(socket.AF_UNIX) as end:
        end.bind('socket.png')
        # A link is what it leads to; reading /dev/zero never ends.
        (tmp_path / 'link.jpg').symlink_to(tmp_path / 'pipe.jpg')
        (tmp_path / 'zero.jpg').symlink_to('/dev/zero')
        found = search_images(root)
    assert found.files == ['1.jpg']
    assert found.describe_left_out() == (
        '4 neither files nor folders (link.jpg, pipe.jpg, socket.png, '
        'zero.jpg)'
    )


def test_folder_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    # Its images would be missing without a word.
    root = touch(tmp_path, 'cat/1.jpg', 'dog/1.jpg')
    if os.geteuid() == 0:
        pytest.skip('root may read everything')
    (tmp_path / 'dog').chmod(0)
    try:
        with pytest.raises(PermissionError, match='dog'):
            search_images(root)
    finally:
        (tmp_path / 'dog').chmod(0o755)


@pytest.mark.parametrize('encoding', ['utf-8', 'ascii'])
def test_names_of_any_bytes_in_a_report(
    tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (b'caf\xe9', b'dog'):
        folder = os.path.join(os.fsencode(tmp_path), name)
        try:
            os.mkdir(folder)
        except OSError:
            pytest.skip('the file system takes UTF-8 names only')
        with open(os.path.join(folder, b'\xfc.jpg'), 'wb') as file:
            file.write(b'?')
    tool = Path(__file__).parents[2] / 'tools/check_dataset.py'

    def check() -> str:
        screen = io.BytesIO()
        monkeypatch.setattr(
            sys, 'stdout', io.TextIOWrapper(screen, encoding, 'strict')
        )
        monkeypatch.setattr(sys, 'argv', [str(tool), 'folder', str(tmp_path)])
        with suppress(SystemExit):
            runpy.run_path(str(tool), run_name='__main__')
        sys.stdout.flush()
        return screen.getvalue().decode(encoding)

    said = check()
    assert 'all: 2 images of 2 classes' in said
    assert 'Problem' not in said
    os.remove(os.path.join(os.fsencode(tmp_path), b'caf\xe9', b'\xfc.jpg'))
    said = check()
    assert 'Problem' in said and 'caf\\udce9 has no images' in said
