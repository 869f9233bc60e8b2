"""Print a config as the Runner gets it: bases merged, options applied.

    print_config.py CONFIG --cfg-options model.head.epsilon=0.03

A config in mmengine's new style is printed with names in place of classes. A
key that looks misspelled is an error, as in training.
"""

import argparse
import sys

from swav_plugin.engine.config import load_config
from swav_plugin.engine.launch import config_parser, run_command


def print_config(args: argparse.Namespace) -> None:
    """Print the merged config; remarks go to standard error."""
    notes: list[str] = []
    cfg = load_config(args.config, args.cfg_options, notes)
    for note in notes:
        print(note, file=sys.stderr)
    print(cfg.pretty_text, end='')


def main(argv: list[str] | None = None) -> None:
    """Run the command; a mistake of the user ends in one line."""
    run_command(print_config, config_parser(__doc__).parse_args(argv))


if __name__ == '__main__':
    main()
