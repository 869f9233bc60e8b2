"""Sort the images of a folder by the prototypes of a pretrained SwAV.

    swav cluster MODEL FOLDER OUT
    swav cluster MODEL FOLDER OUT --groups 10 --link

Writes into OUT: clusters.csv, with the prototype of each image; index.html,
a page with a strip of images for each prototype; with --link or --copy also
the images, in a folder for each group or prototype. If the folders of FOLDER
are classes, it says how well clusters agree with them.
"""

import argparse

from swav_plugin.checkpoints.atomic import new_folder
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import run_command
from swav_plugin.inference.cluster_output import (
    describe,
    lay_out,
    measure_agreement,
    name_images,
    sort_images,
    write_clusters,
    write_page,
)
from swav_plugin.inference.clusters import assign_clusters

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
    options = extraction_options(args)
    if args.groups is not None and args.groups < 1:
        raise UsageError(f'--groups {args.groups}: give 1 or more')
    model = open_model(args)
    with mistakes():
        clusters = assign_clusters(
            model, args.folder, args.balanced, args.groups, **options
        )
        images = name_images(clusters.files, args.folder)
        facts = {
            'Network': args.model,
            'Assignment': 'balanced' if args.balanced else 'nearest prototype',
            'Image size': f'{args.size} px',
        }
        page = lay_out(f'Clusters of {args.folder}', facts, clusters, images)
        with new_folder(out) as folder:
            folder.mkdir()
            write_clusters(folder / 'clusters.csv', clusters, images)
            if args.link or args.copy:
                sort_images(folder, clusters, args.copy)
            write_page(folder / 'index.html', page)
    used = int((clusters.counts > 0).sum())
    print(
        f'{len(images.files):,} images; {used:,} of '
        f'{clusters.num_prototypes:,} prototypes have some'
    )
    for kind, found in measure_agreement(clusters, images).items():
        print(f'class folders and {kind}: {describe(found)}')
    print(f'{out / "clusters.csv"}\n{out / "index.html"}')


def main() -> None:
    """Cluster; a mistake of the user ends in one line."""
    run_command(cluster, parse_args())


if __name__ == '__main__':
    main()
