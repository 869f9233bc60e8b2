"""Write one page with the images nearest to each prototype.

    prototype_gallery.py MODEL FOLDER gallery.html

`swav cluster` writes the same page with a table and sorted images, and keeps
features for the next command.
"""

import argparse

from swav_plugin.apis import assign_clusters
from swav_plugin.commands.pretrained import (
    add_model_and_images,
    check_numbers,
    check_out,
    mistakes,
    open_model,
)
from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.launch import run_command
from swav_plugin.inference.cluster_output import (
    lay_out,
    name_images,
    write_page,
)


def draw(args: argparse.Namespace) -> None:
    """Assign all images to prototypes, and write the page."""
    out = check_out(args.out, args.folder)
    check_numbers(args, groups=1, size=1)
    model = open_model(args)
    with mistakes():
        clusters = assign_clusters(
            model,
            args.folder,
            num_groups=args.groups,
            size=args.size,
            skip_unreadable=True,
        )
        images = name_images(clusters.files, args.folder)
        facts = {'Network': args.model}
        page = lay_out(f'Prototypes of {args.folder}', facts, clusters, images)
        write_page(out, page)
    print(out)


def main(argv: list[str] | None = None) -> None:
    """Run the command; a mistake of the user ends in one line."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_and_images(parser, 'FOLDER', 'HTML page to write')
    parser.add_argument(
        '--groups',
        type=int,
        metavar='G',
        help='merge prototypes with similar images into G groups',
    )
    run_command(draw, parser.parse_args(argv))


if __name__ == '__main__':
    main()
