"""What all commands share: their arguments, and how they run.

Configs are read in `config`, what was built from them is checked in `checks`.
"""

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.checkpoints.newest import find_checkpoint
from swav_plugin.checkpoints.zoo import checkpoint_name, checkpoint_path

from . import processes
from .errors import UsageError, mistakes_in_one_line
from .screen import quiet_dependencies

__all__ = [
    'UsageError',
    'add_common_arguments',
    'find_checkpoint',
    'find_weights',
    'mistakes_in_one_line',
    'run_command',
    'set_common',
]

# Names that were here in version 0.1, and their modules now. They go in the
# next version.
_MOVED = dict(
    config='load_config parse_options check_keys set_mixed_precision',
    checks='check_batches check_weights check_resume check_load_from '
    'check_labels',
    processes='set_launcher init_cpu_group prepare_processes end_processes '
    'leave_cpu_group leave_cores_to_workers count_cores',
)


def __getattr__(name: str) -> Any:
    """Return what moved to another module, with a warning."""
    for module, names in _MOVED.items():
        if name in names.split():
            new = f'{__package__}.{module}'
            warnings.warn(
                f'{__name__}.{name} is now {new}.{name}; the next '
                'version will not have the old name.',
                DeprecationWarning,
                stacklevel=2,
            )
            return getattr(importlib.import_module(new), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def add_common_arguments(
    parser: argparse.ArgumentParser, results: str, example: str
) -> None:
    """Add the options that all commands with a config have.

    Args:
        parser: The command's.
        results: What goes into the work dir beside logs.
        example: What ``--cfg-options`` may be followed by.
    """
    parser.add_argument(
        '--work-dir',
        metavar='DIR',
        help=f'folder for logs and {results} (default: work_dir of the '
        'config, or work_dirs/<name of the config>, followed by the name of '
        'the weights after --pretrained)',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes (default: none = a single one)',
    )
    parser.add_argument(
        '--cfg-options',
        metavar='KEY=VALUE',
        nargs='+',
        action='extend',
        default=[],
        help=f'change the config: {example} "a.b=[2, 6]"',
    )
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        help='set by older launchers of torch',
    )


def set_common(cfg: Config, args: argparse.Namespace) -> None:
    """Set the work dir and the launcher from the command line.

    Raises:
        UsageError: As `processes.set_launcher`.
    """
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        folders = [Path(args.config).stem]
        if getattr(args, 'pretrained', None) is not None:
            # Benchmarks of two checkpoints do not overwrite each other.
            folders.append(checkpoint_name(args.pretrained).replace('/', '-'))
        cfg.work_dir = os.path.join('work_dirs', *folders)
    if args.local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    processes.set_launcher(cfg, args.launcher)


def run_command(
    run: Callable[[argparse.Namespace], None], args: argparse.Namespace
) -> None:
    """Run a command; a mistake of the user ends in one line."""
    processes.end_children_with_us()
    try:
        with quiet_dependencies():
            run(args)
    except (UsageError, CheckpointError) as error:
        if getattr(args, 'launcher', 'none') == 'pytorch':
            raise  # for torchrun's summary, see @record
        print(f'{Path(sys.argv[0]).name}: error: {error}', file=sys.stderr)
        sys.exit(2)


def find_weights(source: str) -> str:
    """Return the file of weights given as a path, a URL or a zoo name.

    Raises:
        UsageError: There is none, or it cannot be downloaded.
    """
    try:
        return str(checkpoint_path(source))
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
