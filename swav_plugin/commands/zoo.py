"""List the published SwAV weights, and download them.

    swav zoo list ['*_vissl']
    swav zoo info NAME|FILE
    swav zoo download NAME [--out DIR]

Any command takes a name as CHECKPOINT, and downloads it by itself.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from swav_plugin.checkpoints import Checkpoint
from swav_plugin.checkpoints.atomic import open_atomic
from swav_plugin.checkpoints.download import hash_file
from swav_plugin.checkpoints.first_seen import first_seen
from swav_plugin.checkpoints.zoo import (
    MIRROR,
    ZooModel,
    find_model,
    find_models,
)
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import run_command
from swav_plugin.models.pretrained import describe_weights


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='List the published SwAV weights, and download them.',
        epilog=f'{MIRROR}=https://HOST/FOLDER in the environment downloads '
        'from a mirror, on which each file has the path of its original.',
    )
    actions = parser.add_subparsers(
        dest='action', metavar='ACTION', required=True
    )
    add = actions.add_parser('list', help='list the models')
    add.add_argument(
        'pattern',
        metavar='PATTERN',
        nargs='?',
        default='*',
        help="which names, such as '*_vissl' (default: all)",
    )
    add = actions.add_parser('info', help='say all that is known of one')
    add.add_argument(
        'name', metavar='NAME|FILE', help='a model, or a file with weights'
    )
    add = actions.add_parser('download', help='download a file, and check it')
    add.add_argument('name', metavar='NAME', help='the model')
    add.add_argument(
        '--out', metavar='DIR', help="folder (default: in torch's cache)"
    )
    return parser.parse_args(argv)


def zoo(args: argparse.Namespace) -> None:
    """Do what the command line says.

    Raises:
        UsageError: There is no such model or file, or it cannot be had.
    """
    try:
        if args.action == 'list':
            print(list_zoo(args.pattern))
        elif args.action == 'info' and Path(args.name).is_file():
            print(describe_file(Path(args.name)))
        elif args.action == 'info':
            print(describe_model(find_model(args.name)))
        else:
            path = download(find_model(args.name), args.out)
            print(f'{path}\nSHA-256 {hash_file(path)}')
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None


def list_zoo(pattern: str) -> str:
    """Return a table of the models that match.

    Raises:
        UsageError: None does.
    """
    models = find_models(pattern).values()
    if not models:
        raise UsageError(
            f"no model of the zoo is called {pattern}; 'swav zoo list' shows "
            "all, and a pattern may have *, such as '*_vissl'"
        )
    rows = [['name', 'top-1', 'measured by', 'license', 'size']]
    for model in models:
        result = model.main_result
        top1 = result.get('Metrics', {}).get('Top 1 Accuracy', '-')
        rows.append(
            [
                model.name,
                str(top1),
                result.get('Measured By', '-').partition(',')[0],
                model.metadata['License'],
                _size(model),
            ]
        )
    return f'{_aligned(rows)}\n\n{_NOTE}'


_NOTE = (
    'top-1 on ImageNet, measured by others with their own code and protocol:\n'
    "'swav zoo info NAME' states it. Sizes are known after a download."
)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns are as wide as their longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = (
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths))
        for row in rows
    )
    return '\n'.join(line.rstrip() for line in lines)


def _size(model: ZooModel) -> str:
    """Return the size of a file that is or was in the cache; '-' else."""
    size = first_seen(model.url).get('size')
    if model.path.is_file():
        size = model.path.stat().st_size
    return '-' if size is None else f'{size / 1e6:.1f} MB'


def describe_model(model: ZooModel) -> str:
    """Return all that is known of a model, one fact in a line."""
    facts: list[tuple[str, object]] = [('Name', model.name)]
    for key in ('Weights', 'Config'):
        if model.entry.get(key):
            facts.append((key, model.entry[key]))
    facts += model.metadata.items()
    for result in model.entry.get('Results') or []:
        metrics = ', '.join(
            f'{key} {value}' for key, value in result['Metrics'].items()
        )
        facts.append(
            (
                'Result',
                f'{metrics} on {result["Dataset"]} ({result["Protocol"]}; '
                f'measured by {result["Measured By"]})',
            )
        )
    if model.url:
        facts.append(('In the cache', _cache(model)))
        facts.append(('SHA-256', _sha256(model)))
    return _aligned([(f'{key}:', str(value)) for key, value in facts])


def _cache(model: ZooModel) -> str:
    """Say where the file is, or would be."""
    if not model.path.is_file():
        return f'no; it would be {model.path}'
    return f'{model.path} ({_size(model)})'


def _sha256(model: ZooModel) -> str:
    """Say which hash is expected, and how that is known."""
    if model.published_sha256:
        return f'{model.published_sha256} (published)'
    seen = first_seen(model.url)
    if not seen:
        return 'not published; the first download records it'
    return f'{seen["sha256"]} (not published; recorded on {seen["date"]})'


def describe_file(path: Path) -> str:
    """Return what a file with weights holds, one fact in a line."""
    checkpoint = Checkpoint(path)
    weights = checkpoint.weights
    facts = [
        ('File', str(path)),
        ('Size', f'{path.stat().st_size / 1e6:.1f} MB'),
        ('SHA-256', checkpoint.sha256),
    ]
    names = [
        model.name
        for model in find_models().values()
        if _is_of(checkpoint.sha256, model)
    ]
    if names:
        facts.append(('Same file as', ', '.join(names)))
    facts.append(('Tensors', f'{len(weights)}, {_count(weights)}'))
    facts += describe_weights(weights).items()
    return _aligned([(f'{key}:', value) for key, value in facts])


def _is_of(sha256: str, model: ZooModel) -> bool:
    """Return True if this is the hash of a model, as far as that is known."""
    known = model.published_sha256 or first_seen(model.url).get('sha256', '')
    return bool(known) and sha256.startswith(known)


def _count(weights: dict[str, Tensor]) -> str:
    """Return how many numbers there are."""
    count = sum(value.numel() for value in weights.values())
    return f'{count / 1e6:.2f} million numbers'


def download(model: ZooModel, out: str | None) -> Path:
    """Download a model; from the cache, if it is there, into a folder.

    Raises:
        OSError, ValueError: As `ZooModel.fetch`.
    """
    if out is None:
        return model.fetch()
    folder = Path(out).expanduser()
    if not model.url or not model.path.is_file():
        return model.fetch(folder)
    path = model.fetch()
    target = folder / path.name
    with open(path, 'rb') as source, open_atomic(target) as copy:
        shutil.copyfileobj(source, copy)
    return target


def main() -> None:
    """Run it; a mistake of the user ends in one line."""
    run_command(zoo, parse_args())


if __name__ == '__main__':
    main()
