"""Check that a dataset is complete, before a run finds out.

python tools/check_dataset.py imagenet data/imagenet
"""

import sys

from swav_plugin.compat.arguments import Parser
from swav_plugin.datasets.check import NAMES, check


def main() -> None:
    """Print what was found; exit with 1 if something is wrong."""
    parser = Parser(
        description='Count files, labels and classes of a dataset and name '
        'the first thing that is wrong.'
    )
    parser.add_argument(
        'name',
        metavar='NAME',
        choices=NAMES,
        help=f'one of {", ".join(NAMES)}',
    )
    parser.add_argument(
        'root', metavar='ROOT', help='its folder, as configs name it'
    )
    parser.add_argument(
        '--any-size',
        action='store_true',
        help='a part of a published set: only report counts',
    )
    parser.add_argument(
        '--decode', action='store_true', help='also read every image and mask'
    )
    args = parser.parse_args()
    # File names may be any bytes.
    sys.stdout.reconfigure(errors='backslashreplace')  # type: ignore
    report = check(args.name, args.root, args.any_size, args.decode)
    print(f'{args.name} in {args.root}')
    for line in report.lines:
        print(f'  {line}')
    if report.problem is not None:
        print(f'Problem: {report.problem}')
        sys.exit(1)
    if not report.remarks:
        print('Nothing is missing.')
    else:
        print('It can be used, but note:')
    for line in report.remarks:
        print(f'  {line}')


if __name__ == '__main__':
    main()
