"""Count the parameters of the model of a config, part by part.

    count_parameters.py CONFIG

Buffers are what a checkpoint holds besides parameters: the queue, and the
running means and variances of batch norm. The prototypes count as trained,
although `SwAVHook` freezes them in the first iterations.
"""

import argparse

from swav_plugin.engine.config import check_has, load_config
from swav_plugin.engine.launch import config_parser, run_command
from swav_plugin.models.complexity import count_parameters
from swav_plugin.models.pretrained import build_model


def count(args: argparse.Namespace) -> None:
    """Print a table with a row for each part."""
    cfg = load_config(args.config, args.cfg_options)
    check_has(cfg, 'model')
    parts = count_parameters(build_model(cfg))
    totals = [sum(column) for column in zip(*(part[1:] for part in parts))]
    print(f'{"part":16} {"trained":>14} {"frozen":>14} {"buffers":>14}')
    for name, *numbers in [*parts, ('total', *totals)]:
        print(f'{name:16}', *(f'{number:14,}' for number in numbers))


def main(argv: list[str] | None = None) -> None:
    """Run the command; a mistake of the user ends in one line."""
    run_command(count, config_parser(__doc__).parse_args(argv))


if __name__ == '__main__':
    main()
