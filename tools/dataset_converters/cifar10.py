"""Write CIFAR-10 as class folders, ROOT/train and ROOT/test.

    cifar10.py data/cifar10

For tools that read images: our CIFAR-10 configs read ROOT/cifar-10-batches-py
itself. That folder must exist, or be downloaded with --download.
"""

import argparse
from pathlib import Path

from torchvision.datasets import CIFAR10

from swav_plugin.checkpoints.atomic import new_folder
from swav_plugin.compat.arguments import Parser
from swav_plugin.datasets.list_file import write_class_folders


def convert(root: Path, download: bool) -> None:
    """Write both folders."""
    for split in ('train', 'test'):
        # Refuses files whose checksums are not the published ones.
        cifar = CIFAR10(str(root), train=split == 'train', download=download)
        with new_folder(root / split) as folder:
            write_class_folders(
                folder,
                ((image, cifar.classes[label]) for image, label in cifar),
            )
        print(f'{root / split}: {len(cifar):,} images')


def main() -> None:
    """Run the command."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('root', metavar='ROOT', type=Path)
    parser.add_argument('--download', action='store_true')
    args = parser.parse_args()
    try:
        convert(args.root, args.download)
    except (OSError, ValueError, RuntimeError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
