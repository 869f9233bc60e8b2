"""Sort the images of a folder by the prototypes of a pretrained SwAV.

    swav cluster MODEL FOLDER OUT
    swav cluster MODEL FOLDER OUT --groups 10 --link

Writes into OUT: clusters.csv, with the prototype of each image; index.html,
a page with a strip of images for each prototype; features.npy, the
embeddings; with --link or --copy also the images, in a folder for each group
or prototype. If the folders of FOLDER are classes, it says how well clusters
agree with them. The same command goes on where it was ended.
"""

import argparse

from mmengine.device import get_device

from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.launch import run_command
from swav_plugin.engine.wording import counted
from swav_plugin.inference.cluster_output import (
    describe,
    describe_spread,
    lay_out,
    measure_agreement,
    name_images,
    sort_images,
    write_clusters,
    write_page,
)
from swav_plugin.inference.clusters import (
    assign_embeddings,
    check_has_prototypes,
    check_num_groups,
)
from swav_plugin.inference.images import list_images

from .extraction import (
    INTERRUPTED,
    check_options,
    describe_features,
    folder_of_results,
    open_network,
)
from .pretrained import add_arguments, check_numbers, check_out, mistakes


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser, 'clusters.csv, index.html and sorted images')
    parser.add_argument(
        '--balanced',
        action='store_true',
        help='give all prototypes about equally many images, as in training '
        '(Sinkhorn over the whole set); by default each image gets the '
        'nearest prototype',
    )
    parser.add_argument(
        '--groups',
        metavar='G',
        type=int,
        help='merge prototypes with similar images into G groups',
    )
    sort = parser.add_mutually_exclusive_group()
    sort.add_argument(
        '--link',
        action='store_true',
        help='put symbolic links to the images into folders',
    )
    sort.add_argument(
        '--copy',
        action='store_true',
        help='put copies of the images into folders',
    )
    return parser.parse_args(argv)


def cluster(args: argparse.Namespace) -> None:
    """Assign, write and tell.

    Raises:
        UsageError: The arguments cannot work, or OUT cannot be written.
    """
    out = check_out(args.out, args.folder)
    check_options(args)
    check_numbers(args, groups=1)
    with mistakes():  # before hours of work
        samples = list_images(args.folder)
        model = open_network(args)
        check_has_prototypes(model)
        check_num_groups(args.groups, model.head)
    with (
        mistakes(),
        folder_of_results(args, out, model, samples, 'embedding') as (
            folder,
            (embeddings, files),
        ),
    ):
        clusters = assign_embeddings(
            model.head.to(get_device()),
            embeddings,
            files,
            args.balanced,
            args.groups,
        )
        images = name_images(files, args.folder)
        write_clusters(folder / 'clusters.csv', clusters, images)
        if args.link or args.copy:
            sort_images(folder, clusters, args.copy)
        facts = {
            'Network': args.model,
            'Features': describe_features(args, 'embedding'),
            'Assignment': 'balanced' if args.balanced else 'nearest prototype',
        }
        page = lay_out(f'Clusters of {args.folder}', facts, clusters, images)
        write_page(folder / 'index.html', page)
    print(f'{counted(len(files), "image")}; {describe_spread(clusters)}')
    for kind, found in measure_agreement(clusters, images).items():
        print(f'class folders and {kind}: {describe(found)}')
    for path in sorted(out.iterdir()):
        print(path)


def main() -> None:
    """Cluster; a mistake of the user ends in one line."""
    run_command(cluster, parse_args(), interrupted=INTERRUPTED)


if __name__ == '__main__':
    main()
