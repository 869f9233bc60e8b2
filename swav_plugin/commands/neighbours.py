"""Find the nearest images to one or to each, and near-duplicates.

    swav neighbours MODEL FOLDER OUT
    swav neighbours MODEL FOLDER OUT --query a.jpg --query b.jpg

Writes into OUT: neighbours.csv, the K nearest images to each query;
duplicates.csv, groups of images that are as alike as --duplicates says;
index.html, which shows both. Similarity is the cosine of features.
"""

import argparse
import os

import torch
from mmengine.device import get_device
from torch import Tensor

from swav_plugin.checkpoints.atomic import new_folder
from swav_plugin.engine.launch import run_command
from swav_plugin.inference.cluster_output import name_images, write_page
from swav_plugin.inference.features import LAYERS, extract_features
from swav_plugin.inference.neighbour_output import (
    Duplicates,
    Found,
    describe_duplicates,
    lay_out,
    write_tables,
)
from swav_plugin.inference.neighbours import (
    check_limits,
    near_duplicates,
    nearest_others,
)

from .pretrained import (
    add_arguments,
    check_out,
    extraction_options,
    mistakes,
    open_model,
)

DUPLICATES = 0.95


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser, 'neighbours.csv, duplicates.csv and index.html')
    parser.add_argument(
        '--query',
        metavar='IMAGE',
        action='append',
        help='an image, or a folder of some, to find neighbors of; may be '
        'repeated (default: each image of FOLDER)',
    )
    parser.add_argument(
        '--k',
        type=int,
        default=10,
        help='neighbors of each query (default: 10)',
    )
    parser.add_argument(
        '--duplicates',
        metavar='COSINE',
        type=float,
        help='least similarity of near-duplicates (default: '
        f'{DUPLICATES}; with --query they are looked for only if it is given)',
    )
    parser.add_argument(
        '--layer',
        choices=LAYERS,
        default='avgpool',
        help='features to compare (default: avgpool)',
    )
    return parser.parse_args(argv)


def search(args: argparse.Namespace, threshold: float | None) -> Found:
    """Compute features and compare them."""
    options = extraction_options(args)
    model = open_model(args)
    device = get_device()
    with mistakes():
        features, files = extract_features(
            model, args.folder, args.layer, **options
        )
        images = name_images(files, args.folder)
        queries, wanted, own = images, features, torch.arange(len(files))
        if args.query is not None:
            wanted, names = extract_features(
                model, args.query, args.layer, **options
            )
            queries, own = name_images(names, ''), _find(names, files)
        nearby = nearest_others(features, wanted.to(device), own, args.k)
        duplicates = None
        if threshold is not None:
            duplicates = Duplicates(
                threshold, *near_duplicates(features, threshold, device)
            )
    cosines, indices = (each.cpu() for each in nearby)
    return Found(images, queries, cosines, indices, duplicates)


def _find(names: list[str], files: list[str]) -> Tensor:
    """Return the index of each name among the files; -1 if it is not there."""
    indices = {os.path.realpath(file): i for i, file in enumerate(files)}
    return torch.tensor(
        [indices.get(os.path.realpath(name), -1) for name in names]
    )


def neighbours(args: argparse.Namespace) -> None:
    """Search, write and tell.

    Raises:
        UsageError: The arguments cannot work, or OUT cannot be written.
    """
    out = check_out(args.out, args.folder)
    threshold = args.duplicates
    if threshold is None and args.query is None:
        threshold = DUPLICATES
    with mistakes():  # before hours of work
        check_limits(args.k, threshold)
    found = search(args, threshold)
    facts = {
        'Network': args.model,
        'Features': f'{args.layer}, images of {args.size} px',
    }
    title = f'Neighbors in {args.folder}'
    page = lay_out(title, facts, found)
    with mistakes(), new_folder(out) as folder:
        folder.mkdir()
        write_tables(folder, found)
        write_page(folder / 'index.html', page)
    print(f'{len(found.images.files):,} images')
    if found.duplicates is not None:
        print(f'near-duplicates: {describe_duplicates(found.duplicates)}')
    for path in sorted(out.iterdir()):
        print(path)


def main() -> None:
    """Search; a mistake of the user ends in one line."""
    run_command(neighbours, parse_args())


if __name__ == '__main__':
    main()
