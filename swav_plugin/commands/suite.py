"""Run every benchmark whose data is present, and lay the numbers out.

    python tools/benchmarks/run_suite.py CHECKPOINT --root data --out DIR

Each benchmark is a run of tools/test.py or tools/train.py in a folder of its
own below DIR. The same command again continues where it stopped. Writes
results.json, results.md and report.html to DIR.
"""

import argparse
import signal
import sys
from pathlib import Path

from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.launch import named_path, run_command
from swav_plugin.suite.adapt import LEAST_SIZE, Options
from swav_plugin.suite.benchmarks import BENCHMARKS, known_datasets
from swav_plugin.suite.runs import run_suite


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    assert __doc__ is not None
    parser = Parser(
        description=__doc__.partition('\n')[0],
        epilog='Benchmarks: '
        + ', '.join(
            f'{name} ({benchmark.data.name})'
            for name, benchmark in BENCHMARKS.items()
        ),
    )
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        help='of a ResNet in any layout: a file, a URL, the name of a model '
        'of the zoo, or a work dir, whose newest one it is',
    )
    _add_data(parser)
    parser.add_argument('--out', required=True, help='folder for all results')
    _add_choice(parser, '--only', [*BENCHMARKS], 'run these benchmarks')
    _add_choice(parser, '--skip', [], 'do not run these')
    parser.add_argument(
        '--with-random',
        action='store_true',
        help='measure the same network at random initialization as well',
    )
    _add_changes(parser)
    args = parser.parse_args(argv)
    least = dict(gpus=1, epochs=1, iters=1, image_size=LEAST_SIZE)
    for name, minimum in least.items():
        given = getattr(args, name)
        if given is not None and given < minimum:
            parser.error(
                f'--{name.replace("_", "-")} {given}: must be at '
                f'least {minimum}'
            )
    return args


def _add_data(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the datasets are."""
    folders = dict.fromkeys(data.folder for data in known_datasets().values())
    parser.add_argument(
        '--root',
        default='data',
        help=f'folder of the datasets: {", ".join(folders)} (default: data)',
    )
    parser.add_argument(
        '--dataset',
        metavar='NAME=PATH',
        nargs='+',
        action='extend',
        default=[],
        help='a dataset that is elsewhere, or stands in for one: '
        'imagenet=PATH takes any folder with train/CLASS/ and val/CLASS/',
    )


def _add_changes(parser: argparse.ArgumentParser) -> None:
    """Add the options that change the runs."""
    parser.add_argument(
        '--gpus',
        type=int,
        default=1,
        help='GPUs, or CPU processes, of each run (default: 1)',
    )
    parser.add_argument(
        '--epochs',
        type=int,
        help='train this long, with schedules shortened in proportion; '
        'runs that are counted in iterations are left alone',
    )
    parser.add_argument(
        '--iters',
        type=int,
        help='the same for runs that are counted in iterations',
    )
    parser.add_argument(
        '--image-size',
        type=int,
        help='size of crops in px in place of 224, other sizes in '
        'proportion; features are then averaged over as many windows. '
        'Detection and segmentation keep their sizes (default for a dataset '
        'that stands in: as the checkpoint says if this package trained it)',
    )
    parser.add_argument(
        '--skip-unreadable',
        action='store_true',
        help='leave out images that cannot be read, and say so beside every '
        'number, instead of stopping; not for detection and segmentation',
    )
    parser.add_argument(
        '--cfg-options',
        metavar='[NAME:]KEY=VALUE',
        nargs='+',
        action='extend',
        default=[],
        help='change the configs of all benchmarks or, with its name before '
        'it, of one: knn:test_evaluator.0.k="[5, 20]"',
    )


def _add_choice(
    parser: argparse.ArgumentParser, flag: str, default: list[str], help: str
) -> None:
    """Add an option that takes names of benchmarks."""
    parser.add_argument(
        flag,
        metavar='NAME',
        nargs='+',
        choices=BENCHMARKS,
        default=default,
        help=help,
    )


def run(args: argparse.Namespace) -> int:
    """Run the suite as the command line says; return how many runs failed."""
    return run_suite(
        named_path('CHECKPOINT', args.checkpoint),
        Path(named_path('--out', args.out)),
        [
            name
            for name in BENCHMARKS
            if name in args.only and name not in args.skip
        ],
        Path(named_path('--root', args.root)),
        args.dataset,
        Options(
            gpus=args.gpus,
            epochs=args.epochs,
            iters=args.iters,
            image_size=args.image_size,
            cfg_options=args.cfg_options,
            skip_unreadable=args.skip_unreadable,
        ),
        args.with_random,
    )


def main() -> None:
    """Run the suite; a mistake of the user ends in one line."""
    # Slurm sends SIGTERM when the time is over: end the run under way.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run_command(
        lambda args: sys.exit(run(args) > 0),
        parse_args(),
        interrupted='stopped; the same command continues here',
    )


if __name__ == '__main__':
    main()
