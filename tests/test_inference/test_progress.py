"""What is shown of a long run, on a terminal and in a log."""

import io

import pytest

from swav_plugin.inference import progress as module
from swav_plugin.inference.progress import Progress


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


def run(file: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    """Show 1,000 images at 10 a second, of which 500 were done before."""
    now = 0.0
    monkeypatch.setattr(module.time, 'monotonic', lambda: now)
    progress = Progress(1000, file=file)
    progress.skip(500)
    for second in range(1, 51):
        now = float(second)
        progress.advance(10)
    progress.close()
    return file.getvalue()


def test_a_terminal_has_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run(Terminal(), monkeypatch)
    assert shown.count('\n') == 1
    lines = shown.split('\r')[1:]
    assert lines[0] == ('510 of 1,000 images, 10 images/s, 0:00:49 left\x1b[K')
    assert lines[-1] == '1,000 of 1,000 images, 10 images/s\x1b[K\n'


def test_a_log_has_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run(io.StringIO(), monkeypatch).splitlines() == [
        '800 of 1,000 images, 10 images/s, 0:00:20 left',
        '1,000 of 1,000 images, 10 images/s',
    ]


def test_a_line_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, 'monotonic', lambda: now)
    log = io.StringIO()
    progress = Progress(10, file=log)
    now = 40.0
    progress.advance(10)
    progress.close()
    assert log.getvalue() == '10 of 10 images, 0.25 images/s\n'


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(10, is_silent=True)
    progress.advance(10)
    progress.close()
    assert capsys.readouterr() == ('', '')
