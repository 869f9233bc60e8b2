"""A server on loopback that can go wrong, and what downloads leave."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from swav_plugin.checkpoints import download

# How a file in torch's old format begins, and so everything served here.
HEAD = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'


class Server:
    """Files by path, and how to go wrong with them."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.breaks: list[int] = []  # bytes sent before each break
        self.errors: list[int] = []  # statuses of the first answers
        self.has_ranges = True
        self.has_length = True
        self.has_tag = True
        self.modified = ''  # the Last-Modified of all files
        self.checks_version = True  # False: sends the rest of any file
        self.omitted = 0  # leaves out so many bytes before the rest
        self.shift = 0  # sends the rest from so many bytes too early
        self.stalls = False  # waits where it would break
        self.go_on = threading.Event()
        self.requests: list[str | None] = []  # their ranges
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers['Range']
                server.requests.append(wanted)
                body = server.files.get(self.path.partition('?')[0])
                if server.errors:
                    self.send_error(server.errors.pop(0))
                    return
                if body is None:
                    self.send_error(404)
                    return
                version = server.version(body)
                first = 0
                if wanted and server.has_ranges:
                    same = self.headers['If-Range'] == version
                    if same or not server.checks_version:
                        first = int(wanted[len('bytes=') : -1])
                if first >= len(body) > 0:
                    self.send_error(416)
                    return
                first = max(first - server.shift, 0)
                self.send_response(206 if first else 200)
                if first:
                    span = f'{first}-{len(body) - 1}/{len(body)}'
                    self.send_header('Content-Range', f'bytes {span}')
                    first += server.omitted
                if server.has_length:
                    self.send_header('Content-Length', str(len(body) - first))
                if server.has_tag:
                    self.send_header('ETag', version)
                elif server.modified:
                    self.send_header('Last-Modified', version)
                self.end_headers()
                end = len(body)
                if server.breaks:
                    end = first + server.breaks.pop(0)
                self.wfile.write(body[first:end])
                if server.stalls and end < len(body):
                    server.go_on.wait(60)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self._http.server_port}'
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs=dict(poll_interval=0.01)
        )
        self._thread.start()

    def version(self, body: bytes) -> str:
        tag = f'"{hashlib.sha256(body).hexdigest()[:8]}"'
        return tag if self.has_tag else self.modified

    def close(self) -> None:
        self.go_on.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """A server, no proxy to it, no pauses, and an empty cache."""
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    monkeypatch.setattr(download, '_PAUSE_S', 0)
    running = Server()
    yield running
    running.close()


def cached(tmp_path: Path) -> list[str]:
    """List the files that the cache holds besides locks and its record."""
    return sorted(
        path.name
        for path in (tmp_path / 'home').rglob('*')
        if path.is_file()
        and path.suffix != '.lock'
        and path.name != 'swav_plugin_sha256.json'
    )
