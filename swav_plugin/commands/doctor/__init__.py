"""Say whether this machine can train, and what to install or change.

    swav doctor
    swav doctor --data FOLDER --work-dir DIR

One line for each thing that was looked at: OK, WARN (it will do), MISSING
(needed only for what the line says) or FAILED. The exit code is 0 if a
training can start, else 1.
"""

import argparse
import sys
from collections.abc import Iterator

from swav_plugin.compat.arguments import Parser

from .packages import Fact, look_at_packages


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help='images to time the loader with (default: drawn ones of the '
        'size of ImageNet)',
    )
    parser.add_argument(
        '--work-dir',
        metavar='DIR',
        default='work_dirs',
        help='where checkpoints will go (default: work_dirs)',
    )
    parser.add_argument(
        '--seconds',
        type=float,
        metavar='S',
        default=10,
        help='how long to time the loader (default: 10; 0 leaves it out)',
    )
    return parser.parse_args(argv)


def examine(args: argparse.Namespace) -> Iterator[Fact]:
    """Yield what is found, one thing after another."""
    can_import = True
    for fact in look_at_packages():
        can_import &= not fact.stops
        yield fact
    if not can_import:
        return
    # All that is looked at from here on needs the packages.
    from .machine import look_at_machine

    yield from look_at_machine(args.data, args.work_dir, args.seconds)


def main() -> None:
    """Print a line for each thing; end with 0 if a training can start."""
    args = parse_args()
    stops = []
    for fact in examine(args):
        remedy = f'. {fact.remedy}' if fact.remedy else ''
        line = f'{fact.status:8}{fact.name:15} {fact.text}{remedy}'
        print(line, flush=True)
        if fact.stops:
            stops.append(fact.name)
    if stops:
        print(f'\nNo training can start: see {", ".join(stops)}.')
        sys.exit(1)
    print('\nA training can start.')


if __name__ == '__main__':
    main()
