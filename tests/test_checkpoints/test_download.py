"""Downloads from a server on loopback: once, whole, and the right file."""

import hashlib
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from swav_plugin.checkpoints import download as module
from swav_plugin.checkpoints.cache import cache_path
from swav_plugin.checkpoints.download import download
from swav_plugin.checkpoints.zoo import checkpoint_path

from .conftest import HEAD, Server, cached

BODY = HEAD + bytes(range(256)) * 40
OTHER = HEAD + bytes(reversed(range(256))) * 40
PART = ['.w.pth.part', '.w.pth.part.json']


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    server.files = {'/a/w.pth': HEAD + b'one', '/b/w.pth': HEAD + b'two'}
    path = checkpoint_path(f'{server.url}/a/w.pth')
    assert path.name == 'w.pth' and path.read_bytes() == HEAD + b'one'
    assert path.is_relative_to(tmp_path / 'home/hub/checkpoints')
    assert checkpoint_path(f'{server.url}/a/w.pth') == path
    assert len(server.requests) == 1
    # The same name, another file.
    other = checkpoint_path(f'{server.url}/b/w.pth')
    assert other.read_bytes() == HEAD + b'two'
    assert download(f'{server.url}/b/w.pth', tmp_path) == tmp_path / 'w.pth'
    assert cached(tmp_path) == ['w.pth', 'w.pth']


@pytest.mark.parametrize('path', ['/', '/..', '/%2e%2e%2fw', '/a%5c..', ''])
def test_names_stay_in_the_folder(
    server: Server, tmp_path: Path, path: str
) -> None:
    server.files = dict.fromkeys(['/', '/..', '/%2e%2e%2fw', '/a%5c..'], HEAD)
    folder = tmp_path / 'in/side'
    assert download(server.url + path, folder).parent == folder


def test_a_broken_transfer_goes_on(server: Server) -> None:
    server.files = {'/w.pth': BODY}
    server.breaks = [1000, 2000]
    assert download(f'{server.url}/w.pth').read_bytes() == BODY
    assert server.requests == [None, 'bytes=1000-', 'bytes=3000-']


@pytest.mark.parametrize('lacking', ['has_ranges', 'has_tag'])
def test_a_broken_transfer_begins_again(server: Server, lacking: str) -> None:
    """If the rest cannot be had, or might be of another file."""
    server.files = {'/w.pth': BODY}
    server.breaks = [1000, 9000]
    setattr(server, lacking, False)
    assert download(f'{server.url}/w.pth').read_bytes() == BODY


def test_a_date_tells_versions_apart_if_it_is_old(server: Server) -> None:
    """A file of this second may change within it."""
    server.files = {'/old.pth': BODY, '/new.pth': BODY}
    server.has_tag = False
    server.breaks = [1000]
    server.modified = 'Wed, 21 Oct 2015 07:28:00 GMT'
    assert download(f'{server.url}/old.pth').read_bytes() == BODY
    assert server.requests == [None, 'bytes=1000-']
    server.breaks = [1000]
    server.modified = 'Wed, 21 Oct 2215 07:28:00 GMT'
    assert download(f'{server.url}/new.pth').read_bytes() == BODY
    assert server.requests[2:] == [None, None]


class _Changing(dict):
    """Files that change after the first was asked for."""

    is_changed = False

    def get(self, key: str, default: object = None) -> bytes:
        body = OTHER if self.is_changed else BODY
        self.is_changed = True
        return body


@pytest.mark.parametrize('checks_version', [True, False])
def test_two_versions_are_not_mixed(
    server: Server, checks_version: bool
) -> None:
    """Nor if the server disregards If-Range."""
    server.breaks = [1000]
    server.files = _Changing()
    server.checks_version = checks_version
    assert download(f'{server.url}/w.pth').read_bytes() == OTHER
    assert server.requests[:2] == [None, 'bytes=1000-']


def test_another_part_than_asked_for_is_not_used(server: Server) -> None:
    server.files = {'/w.pth': BODY}
    server.breaks = [1000]
    server.shift = 10
    assert download(f'{server.url}/w.pth').read_bytes() == BODY
    assert server.requests == [None, 'bytes=1000-', None]


def test_a_rest_that_is_too_short_is_not_used(server: Server) -> None:
    """A server may say that it sends the rest, and send less."""
    server.files = {'/w.pth': BODY}
    server.breaks = [1000]
    server.omitted = 7
    assert download(f'{server.url}/w.pth').read_bytes() == BODY
    assert server.requests == [None, 'bytes=1000-', None]


