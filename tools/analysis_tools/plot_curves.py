"""Draw curves of one or several runs into an SVG file.

    plot_curves.py work_dirs/one work_dirs/other --out curves.svg
    plot_curves.py work_dirs/one --keys avgpool/knn20_top1

RUN is a work dir or a scalars.json in it. Where a run was resumed, what was
logged last counts.
"""

import argparse
from itertools import product
from pathlib import Path

from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import named_path, run_command
from swav_plugin.report.curves import Line, draw_lines
from swav_plugin.report.history import read_history


def plot(args: argparse.Namespace) -> None:
    """Draw a line for each run and key; the loss comes with ln K."""
    out = Path(named_path('--out', args.out))
    if out.suffix != '.svg':
        raise UsageError(f'--out {out}: give a file that ends in .svg')
    lines, levels = [], {}
    for run, key in product(args.runs, args.keys):
        path = Path(run)
        folder = path.parents[2] if path.suffix == '.json' else path
        history = read_history(folder)
        found = history.measured | history.train
        if not found.get(key):
            known = ', '.join(sorted(found)) or 'no log'
            raise UsageError(f'{run} has no {key!r}; it has: {known}')
        lines.append(Line(f'{folder.name} {key}', sorted(found[key].items())))
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


def main(argv: list[str] | None = None) -> None:
    """Run the command; a mistake of the user ends in one line."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('runs', metavar='RUN', nargs='+')
    parser.add_argument('--keys', metavar='KEY', nargs='+', default=['loss'])
    parser.add_argument('--legend', metavar='NAME', nargs='+')
    parser.add_argument('--title')
    parser.add_argument('--out', metavar='FILE', default='curves.svg')
    run_command(plot, parser.parse_args(argv))


if __name__ == '__main__':
    main()
