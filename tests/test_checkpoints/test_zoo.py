"""Checkpoints by name, URL and path; downloads from a server on loopback."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader

import swav_plugin.registry  # noqa: F401  installs the safe loader
from swav_plugin.checkpoints import load_backbone, zoo
from swav_plugin.checkpoints.download import download
from swav_plugin.checkpoints.zoo import checkpoint_path, zoo_models

NAME = 'swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96'


class Server:
    """Files by path, and how to go wrong with them."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.breaks: list[int] = []  # bytes sent before each break
        self.has_ranges = True
        self.has_tag = True
        self.requests: list[str | None] = []  # their ranges
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers['Range']
                server.requests.append(wanted)
                body = server.files.get(self.path.partition('?')[0])
                if body is None:
                    self.send_error(404)
                    return
                tag = f'"{hashlib.sha256(body).hexdigest()[:8]}"'
                first = 0
                if (
                    wanted
                    and server.has_ranges
                    and self.headers['If-Range'] == tag
                ):
                    first = int(wanted[len('bytes=') : -1])
                self.send_response(206 if first else 200)
                self.send_header('Content-Length', str(len(body) - first))
                if server.has_tag:
                    self.send_header('ETag', tag)
                self.end_headers()
                end = len(body)
                if server.breaks:
                    end = first + server.breaks.pop(0)
                self.wfile.write(body[first:end])

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self._http.server_port}'
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs=dict(poll_interval=0.01)
        )
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """A server, no proxy to it, and an empty cache."""
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    running = Server()
    yield running
    running.close()


def cached(tmp_path: Path) -> list[Path]:
    """List what the cache holds besides locks."""
    return [
        path
        for path in (tmp_path / 'home').rglob('*')
        if path.is_file() and path.suffix != '.lock'
    ]


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    server.files = {'/a/w.pth': b'one', '/b/w.pth': b'two'}
    path = checkpoint_path(f'{server.url}/a/w.pth')
    assert path.name == 'w.pth' and path.read_bytes() == b'one'
    assert path.is_relative_to(tmp_path / 'home/hub/checkpoints')
    assert checkpoint_path(f'{server.url}/a/w.pth') == path
    assert len(server.requests) == 1
    # The same name, another file.
    assert checkpoint_path(f'{server.url}/b/w.pth').read_bytes() == b'two'
    assert download(f'{server.url}/b/w.pth', tmp_path) == tmp_path / 'w.pth'


@pytest.mark.parametrize('path', ['/', '/..', '/%2e%2e%2fw', '/a%5c..', ''])
def test_names_stay_in_the_folder(
    server: Server, tmp_path: Path, path: str
) -> None:
    server.files = dict.fromkeys(['/', '/..', '/%2e%2e%2fw', '/a%5c..'], b'x')
    folder = tmp_path / 'in/side'
    assert download(server.url + path, folder).parent == folder


def test_a_broken_transfer_goes_on(server: Server, tmp_path: Path) -> None:
    body = bytes(range(256)) * 40
    server.files = {'/w.pth': body}
    server.breaks = [1000, 2000]
    assert download(f'{server.url}/w.pth').read_bytes() == body
    assert server.requests == [None, 'bytes=1000-', 'bytes=3000-']


@pytest.mark.parametrize('lacking', ['has_ranges', 'has_tag'])
def test_a_broken_transfer_begins_again(server: Server, lacking: str) -> None:
    """Start over if the rest is refused or may belong to another file."""
    body = bytes(range(256)) * 40
    server.files = {'/w.pth': body}
    server.breaks = [1000, 9000]
    setattr(server, lacking, False)
    assert download(f'{server.url}/w.pth').read_bytes() == body


def test_two_versions_are_not_mixed(server: Server) -> None:
    server.files = {'/w.pth': b'1' * 5000}
    server.breaks = [1000]
    changed = threading.Event()

    class Files(dict):
        """The file changes after it was asked for once."""

        def get(self, key: str, default: object = None) -> bytes:
            body = b'2' * 5000 if changed.is_set() else b'1' * 5000
            changed.set()
            return body

    server.files = Files()
    assert download(f'{server.url}/w.pth').read_bytes() == b'2' * 5000
    assert server.requests == [None, 'bytes=1000-']


def test_a_torn_file_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.files = {'/w.pth': bytes(5000)}
    server.breaks = [1000] * 9
    server.has_ranges = False
    with pytest.raises(ConnectionError, match=r'broke off 5 times.* give its'):
        download(f'{server.url}/w.pth')
    assert len(server.requests) == 5
    assert cached(tmp_path) == []


