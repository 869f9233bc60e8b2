"""Write meta/train.txt and meta/val.txt of iNaturalist 2018.

    inaturalist2018.py data/inaturalist2018

ROOT has train2018.json, val2018.json and train_val2018/. Lines are "path
label", relative to ROOT; labels are the category ids, 0 to 8141.
"""

import argparse
from pathlib import Path

from swav_plugin.compat.arguments import Parser
from swav_plugin.datasets.check import read_coco
from swav_plugin.datasets.list_file import path_inside, write_list


def read_annotations(path: Path) -> list[tuple[str, int]]:
    """Read the file and category of each image, in the order of images."""
    content = read_coco(path)
    known = sorted(category['id'] for category in content['categories'])
    if known != list(range(len(known))):
        raise ValueError(
            f'{path} has category ids {known[:3]} ... {known[-1:]}; expected '
            '0, 1, 2, ... without gaps.'
        )
    labels: dict[int, int] = {}
    for annotation in content['annotations']:
        image, label = annotation['image_id'], annotation['category_id']
        if labels.setdefault(image, label) != label:
            raise ValueError(f'{path} gives image {image} two categories.')
        if not 0 <= label < len(known):
            raise ValueError(
                f'{path} gives image {image} category {label}; '
                f'expected 0 to {len(known) - 1}.'
            )
    unlabeled = [
        image['file_name']
        for image in content['images']
        if image['id'] not in labels
    ]
    if unlabeled:
        raise ValueError(
            f'{path} gives {len(unlabeled)} images such as '
            f'{unlabeled[0]} no category.'
        )
    return [
        (image['file_name'], labels[image['id']])
        for image in content['images']
    ]


def convert(root: Path) -> None:
    """Write both lists."""
    for split in ('train', 'val'):
        images = read_annotations(root / f'{split}2018.json')
        for path, _ in images:
            path_inside(root, path)
        print(write_list(root / f'meta/{split}.txt', images, root))


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
