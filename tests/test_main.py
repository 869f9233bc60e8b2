"""Tests of `swav NAME ...`."""

import importlib
import subprocess
import sys

import pytest

from swav_plugin.__main__ import COMMANDS, main


def _swav(
    monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> int | str | None:
    """Run a command in this process; return its exit code."""
    monkeypatch.setattr(sys, 'argv', ['swav', *arguments])
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0


@pytest.mark.parametrize('name', COMMANDS)
def test_each_command_is_a_module_with_help(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _swav(monkeypatch, name, '--help') == 0
    assert capsys.readouterr().out.startswith(f'usage: swav {name} ')
    assert importlib.import_module(f'swav_plugin.commands.{name}').__doc__


def test_commands_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _swav(monkeypatch) == 0
    listed = capsys.readouterr().out
    for name, what in COMMANDS.items():
        assert f'  {name} ' in listed
        assert what in listed


def test_unknown_command_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _swav(monkeypatch, 'trian') == 2
    first = capsys.readouterr().err.splitlines()[0]
    assert first == (
        "swav: error: there is no command 'trian'; did you mean train?"
    )


def test_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'swav_plugin', 'train', 'no_such.py'],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith('swav train: error: ')
    assert 'no_such.py' in done.stderr
