"""Add the masks of SBD to VOC2012: SegmentationClassAug and its list.

    voc12aug.py data/VOCdevkit/VOC2012 benchmark_RELEASE/dataset

SBD is the Semantic Boundaries Dataset; its folder has cls/*.mat, train.txt
and val.txt. ImageSets/Segmentation/aug.txt lists its images that are neither
in train nor in val of VOC2012. Needs scipy.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from swav_plugin.checkpoints.atomic import new_folder, write_atomic
from swav_plugin.compat.arguments import Parser
from swav_plugin.datasets.list_file import open_text, path_inside


def read_mask(path: Path) -> np.ndarray:
    """Read a mask of SBD: (H, W) uint8, 0 for background, classes 1 to 20.

    Raises:
        OSError: There is no such file.
        ValueError: It holds no such mask.
    """
    from scipy.io import loadmat

    with open(path, 'rb') as file:
        try:
            content = loadmat(file, squeeze_me=True)
            mask = content['GTcls']['Segmentation'].item()
        except Exception as error:  # anything, on damaged files
            raise ValueError(
                f'{path} is not a mask of SBD, or damaged ({error}); '
                'unpack the archive again.'
            ) from error
    if mask.dtype != np.uint8 or mask.ndim != 2 or mask.max() > 20:
        raise ValueError(
            f'{path} has {mask.dtype} of shape {mask.shape} up to '
            f'{mask.max()}; expected a mask of classes 0 to 20.'
        )
    return mask


def read_names(folder: Path) -> set[str]:
    """Read the names of the images in train.txt and val.txt."""
    names: set[str] = set()
    for split in ('train', 'val'):
        with open_text(folder / f'{split}.txt') as file:
            names.update(file.read().split())
    return names


def convert(voc: Path, sbd: Path) -> None:
    """Write the masks, then their list."""
    lists = voc / 'ImageSets/Segmentation'
    names = sorted(read_names(sbd) - read_names(lists))
    with new_folder(voc / 'SegmentationClassAug') as folder:
        folder.mkdir()
        for name in names:
            mask = read_mask(path_inside(sbd / 'cls', f'{name}.mat'))
            Image.fromarray(mask).save(path_inside(folder, f'{name}.png'))
    write_atomic(lists / 'aug.txt', ''.join(f'{name}\n' for name in names))
    print(f'{lists / "aug.txt"}: {len(names):,} images')


def main() -> None:
    """Run the command."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('voc', metavar='VOC2012', type=Path)
    parser.add_argument('sbd', metavar='SBD', type=Path)
    args = parser.parse_args()
    try:
        convert(args.voc, args.sbd)
    except (OSError, ValueError, ImportError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
