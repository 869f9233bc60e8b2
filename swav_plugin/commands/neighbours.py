"""Find the nearest images to one or to each, and near-duplicates.

    swav neighbours MODEL FOLDER OUT
    swav neighbours MODEL FOLDER OUT --query a.jpg --query b.jpg

Writes into OUT: neighbours.csv, the K nearest images to each query;
duplicates.csv, groups of images that are as alike as --duplicates says;
index.html, which shows both; features.npy. Similarity is the cosine of
features. The same command goes on where it was ended.
"""

import argparse
import os
from typing import Any

import torch
from mmengine.device import get_device
from torch import Tensor

from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.launch import run_command
from swav_plugin.engine.wording import counted
from swav_plugin.inference.cluster_output import name_images, write_page
from swav_plugin.inference.features import extract_features
from swav_plugin.inference.files import ImageFeatures
from swav_plugin.inference.images import file_of, list_images
from swav_plugin.inference.layers import LAYERS, check_layer
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

from .extraction import (
    INTERRUPTED,
    check_options,
    describe_features,
    folder_of_results,
    open_network,
)
from .pretrained import add_arguments, check_out, mistakes

DUPLICATES = 0.95


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
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


def search(
    args: argparse.Namespace,
    found: ImageFeatures,
    queries: ImageFeatures | None,
    threshold: float | None,
) -> Found:
    """Compare features; each image is a query if there are no others."""
    device = get_device()
    features, files = found
    images = name_images(files, args.folder)
    shown, wanted, own = images, features, torch.arange(len(files))
    if queries is not None:
        wanted = queries.features
        shown, own = (
            name_images(queries.files, ''),
            _find(queries.files, files),
        )
    nearby = nearest_others(features, wanted.to(device), own, args.k)
    duplicates = None
    if threshold is not None:
        duplicates = Duplicates(
            threshold, *near_duplicates(features, threshold, device)
        )
    cosines, indices = (each.cpu() for each in nearby)
    return Found(images, shown, cosines, indices, duplicates)


def _find(names: list[str], files: list[str]) -> Tensor:
    """Return the index of each name among the files; -1 if it is not there."""
    indices = {os.path.realpath(file): i for i, file in enumerate(files)}
    return torch.tensor(
        [indices.get(os.path.realpath(name), -1) for name in names]
    )


def _query_features(
    args: argparse.Namespace, model: Any, queries: list[str]
) -> ImageFeatures:
    """Compute the features of the queries, of which there are few."""
    return extract_features(
        model.to(get_device()),
        queries,
        args.layer,
        args.size,
        args.batch_size,
        args.workers,
        amp=args.amp,
        skip_unreadable=True,
    )


def neighbours(args: argparse.Namespace) -> None:
    """Search, write and tell.

    Raises:
        UsageError: The arguments cannot work, or OUT cannot be written.
    """
    out = check_out(args.out, args.folder)
    check_options(args)
    threshold, queries = args.duplicates, None
    if threshold is None and args.query is None:
        threshold = DUPLICATES
    with mistakes():  # before hours of work
        check_limits(args.k, threshold)
        samples = list_images(args.folder)
        names = args.query and [*map(file_of, list_images(args.query))]
        model = open_network(args)
        check_layer(model, args.layer)
        if names:
            queries = _query_features(args, model, names)
    with (
        mistakes(),
        folder_of_results(args, out, model, samples, args.layer) as (
            folder,
            features,
        ),
    ):
        found = search(args, features, queries, threshold)
        facts = {
            'Network': args.model,
            'Features': describe_features(args, args.layer),
        }
        page = lay_out(f'Neighbors in {args.folder}', facts, found)
        write_tables(folder, found)
        write_page(folder / 'index.html', page)
    print(counted(len(found.images.files), 'image'))
    if found.duplicates is not None:
        print(f'near-duplicates: {describe_duplicates(found.duplicates)}')
    for path in sorted(out.iterdir()):
        print(path)


def main() -> None:
    """Search; a mistake of the user ends in one line."""
    run_command(neighbours, parse_args(), interrupted=INTERRUPTED)


if __name__ == '__main__':
    main()
