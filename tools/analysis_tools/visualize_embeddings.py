"""Draw a map of images on which those with like embeddings are close.

    visualize_embeddings.py MODEL FOLDER map.html

By t-SNE, or by UMAP if it is installed. Points have the colors of the class
folders or, without classes, of the prototypes; of a network without neck and
prototypes the features are drawn.
"""

import argparse
from typing import Any

from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.commands.pretrained import (
    add_model_and_images,
    check_numbers,
    check_out,
    mistakes,
    open_model,
)
from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.launch import run_command
from swav_plugin.engine.wording import counted
from swav_plugin.inference.batches import settings_of
from swav_plugin.inference.clusters import assign_embeddings
from swav_plugin.models import SwAV
from swav_plugin.report.embedding_map import draw_map, to_html
from swav_plugin.report.samples import compute_features, pick, sample_files


def draw(args: argparse.Namespace) -> None:
    """Embed a sample of the images, and write the map."""
    out = check_out(args.out, args.folder)
    check_numbers(args, max_num_samples=1, size=1)
    model: Any = open_model(args)
    model.model_settings = settings_of(model, args.size)
    with mistakes():
        sample = sample_files(args.folder, args.max_num_samples)
        features = compute_features(model, sample)
    images = pick(sample.images, features.indices)
    vectors = features.embeddings
    kinds = images.classes or ['image'] * len(images.files)
    if vectors is None:  # a backbone alone
        vectors = features.pooled
    elif images.classes is None and isinstance(model, SwAV):
        clusters = assign_embeddings(model.head.cpu(), vectors, images.files)
        kinds = [f'prototype {i}' for i in clusters.prototype.tolist()]
    found = draw_map(vectors, kinds, images.names)
    num = counted(len(kinds), 'image')
    title = f'{found.method} of {num} of {args.folder}'
    write_atomic(out, to_html(title, found))
    print(out)


def main(argv: list[str] | None = None) -> None:
    """Run the command; a mistake of the user ends in one line."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_and_images(parser, 'FOLDER', 'HTML page to write')
    parser.add_argument(
        '--max-num-samples',
        type=int,
        metavar='N',
        default=2000,
        help='how many images at most, evenly spread (default: 2000)',
    )
    run_command(draw, parser.parse_args(argv))


if __name__ == '__main__':
    main()
