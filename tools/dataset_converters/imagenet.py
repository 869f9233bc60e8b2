"""Write list files of ImageNet into ROOT/meta.

    imagenet.py lists ROOT                  train.txt, val.txt
    imagenet.py lists ROOT --devkit DIR     the same for a flat val folder
    imagenet.py subset ROOT 1percent.txt    train_1percent.txt
    imagenet.py sample ROOT --percent 1     a subset of your own

ROOT has train/<wnid>/*.JPEG, and val alike or flat. Lines are "path label"
with paths relative to train or val; labels are indices of the sorted wnids.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np

from swav_plugin.compat.arguments import Parser
from swav_plugin.datasets import ImageFolder
from swav_plugin.datasets.image_search import class_names
from swav_plugin.datasets.list_file import write_list

# SimCLR's lists (google-research/simclr, imagenet_subsets), by the checksums
# in tensorflow/datasets: our name, and the number of images.
PUBLISHED = {
    '71e82a48ba78252683ae334c4d019ebd5c6e855b9599c1389fbe83eb9549cf17': (
        'train_1percent',
        12_811,
    ),
    '6d09de11e7bdaf5b1f3b1f249b6183695f97310cdd20f0c03e7235b6b9392091': (
        'train_10percent',
        128_116,
    ),
}

Images = list[tuple[str, int]]


def read_classes(folder: Path) -> tuple[list[str], Images]:
    """Return the wnids of class folders, and each image with its label."""
    dataset = ImageFolder(folder, lazy_init=True)
    infos = dataset.load_data_list()
    if 'gt_label' not in infos[0]:
        raise ValueError(f'{folder} has images outside class folders.')
    images = [
        (
            Path(info['img_path']).relative_to(folder).as_posix(),
            info['gt_label'],
        )
        for info in infos
    ]
    return list(dataset.metainfo['classes']), images


def write_lists(root: Path, devkit: Path | None) -> None:
    """Write train.txt and val.txt."""
    wnids, train = read_classes(root / 'train')
    if devkit is not None:
        val = flat_val(root / 'val', wnids, devkit)
    elif class_names(root / 'val'):
        val_wnids, val = read_classes(root / 'val')
        if val_wnids != wnids:
            other = min(set(wnids) ^ set(val_wnids))
            raise ValueError(
                f'only one of train and val has a folder {other}.'
            )
    else:
        raise ValueError(
            f'{root / "val"} has no class folders; pass --devkit, the folder '
            'of ILSVRC2012_devkit_t12.tar.gz, which has the labels.'
        )
    print(write_list(root / 'meta/train.txt', train, root / 'train'))
    print(write_list(root / 'meta/val.txt', val, root / 'val'))


def flat_val(folder: Path, wnids: list[str], devkit: Path) -> Images:
    """Return images ILSVRC2012_val_*.JPEG with the labels of the devkit."""
    from scipy.io import loadmat

    synsets = loadmat(devkit / 'data/meta.mat', squeeze_me=True)['synsets']
    wnid_of = {int(row['ILSVRC2012_ID']): str(row['WNID']) for row in synsets}
    truth = devkit / 'data/ILSVRC2012_validation_ground_truth.txt'
    numbers = [int(line) for line in truth.read_text().split()]
    names = sorted(path.name for path in folder.glob('ILSVRC2012_val_*.JPEG'))
    if len(names) != len(numbers):
        raise ValueError(
            f'{folder} has {len(names):,} images ILSVRC2012_val_*.JPEG, but '
            f'{truth} has {len(numbers):,} labels.'
        )
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    unknown = {wnid_of[number] for number in numbers} - set(labels)
    if unknown:
        raise ValueError(
            f'val has images of {min(unknown)}, but train has no such folder.'
        )
    return [
        (name, labels[wnid_of[number]]) for name, number in zip(names, numbers)
    ]


def write_subset(root: Path, source: Path) -> None:
    """Convert one of SimCLR's lists of file names."""
    checksum = hashlib.sha256(source.read_bytes()).hexdigest()
    if checksum not in PUBLISHED:
        raise ValueError(
            f'{source} is not one of the published lists: its sha256 is '
            f'{checksum}. Get imagenet_subsets/1percent.txt or 10percent.txt '
            'of google-research/simclr, or draw a subset with "sample".'
        )
    name, count = PUBLISHED[checksum]
    wnids, _ = read_classes(root / 'train')
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    files = source.read_text().split()
    assert len(files) == count
    unknown = {file.split('_')[0] for file in files} - set(labels)
    if unknown:
        raise ValueError(
            f'{source} has images of {len(unknown)} classes such as '
            f'{min(unknown)}, which {root / "train"} does not have.'
        )
    images = [
        (f'{wnid}/{file}', labels[wnid])
        for file in files
        for wnid in [file.split('_')[0]]
    ]
    print(write_list(root / f'meta/{name}.txt', images, root / 'train'))


def write_sample(
    root: Path, percent: float, seed: int, num_classes: int | None
) -> None:
    """Draw the same share of each class, but at least one image.

    What is drawn depends on the seed, the class and the sorted names in the
    class alone.
    """
    wnids, images = read_classes(root / 'train')
    num_classes = num_classes or len(wnids)
    of_class: list[Images] = [[] for _ in wnids]
    for image in images:
        of_class[image[1]].append(image)
    sample: Images = []
    for label, members in enumerate(of_class[:num_classes]):
        members.sort()
        count = max(1, round(len(members) * percent / 100))
        drawn = np.random.default_rng([seed, label]).choice(
            len(members), count, replace=False
        )
        sample += [members[index] for index in sorted(drawn)]
    name = f'train_sample-{percent:g}percent-seed{seed}'
    if num_classes < len(wnids):
        name += f'-{num_classes}classes'
    list_file = root / f'meta/{name}.txt'
    print(write_list(list_file, sample, root / 'train'))
    print(
        f'sha256 {hashlib.sha256(list_file.read_bytes()).hexdigest()}; this '
        'is not the published subset'
    )


def main() -> None:
    """Run the command."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)
    lists = commands.add_parser('lists', help='write train.txt and val.txt')
    subset = commands.add_parser('subset', help="convert SimCLR's 1 or 10 %%")
    sample = commands.add_parser('sample', help='draw a subset with a seed')
    for command in (lists, subset, sample):
        command.add_argument('root', metavar='ROOT', type=Path)
    lists.add_argument(
        '--devkit',
        type=Path,
        metavar='DIR',
        help='for a flat val: ILSVRC2012_devkit_t12, unpacked (needs scipy)',
    )
    subset.add_argument(
        'list',
        metavar='LIST',
        type=Path,
        help='1percent.txt or 10percent.txt as published',
    )
    sample.add_argument('--percent', type=float, required=True)
    sample.add_argument('--seed', type=int, default=0)
    sample.add_argument('--classes', type=int, help='only the first n')
    args = parser.parse_args()
    try:
        if args.command == 'lists':
            write_lists(args.root, args.devkit)
        elif args.command == 'subset':
            write_subset(args.root, args.list)
        else:
            write_sample(args.root, args.percent, args.seed, args.classes)
    except (OSError, ValueError, ImportError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
