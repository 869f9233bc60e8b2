"""Write the *_gtFine_labelTrainIds.png that mmsegmentation reads.

    cityscapes.py data/cityscapes

They are made of gtFine's *_labelIds.png, and have the same pixels as those
that cityscapesScripts draws from polygons. Existing files are kept.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from swav_plugin.checkpoints.atomic import open_atomic
from swav_plugin.compat.arguments import Parser
from swav_plugin.datasets.transforms.pillow_files import open_image

# Ids of the 19 evaluated classes, in the order of their train ids. All others
# become 255 (cityscapesScripts, helpers/labels.py).
EVALUATED = (
    7,
    8,
    11,
    12,
    13,
    17,
    19,
    20,
    21,
    22,
    23,
    24,
    25,
    26,
    27,
    28,
    31,
    32,
    33,
)
NUM_IDS = 34


def train_ids(ids: np.ndarray) -> np.ndarray:
    """Map (H, W) ids of labels to train ids, both uint8."""
    if ids.dtype != np.uint8 or ids.max() >= NUM_IDS:
        raise ValueError(f'ids go up to {ids.max()}; expected 0 to 33.')
    table = np.full(NUM_IDS, 255, np.uint8)
    table[list(EVALUATED)] = np.arange(len(EVALUATED))
    return table[ids]


def convert(root: Path) -> None:
    """Write the missing masks."""
    # [!.]: without the copies that a Mac leaves, ._NAME.
    sources = sorted(root.glob('gtFine/*/*/[!.]*_gtFine_labelIds.png'))
    if not sources:
        raise FileNotFoundError(
            f'there are no {root}/gtFine/SPLIT/CITY/*_gtFine_labelIds.png.'
        )
    written = 0
    for source in sources:
        target = source.with_name(
            source.name.replace('labelIds', 'labelTrainIds')
        )
        if target.exists():
            continue
        with open_image(source, ['PNG']) as img:
            ids = np.asarray(img)
        try:
            mask = Image.fromarray(train_ids(ids))
        except ValueError as error:
            raise ValueError(f'{source}: {error}') from error
        with open_atomic(target) as file:
            mask.save(file, 'PNG')
        written += 1
    print(
        f'{root}: {written:,} masks written, {len(sources) - written:,} '
        'already existed'
    )


def main() -> None:
    """Run the command."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('root', metavar='ROOT', type=Path)
    args = parser.parse_args()
    try:
        convert(args.root)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
