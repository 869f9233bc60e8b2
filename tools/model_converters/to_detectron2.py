"""Write the backbone of a checkpoint as the pickle that detectron2 reads.

    to_detectron2.py CHECKPOINT OUT.pkl [--overwrite]

The same as `swav convert CHECKPOINT OUT.pkl --to detectron2`. In detectron2
set MODEL.WEIGHTS to OUT.pkl and, as MoCo's configs do, INPUT.FORMAT RGB,
RESNETS.STRIDE_IN_1X1 False, BACKBONE.FREEZE_AT 0 and SyncBN; PIXEL_MEAN
[123.675, 116.28, 103.53] and PIXEL_STD [58.14, 57.12, 57.375].
"""

import argparse

from swav_plugin.commands.convert import run
from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.launch import run_command


def main() -> None:
    """Convert what the command line names."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('out', metavar='OUT.pkl')
    parser.add_argument('--overwrite', action='store_true')
    parser.set_defaults(to='detectron2')
    run_command(run, parser.parse_args())


if __name__ == '__main__':
    main()
