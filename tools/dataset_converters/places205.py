"""Write meta/train.txt and meta/val.txt of Places205.

    places205.py data/places205

ROOT has trainvalsplit_places205/{train,val}_places205.csv, and the images
where the archives unpack them. Lines are "path label", with paths relative to
ROOT.
"""

import argparse
from pathlib import Path

from swav_plugin.compat.arguments import Parser
from swav_plugin.datasets.list_file import path_inside, read_list, write_list


def convert(root: Path, images: str) -> None:
    """Write both lists."""
    for split in ('train', 'val'):
        source = root / f'trainvalsplit_places205/{split}_places205.csv'
        lines = []
        for path, label in read_list(str(source)):
            if label is None:
                raise ValueError(f'{source} has no labels.')
            path_inside(root / images, path)
            lines.append((f'{images}/{path}', label))
        print(write_list(root / f'meta/{split}.txt', lines, root))


def main() -> None:
    """Run the command."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('root', metavar='ROOT', type=Path)
    parser.add_argument(
        '--images',
        metavar='DIR',
        default='data/vision/torralba/deeplearning/images256',
        help='folder that paths in the CSV files are relative to, itself '
        'relative to ROOT '
        '(default: %(default)s)',
    )
    args = parser.parse_args()
    try:
        convert(args.root, args.images)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
