"""Run a command by name: `swav NAME ...` or `python -m swav_plugin NAME ...`.

swav train CONFIG
swav NAME --help
"""

import difflib
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from swav_plugin import __version__
from swav_plugin.compat.stack import check_distributions

# Each is a module of swav_plugin.commands with a main() that reads sys.argv.
COMMANDS = {
    'train': 'train what a config describes',
    'plan': 'write a config for a set of images, with reasons',
    'test': 'measure a checkpoint with a benchmark config',
    'suite': 'run every benchmark whose data is present',
    'demo': 'pretrain on a small dataset and see what was learned',
    'extract': 'write features of images to a file',
    'cluster': 'sort images by the prototypes of a pretrained SwAV',
    'neighbours': 'find the nearest images and near-duplicates',
    'convert': 'write the weights of a checkpoint for another library',
    'report': 'write one page on a training run and its checkpoint',
    'zoo': 'list the published weights, and download them',
    'doctor': 'say whether this machine can train, and what to change',
    'completion': 'print a script that lets a shell complete commands',
}


def main() -> None:
    """Run the command that the command line names."""
    try:
        _run()
        sys.stdout.flush()
    except BrokenPipeError:  # as of `swav zoo list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # as a shell reports SIGPIPE
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)


def _run() -> None:
    """Run a command; Ctrl-C ends it in one line while it is imported, too."""
    name, *arguments = sys.argv[1:] or ['--help']
    if name in ('-h', '--help'):
        print(_usage())
    elif name == '--version':
        print(f'swav_plugin {__version__}')
    elif name in COMMANDS:
        if name != 'doctor':  # which says what else is missing
            _check_packages()
        # What argparse and error messages call the program.
        sys.argv = [f'swav {name}', *arguments]
        with _interrupts_end_at_once():
            module = importlib.import_module(f'swav_plugin.commands.{name}')
        module.main()
    else:
        close = difflib.get_close_matches(name, COMMANDS)
        meant = f'; did you mean {" or ".join(close)}?' if close else ''
        print(
            f'swav: error: there is no command {name!r}{meant}\n{_usage()}',
            file=sys.stderr,
        )
        sys.exit(2)


def _check_packages() -> None:
    """End in one line where OpenMMLab's packages are not as they should."""
    try:
        check_distributions()
    except ImportError as error:
        print(
            f'swav: error: {error} `swav doctor` looks at all packages.',
            file=sys.stderr,
        )
        sys.exit(2)


@contextmanager
def _interrupts_end_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process where there is nothing to put in order.

    An exception would not do: some of what is imported catches it, or makes
    another error of it.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored, say
        yield
        return
    signal.signal(signal.SIGINT, _end_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_at_once(*_: object) -> NoReturn:
    """End as `run_command` does after Ctrl-C."""
    print('interrupted', file=sys.stderr, flush=True)
    os._exit(130)


def _usage() -> str:
    """Return the list of commands."""
    width = max(map(len, COMMANDS))
    lines = (f'  {name:{width}}  {what}' for name, what in COMMANDS.items())
    return '\n'.join(
        [
            'usage: swav [--version] COMMAND ...',
            '',
            'SwAV pretraining, its benchmarks, and what they are for.',
            '',
            'commands:',
            *lines,
            '',
            'swav COMMAND --help lists the options of one.',
        ]
    )


if __name__ == '__main__':
    main()
