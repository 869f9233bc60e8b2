"""Draw a map of images on which those with like embeddings are close.

    visualize_embeddings.py MODEL FOLDER map.html

By t-SNE, or by UMAP if it is installed. Points have the colors of the class
folders or, without classes, of the prototypes; of a network without neck and
prototypes the features are drawn.
"""

import argparse
from html import escape

from swav_plugin.commands.pretrained import (
    add_model_and_images,
    check_numbers,
    check_out,
    mistakes,
    open_model,
)
from swav_plugin.datasets.browse import spread_evenly
from swav_plugin.engine.launch import run_command
from swav_plugin.inference.cluster_output import name_images
from swav_plugin.inference.clusters import assign_embeddings
from swav_plugin.inference.features import extract_features
from swav_plugin.inference.images import list_images
from swav_plugin.models import SwAV
from swav_plugin.report.embedding_map import draw_map


def draw(args: argparse.Namespace) -> None:
    """Embed a sample of the images, and write the map."""
    out = check_out(args.out, args.folder)
    check_numbers(args, max_num_samples=1, size=1)
    model = open_model(args)
    layer = 'embedding' if isinstance(model, SwAV) else 'avgpool'
    with mistakes():
        samples = list_images(args.folder)
        chosen = spread_evenly(len(samples), args.max_num_samples)
        vectors, files = extract_features(
            model,
            [samples[i]['img_path'] for i in chosen],
            layer=layer,
            size=args.size,
            skip_unreadable=True,
        )
    images = name_images(files, args.folder)
    kinds = images.classes or ['images'] * len(files)
    if images.classes is None and isinstance(model, SwAV):
        numbers = assign_embeddings(model.head, vectors, files).prototype
        kinds = [f'prototype {number}' for number in numbers.tolist()]
    found = draw_map(vectors, kinds, images.names)
    legend = ''.join(
        f'<li style="color: {color}">{escape(name)} ({count:,})</li>'
        for name, (color, count) in found.legend.items()
    )
    title = f'{found.method} of {len(files):,} images'
    out.write_text(
        f'<!doctype html><meta charset="utf-8"><title>{title}</title>'
        f'<h1>{title}</h1><ul>{legend}</ul>{found.picture}\n',
        encoding='utf-8',
        errors='replace',
    )
    print(out)


def main(argv: list[str] | None = None) -> None:
    """Run the command; a mistake of the user ends in one line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_and_images(parser, 'FOLDER', 'HTML page to write')
    parser.add_argument(
        '--max-num-samples', type=int, metavar='N', default=2000
    )
    run_command(draw, parser.parse_args(argv))


if __name__ == '__main__':
    main()
