"""Write one part of a model, such as its backbone, as a file of its own.

    extract_backbone_weights.py CHECKPOINT OUT.pth --remove-prefix

Names are those in the file, and other libraries that build the same network
read them without the prefix. For libraries with names of their own, and for
checkpoints of other projects, use `swav convert`.
"""

import argparse

from swav_plugin.checkpoints.write import extract
from swav_plugin.commands.convert import describe
from swav_plugin.commands.pretrained import mistakes
from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.launch import run_command


def run(args: argparse.Namespace) -> None:
    """Extract as the command line says."""
    with mistakes():
        written = extract(
            args.checkpoint,
            args.out,
            args.prefix,
            args.remove_prefix,
            args.overwrite,
        )
    print(describe(written))


def main() -> None:
    """Run the command; a mistake of the user ends in one line."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('out', metavar='OUT.pth')
    parser.add_argument(
        '--prefix',
        default='backbone',
        help='what the names of the part begin with (default: backbone)',
    )
    parser.add_argument(
        '--remove-prefix',
        '--remove_prefix',
        action='store_true',
        help='cut the prefix off the names: conv1.weight in place of '
        'backbone.conv1.weight',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace OUT if it exists'
    )
    run_command(run, parser.parse_args())


if __name__ == '__main__':
    main()
