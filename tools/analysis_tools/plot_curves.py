"""Draw curves of one or several runs into an SVG file.

    plot_curves.py work_dirs/one work_dirs/other --out curves.svg
    plot_curves.py work_dirs/one --keys avgpool/knn20_top1

RUN is a work dir, or the scalars.json of one start. Where a run was resumed,
what was logged last counts.
"""

import argparse
from itertools import product
from pathlib import Path

from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import named_path, run_command
from swav_plugin.report.curves import Line, draw_lines
from swav_plugin.report.history import History, read_history, read_start


def plot(args: argparse.Namespace) -> None:
    """Draw a line for each run and key; the loss comes with ln K."""
    out = Path(named_path('--out', args.out))
    if out.suffix != '.svg':
        raise UsageError(f'--out {out}: give a file that ends in .svg')
    lines, levels = [], {}
    for run, key in product(args.runs, args.keys):
        path = Path(named_path('RUN', run))
        history, name = _read(path)
        found = history.measured | history.train
        if not found.get(key):
            known = ', '.join(sorted(found)) or 'no log'
            raise UsageError(f'{run} has no {key!r}; it has: {known}')
        lines.append(Line(f'{name} {key}', sorted(found[key].items())))
        if key == 'loss' and found.get('ln_K'):
            ln_k = max(found['ln_K'].items())[1]
            levels[f'ln K = {ln_k:.2f}'] = ln_k
    if args.legend and len(args.legend) != len(lines):
        raise UsageError(f'--legend: give {len(lines)} names, one per curve')
    for index, name in enumerate(args.legend or ()):
        lines[index] = lines[index]._replace(name=name)
    title = args.title or ', '.join(args.keys)
    write_atomic(out, draw_lines(title, lines, levels))
    print(out)


def _read(path: Path) -> tuple[History, str]:
    """Read the log of a run, or of one start of it; also name it.

    Raises:
        UsageError: There is nothing to read.
    """
    if not path.exists():
        raise UsageError(
            f'there is no {path}; give a work dir, or a scalars.json in it'
        )
    if path.is_dir():
        return read_history(path), path.resolve().name
    start = path.resolve().parent
    if start.name == 'vis_data':  # WORK_DIR/TIME/vis_data
        return read_start(path), start.parents[1].name
    return read_start(path), path.stem


def main(argv: list[str] | None = None) -> None:
    """Run the command; a mistake of the user ends in one line."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'runs',
        metavar='RUN',
        nargs='+',
        help='work dir, or the scalars.json of one start',
    )
    parser.add_argument(
        '--keys',
        metavar='KEY',
        nargs='+',
        default=['loss'],
        help='numbers of the log to draw (default: loss, with ln K)',
    )
    parser.add_argument(
        '--legend',
        metavar='NAME',
        nargs='+',
        help='a name for each curve: all keys of the first run, then those '
        'of the next (default: run and key)',
    )
    parser.add_argument(
        '--title', help='title of the picture (default: the keys)'
    )
    parser.add_argument(
        '--out',
        metavar='FILE',
        default='curves.svg',
        help='picture to write, .svg (default: curves.svg)',
    )
    run_command(plot, parser.parse_args(argv))


if __name__ == '__main__':
    main()