def test_absent(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match='404 Not Found; check the addr'):
        checkpoint_path(f'{server.url}/w.pth')
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
    right = hashlib.sha256(b'right').hexdigest()[:8]
    server.files = {
        f'/w_20220825-{right}.pth': b'right',
        '/w-20220825.pth': b'a date',
        '/w-5b3fc7fc.pth': b'wrong',
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
    path = download(f'{server.url}/w_20220825-{right}.pth', folder)
    assert path.read_bytes() == b'right'


def test_of_several_one_fetches(server: Server) -> None:
    server.files = {'/w.pth': bytes(3_000_000)}
    with ThreadPoolExecutor(8) as pool:
        paths = {*pool.map(download, [f'{server.url}/w.pth'] * 8)}
    assert len(paths) == 1 and paths.pop().stat().st_size == 3_000_000
    assert len(server.requests) == 1


def test_a_dead_download_does_not_disturb(
    server: Server, tmp_path: Path
) -> None:
    server.files = {'/w.pth': b'whole'}
    left = tmp_path / '.w.pth.0123456789ab.unfinished'
    left.write_bytes(b'a longer rest of a killed run')
    (tmp_path / 'w.pth.lock').touch()
    assert download(f'{server.url}/w.pth', tmp_path).read_bytes() == b'whole'


@pytest.fixture
def index(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Write a zoo of one model with these lines, and one without weights."""

    def write(*lines: str) -> None:
        (tmp_path / 'model-index.yml').write_text('Import: [metafile.yml]\n')
        (tmp_path / 'metafile.yml').write_text(
            '\n'.join(
                [
                    'Models:',
                    '- Name: net_a',
                    '  Config: a.py',
                    *lines,
                    '- Name: net_b',
                    '  Config: b.py',
                ]
            )
        )
        zoo_models.cache_clear()

    monkeypatch.setattr(zoo, '_INDEX', tmp_path / 'model-index.yml')
    yield write
    zoo_models.cache_clear()


def test_names(
    server: Server, index: Callable[..., None], tmp_path: Path
) -> None:
    server.files = {'/a.pth': b'weights'}
    right = hashlib.sha256(b'weights').hexdigest()
    index(
        f'  Weights: {server.url}/a.pth',
        f'  Metadata: {{Weights SHA256: {right}}}',
    )
    assert checkpoint_path('net_a').read_bytes() == b'weights'
    with pytest.raises(
        ValueError,
        match=r'nobody has published weights of '
        r'net_b; train it \(b.py\), or take one of net_a',
    ):
        checkpoint_path('net_b')
    with pytest.raises(
        FileNotFoundError,
        match='no checkpoint net_; did you mean net_[ab] or net_[ab]',
    ):
        checkpoint_path('net_')
    with pytest.raises(FileNotFoundError, match='no such file, and no model'):
        checkpoint_path('x/w.pth')
    index(
        f'  Weights: {server.url}/a.pth',
        f'  Metadata: {{Weights SHA256: {right[::-1]}}}',
    )
    with pytest.raises(ValueError, match='thrown away'):
        checkpoint_path('net_a')


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'a file.pth'
    path.touch()
    assert checkpoint_path(path) == path
    assert checkpoint_path(path.as_uri()) == path
    monkeypatch.setenv('HOME', str(tmp_path))
    assert checkpoint_path('~/a file.pth') == path
    # A file comes before a model of that name.
    monkeypatch.chdir(tmp_path)
    Path(NAME).touch()
    assert checkpoint_path(NAME) == Path(NAME)


def test_backbones_are_filled_from_urls(
    server: Server, tmp_path: Path
) -> None:
    backbone = torch.nn.Linear(2, 1)
    torch.save(
        {
            f'module.{key}': torch.full_like(value, 7)
            for key, value in backbone.state_dict().items()
        },
        tmp_path / 'w.pth',
    )
    server.files = {'/w.pth': (tmp_path / 'w.pth').read_bytes()}
    assert load_backbone(backbone, f'{server.url}/w.pth') == 2
    assert backbone.weight.tolist() == [[7, 7]]
    # mmengine's own loader, as for init_cfg and load_from.
    state = CheckpointLoader.load_checkpoint(f'{server.url}/w.pth')
    assert state['module.bias'].tolist() == [7]
    assert len(server.requests) == 1


def test_the_index_has_upstreams_weights() -> None:
    models = zoo_models()
    assert models[NAME]['Weights'] == (
        'https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain'
        '.pth.tar'
    )
    urls = [
        model['Weights'] for model in models.values() if 'Weights' in model
    ]
    assert len(urls) == len({*urls}) == 11
