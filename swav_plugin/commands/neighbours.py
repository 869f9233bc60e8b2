"""Find the nearest images to one or to each, and near-duplicates.

    swav neighbours CHECKPOINT FOLDER OUT
    swav neighbours CHECKPOINT FOLDER OUT --query a.jpg --query b.jpg

Writes into OUT: neighbours.csv, the K nearest images to each query;
duplicates.csv, groups of images that are more alike than --duplicates;
index.html, which shows both. Similarity is the cosine of features.
"""

import argparse
import os

import torch
from mmengine.device import get_device

from swav_plugin.checkpoints.atomic import new_folder
from swav_plugin.engine.launch import run_command
from swav_plugin.inference.cluster_output import name_images, write_page
from swav_plugin.inference.features import LAYERS, extract_features
from swav_plugin.inference.neighbour_output import (
    Found,
    describe_duplicates,
    lay_out,
    write_tables,
)
from swav_plugin.inference.neighbours import near_duplicates, nearest_others

from .pretrained import (
    add_arguments,
    check_out,
    extraction_options,
    mistakes,
    open_model,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Find the nearest images, and near-duplicates.'
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
        default=0.95,
        help='images this similar are near-duplicates (default: 0.95)',
    )
    parser.add_argument(
        '--layer',
        choices=LAYERS,
        default='avgpool',
        help='features to compare (default: avgpool)',
    )
    return parser.parse_args(argv)


def search(args: argparse.Namespace) -> Found:
    """Compute features and compare them."""
    options = extraction_options(args)
    model = open_model(args)
    with mistakes():
        features, files = extract_features(
            model, args.folder, args.layer, **options
        )
        images = name_images(files, args.folder)
        queries, wanted = images, features
        own = torch.arange(len(files))
        if args.query is not None:
            wanted, names = extract_features(
                model, args.query, args.layer, **options
            )
            queries = name_images(names, '')
            index = {os.path.realpath(file): i for i, file in enumerate(files)}
            own = torch.tensor(
                [index.get(os.path.realpath(file), -1) for file in names]
            )
        device = get_device()
        groups, nearest = near_duplicates(features, args.duplicates, device)
        cosines, indices = nearest_others(
            features, wanted.to(device), own, args.k
        )
    return Found(
        images, queries, cosines.cpu(), indices.cpu(), groups, nearest
    )


def neighbours(args: argparse.Namespace) -> None:
    """Search, write and tell.

    Raises:
        UsageError: The arguments cannot work, or OUT cannot be written.
    """
    out = check_out(args.out, args.folder)
    found = search(args)
    facts = {
        'Network': args.model,
        'Features': f'{args.layer}, images of {args.size} px',
    }
    title = f'Neighbors in {args.folder}'
    page = lay_out(title, facts, found, args.duplicates)
    with mistakes(), new_folder(out) as folder:
        folder.mkdir()
        write_tables(folder, found)
        write_page(folder / 'index.html', page)
    told = describe_duplicates(found, args.duplicates)
    print(f'{len(found.images.files):,} images; near-duplicates: {told}')
    for name in ('neighbours.csv', 'duplicates.csv', 'index.html'):
        print(out / name)


def main() -> None:
    """Search; a mistake of the user ends in one line."""
    run_command(neighbours, parse_args())


if __name__ == '__main__':
    main()
