"""Write features of images to a file.

    swav extract MODEL IMAGES OUT.npy

MODEL is the name of a model of the zoo, a checkpoint or a URL. IMAGES is a
folder, a file, a pattern ('photos/**/*.jpg') or a .txt list. OUT ends with
.npy, .safetensors or .parquet. The same command goes on where it was ended.
"""

import argparse
from pathlib import Path

from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.launch import named_path, run_command
from swav_plugin.inference.files import check_out
from swav_plugin.inference.images import file_of, list_images
from swav_plugin.inference.layers import LAYERS, check_layer

from .extraction import (
    INTERRUPTED,
    check_options,
    computed_parts,
    open_network,
    write_parts,
)
from .pretrained import add_network, mistakes


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_network(parser, 'IMAGES', 'the file to write')
    parser.add_argument(
        '--layer',
        choices=LAYERS,
        default='avgpool',
        metavar='LAYER',
        help=f'{", ".join(LAYERS)} (default: avgpool)',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace OUT if it exists'
    )
    return parser.parse_args(argv)


def extract(args: argparse.Namespace) -> None:
    """Compute what is missing, and write it.

    Raises:
        UsageError: An argument does not fit, or too many images cannot be
            read.
    """
    out = Path(named_path('OUT', args.out))
    check_options(args)
    with mistakes():  # before a model is downloaded
        samples = list_images(args.images)
        files = [file_of(sample) for sample in samples]
        check_out(out, files, args.overwrite, args.images)
    with mistakes():
        model = open_network(args)
        check_layer(model, args.layer)
    with (
        mistakes(),
        computed_parts(
            args, out, model, samples, args.layer, args.overwrite
        ) as parts,
    ):
        write_parts(parts, out, out)
        parts.remove()
    print(out)


def main() -> None:
    """Extract; a mistake of the user ends in one line."""
    run_command(extract, parse_args(), interrupted=INTERRUPTED)


if __name__ == '__main__':
    main()