def test_a_file_that_does_not_arrive(server: Server, tmp_path: Path) -> None:
    server.files = {'/w.pth': BODY}
    server.breaks = [1000] * 5
    server.has_ranges = False
    with pytest.raises(ConnectionError, match=r'broke off 5 times.* give its'):
        download(f'{server.url}/w.pth')
    assert len(server.requests) == 5
    assert cached(tmp_path) == PART
    # The next call goes on, where the server can.
    server.has_ranges = True
    assert download(f'{server.url}/w.pth').read_bytes() == BODY
    assert server.requests[5:] == ['bytes=1000-']
    assert cached(tmp_path) == ['w.pth']


def test_there_are_pauses_between_attempts(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module, '_PAUSE_S', 1)
    monkeypatch.setattr(module.time, 'sleep', pauses.append)
    server.files = {'/w.pth': BODY}
    server.breaks = [1000] * 4
    download(f'{server.url}/w.pth')
    assert pauses == [1, 2, 4, 8]


def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.files = {'/w.pth': BODY}
    server.errors = [503, 429, 500]
    assert download(f'{server.url}/w.pth').read_bytes() == BODY
    server.errors = [503] * 5
    with pytest.raises(ConnectionError, match='503 Service Unavailable'):
        download(f'{server.url}/w.pth?2')


DOWNLOAD = """
import sys
from pathlib import Path
from swav_plugin.checkpoints.download import download
download(sys.argv[1], Path(sys.argv[2]))
"""


@pytest.mark.parametrize('changes', [False, True])
def test_a_killed_download_goes_on(
    server: Server, tmp_path: Path, changes: bool
) -> None:
    """In another process, and only with the rest of the same version."""
    body = HEAD + os.urandom(3_000_000)
    server.files = {'/w.pth': body}
    server.breaks, server.stalls = [2_500_000], True
    process = subprocess.Popen(
        [sys.executable, '-c', DOWNLOAD, f'{server.url}/w.pth', tmp_path],
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])},
    )
    part = tmp_path / PART[0]
    while not part.exists() or part.stat().st_size < 2 * 2**20:
        assert process.poll() is None
    process.kill()
    process.wait()
    got = part.stat().st_size
    assert body.startswith(part.read_bytes()) and got < len(body)
    if changes:
        server.files['/w.pth'] = body = HEAD + os.urandom(3_000_000)
    assert download(f'{server.url}/w.pth', tmp_path).read_bytes() == body
    assert server.requests == [None, f'bytes={got}-']
    assert sorted(os.listdir(tmp_path)) == ['w.pth']


@pytest.mark.parametrize('spoil', ['url', 'note', 'no note', 'too long'])
def test_a_part_of_another_file_is_not_used(
    server: Server, tmp_path: Path, spoil: str
) -> None:
    server.files = {'/a/w.pth': OTHER, '/b/w.pth': BODY}
    server.breaks = [1000] * 5
    server.has_ranges = False
    first = '/a/w.pth' if spoil == 'url' else '/b/w.pth'
    with pytest.raises(ConnectionError):
        download(server.url + first, tmp_path)
    part, note = (tmp_path / name for name in PART)
    if spoil == 'note':
        note.write_bytes(b'\xff{')
    if spoil == 'no note':
        note.unlink()
    if spoil == 'too long':
        part.write_bytes(BODY + b'more')
    server.has_ranges = True
    path = download(f'{server.url}/b/w.pth', tmp_path)
    assert path.read_bytes() == BODY
    assert sorted(os.listdir(tmp_path)) == ['w.pth']


@pytest.mark.parametrize(
    'body, what',
    [
        (b'<!DOCTYPE html>\n<html>Sign in</html>', 'a web page'),
        (b'\n <HTML><body>404</body></HTML>', 'a web page'),
        (b'<?xml version="1.0"?><Error>', 'a web page'),
        (b'{"error": "quota exceeded"}', r'text .*quota exceeded'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'a Git LFS pointer'),
        (b'\x1f\x8b\x08\x00', 'compressed by gzip'),
        (b'', 'an empty file'),
    ],
)
def test_what_is_not_a_checkpoint_is_not_kept(
    server: Server, tmp_path: Path, body: bytes, what: str
) -> None:
    server.files = {'/w.pth': body}
    with pytest.raises(ValueError, match=f'not a checkpoint but {what}'):
        download(f'{server.url}/w.pth')
    assert cached(tmp_path) == []
    server.files = {'/w.pth': BODY}
    assert download(f'{server.url}/w.pth').read_bytes() == BODY


