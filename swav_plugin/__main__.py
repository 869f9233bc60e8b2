"""Run a command by name: `swav NAME ...` or `python -m swav_plugin NAME ...`.

swav train CONFIG
swav NAME --help
"""

import difflib
import importlib
import sys

from swav_plugin import __version__

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
    'zoo': 'list the published weights, and download them',
}


def main() -> None:
    """Run the command that the command line names."""
    name, *arguments = sys.argv[1:] or ['--help']
    if name in ('-h', '--help'):
        print(_usage())
    elif name == '--version':
        print(f'swav_plugin {__version__}')
    elif name in COMMANDS:
        # What argparse and error messages call the program.
        sys.argv = [f'swav {name}', *arguments]
        importlib.import_module(f'swav_plugin.commands.{name}').main()
    else:
        close = difflib.get_close_matches(name, COMMANDS)
        meant = f'; did you mean {" or ".join(close)}?' if close else ''
        print(
            f'swav: error: there is no command {name!r}{meant}\n{_usage()}',
            file=sys.stderr,
        )
        sys.exit(2)


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
