"""List the published SwAV weights, and download them.

    swav zoo list ['*_vissl']
    swav zoo info NAME|FILE|URL
    swav zoo download NAME [--out DIR]

Any command takes a name as CHECKPOINT, and downloads it by itself.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from swav_plugin.checkpoints.cache import hash_file
from swav_plugin.checkpoints.catalog import ZooModel, find_model, find_models
from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.checkpoints.first_seen import first_seen
from swav_plugin.compat.arguments import Parser


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description='List the published SwAV weights, and download them.',
        epilog='SWAV_MIRROR=https://HOST/FOLDER in the environment downloads '
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
        'name',
        metavar='NAME|FILE|URL',
        help='a model, or a file with weights, which is read; a URL that is '
        'not of the zoo is downloaded for that',
    )
    add = actions.add_parser('download', help='download a file, and check it')
    add.add_argument('name', metavar='NAME', help='the model')
    add.add_argument(
        '--out',
        metavar='DIR',
        help='folder to put the file into; another file of its name is not '
        "replaced (default: torch's cache)",
    )
    return parser.parse_args(argv)


def zoo(args: argparse.Namespace) -> None:
    """Do what the command line says.

    Raises:
        CheckpointError: There is no such model or file, or it cannot be had.
    """
    try:
        text = _answer(args)
    except (OSError, ValueError) as error:
        raise CheckpointError(str(error)) from None
    print(text)


def _answer(args: argparse.Namespace) -> str:
    """Return what to print."""
    if args.action == 'list':
        return list_zoo(args.pattern)
    if args.action == 'download':
        path = download(find_model(args.name), args.out)
        return f'{path}\nSHA-256 {hash_file(path)}'
    if Path(args.name).expanduser().is_dir():
        from swav_plugin.checkpoints.zoo import checkpoint_source

        args.name = checkpoint_source(args.name)
    model = _model_of(args.name)
    return describe_file(args.name) if model is None else describe_model(model)


def _model_of(name: str) -> ZooModel | None:
    """Return the model of a name or an address; None for any other file."""
    if Path(name).expanduser().is_file():
        return None
    if '://' in name:
        models = find_models().values()
        return next((each for each in models if each.url == name), None)
    return find_model(name)


def list_zoo(pattern: str) -> str:
    """Return a table of the models that match.

    Raises:
        CheckpointError: None does.
    """
    models = find_models(pattern).values()
    if not models:
        raise CheckpointError(
            f"no model of the zoo is called {pattern}; 'swav zoo list' shows "
            "all, and a pattern may have *, such as '*_vissl'"
        )
    rows = [['name', 'top-1', 'measured by', 'license', 'file']]
    for model in models:
        result = model.main_result
        top1 = str(result.get('Metrics', {}).get('Top 1 Accuracy', '-'))
        if result.get('Dataset', _IMAGENET) != _IMAGENET:
            top1 += f' ({result["Dataset"]})'
        rows.append(
            [
                model.name,
                top1,
                result.get('Measured By', '-').partition(',')[0],
                model.metadata['License'],
                _file(model),
            ]
        )
    return f'{_aligned(rows)}\n\n{_NOTE}'


_IMAGENET = 'ImageNet-1k'
_NOTE = (
    'top-1 on ImageNet, or the set in brackets, measured by others with their '
    "own code\nand protocol: 'swav zoo info NAME' states it. By hand: the "
    'file has to be fetched with\na browser. Not loadable: it can be '
    'downloaded, and not used here.'
)


def _file(model: ZooModel) -> str:
    """Say how to get a file, or how large it is if it is in the cache."""
    notes = []
    if model.is_by_hand:
        notes.append('by hand')
    if 'Not Loadable' in model.metadata:
        notes.append('not loadable')
    size = _size(model)
    if size is not None:
        notes.append(f'{size}{" in the cache" * model.path.is_file()}')
    return ', '.join(notes) or 'download'


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns are as wide as their longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = (
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths))
        for row in rows
    )
    return '\n'.join(line.rstrip() for line in lines)


def _size(model: ZooModel) -> str | None:
    """Return the size of a file that is or was in the cache."""
    size = first_seen(model.url).get('size')
    if model.path.is_file():
        size = model.path.stat().st_size
    return None if size is None else f'{size / 1e6:.1f} MB'


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
    mirror = seen.get('mirror')
    return (
        f'{seen["sha256"]} (not published; recorded on {seen["date"]}'
        f'{f" from {mirror}" if mirror else ""})'
    )


def describe_file(source: str) -> str:
    """Return what a file with weights holds, one fact in a line.

    Args:
        source: Its path or URL.
    """
    # torch takes seconds to import, and only this and `download` need it.
    from swav_plugin.checkpoints import Checkpoint, describe_checkpoint

    checkpoint = Checkpoint(source)
    path = checkpoint.path
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
    weights = checkpoint.weights
    count = sum(value.numel() for value in weights.values())
    facts.append(
        ('Tensors', f'{len(weights)}, {count / 1e6:.2f} million numbers')
    )
    found = describe_checkpoint(checkpoint)
    facts.append(('Holds', str(found)))
    settings = checkpoint.settings
    images = 'not said; taken as in SwAV on ImageNet, where no config is given'
    facts.append(('Images', str(settings) if settings else images))
    if found.advice:
        facts.append(('What to do', found.advice))
    return _aligned([(f'{key}:', value) for key, value in facts])


def _is_of(sha256: str, model: ZooModel) -> bool:
    """Return True if this is the hash of a model, as far as that is known."""
    known = model.published_sha256 or first_seen(model.url).get('sha256', '')
    return bool(known) and sha256.startswith(known)


def download(model: ZooModel, out: str | None) -> Path:
    """Download a model; from the cache, if it is there, into a folder.

    Raises:
        OSError, ValueError: As `fetch_model`.
    """
    from swav_plugin.checkpoints.zoo import fetch_model

    return fetch_model(model, None if out is None else Path(out).expanduser())


def main() -> None:
    """Run it; a mistake of the user ends in one line."""
    args = parse_args()
    try:
        is_light = args.action == 'list' or (
            args.action == 'info' and _model_of(args.name) is not None
        )
    except (OSError, ValueError):
        is_light = True
    if is_light:
        try:
            zoo(args)
        except CheckpointError as error:
            print(f'{Path(sys.argv[0]).name}: error: {error}', file=sys.stderr)
            sys.exit(2)
        return
    # torch again.
    from swav_plugin.engine.launch import run_command

    run_command(zoo, args)


if __name__ == '__main__':
    main()