def test_a_cut_file_of_unknown_length_is_not_kept(
    server: Server, tmp_path: Path
) -> None:
    whole = io.BytesIO()
    torch.save(dict(weight=torch.zeros(1000)), whole)
    server.has_length = False
    server.files = {'/w.pth': whole.getvalue()[:-100]}
    with pytest.raises(ValueError, match='thrown away: it is cut off or dam'):
        download(f'{server.url}/w.pth')
    assert cached(tmp_path) == []
    server.files = {'/w.pth': whole.getvalue()}
    assert download(f'{server.url}/w.pth').read_bytes() == whole.getvalue()


def test_a_web_page_that_was_kept_is_replaced(
    server: Server, tmp_path: Path
) -> None:
    """In the cache; a folder of the user's is another matter."""
    path = cache_path(f'{server.url}/w.pth')
    path.parent.mkdir(parents=True)
    path.write_bytes(b'<html>')
    server.files = {'/w.pth': BODY}
    assert download(f'{server.url}/w.pth').read_bytes() == BODY


def test_files_of_the_user_are_left_alone(
    server: Server, tmp_path: Path
) -> None:
    server.files = {'/w.pth': BODY, '/w-5b3fc7fc.pth': BODY}
    for name, content in (('w.pth', b'<html>'), ('w-5b3fc7fc.pth', OTHER)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f'{name} exists already and is'):
            download(f'{server.url}/{name}', tmp_path)
        assert (tmp_path / name).read_bytes() == content
    for folder in (tmp_path / 'w.pth', tmp_path / 'w.pth/sub'):
        with pytest.raises(ValueError, match='w.pth is a file; give a folder'):
            download(f'{server.url}/w.pth', folder)
    assert sorted(os.listdir(tmp_path)) == ['w-5b3fc7fc.pth', 'w.pth']
    assert server.requests == []


def test_absent(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match='404 Not Found; check the addr'):
        checkpoint_path(f'{server.url}/w.pth')
    assert len(server.requests) == 1
    assert cached(tmp_path) == []


def test_no_network(server: Server, tmp_path: Path) -> None:
    server.close()
    with pytest.raises(
        ConnectionError,
        match=r'cannot be reached: .*Without '
        'a network, download it on another machine',
    ):
        checkpoint_path(f'{server.url}/w.pth')
    assert cached(tmp_path) == []


def test_the_hash_of_a_name(server: Server, tmp_path: Path) -> None:
    right = hashlib.sha256(BODY).hexdigest()[:8]
    server.files = {
        f'/w_20220825-{right}.pth': BODY,
        '/w-20220825.pth': HEAD + b'a date',
        '/w-5b3fc7fc.pth': HEAD + b'wrong',
    }
    for name in (f'w_20220825-{right}.pth', 'w-20220825.pth'):
        download(f'{server.url}/{name}')
    kept = cached(tmp_path)
    with pytest.raises(ValueError, match='thrown away.*expected 5b3fc7fc'):
        download(f'{server.url}/w-5b3fc7fc.pth')
    assert cached(tmp_path) == kept
    # What something else has put there is not believed either.
    folder = tmp_path / 'folder'
    folder.mkdir()
    (folder / f'w_20220825-{right}.pth').write_bytes(b'other')
    with pytest.raises(ValueError, match='exists already and is another'):
        download(f'{server.url}/w_20220825-{right}.pth', folder)


def test_of_several_one_fetches(server: Server) -> None:
    server.files = {'/w.pth': HEAD + bytes(3_000_000)}
    with ThreadPoolExecutor(8) as pool:
        paths = {*pool.map(download, [f'{server.url}/w.pth'] * 8)}
    assert len(paths) == 1
    assert paths.pop().stat().st_size == len(HEAD) + 3_000_000
    assert len(server.requests) == 1


def test_a_dead_download_does_not_disturb(
    server: Server, tmp_path: Path
) -> None:
    """Nor one of an earlier version, which left such a file."""
    server.files = {'/w.pth': BODY}
    left = tmp_path / '.w.pth.0123456789ab.unfinished'
    left.write_bytes(b'a longer rest of a killed run')
    (tmp_path / 'w.pth.lock').touch()
    assert download(f'{server.url}/w.pth', tmp_path).read_bytes() == BODY
