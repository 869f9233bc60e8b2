"""Write the report of a training run: one page, which needs no other file.

    swav report WORK_DIR
    swav report WORK_DIR --images FOLDER --out my_report.html

What was trained, curves, health, benchmarks beside published numbers, and what
the newest checkpoint does with a few images. `swav train` writes it at the end
of a run; this command does so at any time.
"""

import argparse
from pathlib import Path

from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import find_weights, named_path, run_command
from swav_plugin.inference.files import check_folder_of
from swav_plugin.inference.images import list_images
from swav_plugin.report.learned import MAX_IMAGES, Images
from swav_plugin.report.page import REPORT, write_report

from .pretrained import check_numbers, mistakes


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'work_dir', metavar='WORK_DIR', help='what swav train has written'
    )
    parser.add_argument(
        '--checkpoint',
        metavar='CHECKPOINT',
        help='a file, a URL or the name of a model of the zoo (default: the '
        'newest checkpoint in WORK_DIR)',
    )
    parser.add_argument(
        '--images',
        metavar='FOLDER',
        help='show the checkpoint on these; also a pattern such as '
        '"a/**/*.jpg", or a .txt file with a path on each line (default: the '
        'training images)',
    )
    parser.add_argument(
        '--max-images',
        metavar='N',
        type=int,
        default=MAX_IMAGES,
        help=f'how many of them, evenly spread (default: {MAX_IMAGES})',
    )
    parser.add_argument(
        '--no-images',
        action='store_true',
        help='leave out all pictures: the page then takes a second',
    )
    parser.add_argument(
        '--out',
        metavar='FILE',
        help=f'the page, .html (default: {REPORT} in WORK_DIR)',
    )
    return parser.parse_args(argv)


def report(args: argparse.Namespace) -> None:
    """Check the arguments, write the page and tell.

    Raises:
        UsageError: They cannot work.
    """
    work_dir = Path(named_path('WORK_DIR', args.work_dir))
    if not work_dir.is_dir():
        raise UsageError(f'there is no folder {work_dir}')
    if not any(work_dir.glob('*/vis_data')) and args.checkpoint is None:
        raise UsageError(
            f'{work_dir} has no log of a run; give the --work-dir of swav '
            'train, or name a checkpoint: --checkpoint'
        )
    check_numbers(args, max_images=1)
    out = _check_out(args.out, work_dir)
    images = None
    if not args.no_images:
        checkpoint = args.checkpoint and find_weights(args.checkpoint)
        if args.images is not None:
            with mistakes():
                list_images(args.images)
        images = Images(checkpoint, args.images, most=args.max_images)
    with mistakes():  # such as a full disk
        path, missing = write_report(work_dir, out, images)
    print(path)
    for each in missing:
        print(f'  without {each.part}: {each.reason}')


def _check_out(out: str | None, work_dir: Path) -> Path:
    """Return where the page goes; what is no page is not replaced.

    Raises:
        UsageError: It cannot be written there.
    """
    path = work_dir / REPORT if out is None else Path(named_path('--out', out))
    if path.suffix.lower() not in ('.html', '.htm'):
        raise UsageError(f'--out {path}: give a name that ends with .html')
    if path.is_dir():
        raise UsageError(f'{path} is a folder; give another name')
    check_folder_of(path)
    return path


def main() -> None:
    """Report; a mistake of the user ends in one line."""
    run_command(report, parse_args())


if __name__ == '__main__':
    main()
