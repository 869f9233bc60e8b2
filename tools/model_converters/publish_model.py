"""Write what others need of a checkpoint: weights and config, no training.

    publish_model.py CHECKPOINT OUT

The optimizer, the queue, schedulers and logs stay behind. The date and the
first 8 digits of the file's SHA-256 end its name: OUT_20260131-0123abcd.pth.
The config stays in it, with the paths that it names.
"""

import argparse

from swav_plugin.checkpoints.write import publish
from swav_plugin.commands.convert import describe
from swav_plugin.commands.pretrained import mistakes
from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.launch import run_command


def run(args: argparse.Namespace) -> None:
    """Publish what the command line names."""
    with mistakes():
        written = publish(args.checkpoint, args.out)
    print(describe(written))


def main() -> None:
    """Run the command; a mistake of the user ends in one line."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('out', metavar='OUT')
    run_command(run, parser.parse_args())


if __name__ == '__main__':
    main()
