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


# Something that is imported makes another error of Ctrl-C.
INTERRUPTED = """
import importlib, signal, sys
from swav_plugin.__main__ import main

# What runs in the background of a shell ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupt(name):
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException as error:
        raise ImportError(name) from error

importlib.import_module = interrupt
sys.argv = ['swav', 'zoo', 'list']
main()
"""


def test_an_interrupt_at_the_start_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, '-c', INTERRUPTED], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (130, 'interrupted\n')


def test_an_interrupt_of_any_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(argv: object = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr('swav_plugin.commands.zoo.main', interrupt)
    assert _swav(monkeypatch, 'zoo', 'list') == 130
    assert capsys.readouterr().err == 'interrupted\n'


def test_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'swav_plugin', 'train', 'no_such.py'],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith('swav train: error: ')
    assert 'no_such.py' in done.stderr


def test_a_reader_that_has_seen_enough() -> None:
    command = f'{sys.executable} -m swav_plugin zoo list | head -n 1'
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.startswith('name ') and not done.stderr
