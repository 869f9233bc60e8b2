"""Define the arguments that all commands share, and run a command.

Configs are read in `config`, what was built from them is checked in `checks`.
"""

import argparse
import copy
import gc
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_rank

from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.checkpoints.newest import find_checkpoint
from swav_plugin.checkpoints.zoo import checkpoint_name, checkpoint_path
from swav_plugin.compat.arguments import Parser
from swav_plugin.compat.moved import moved_names

from . import processes
from .agreement import Preempted, kill_workers
from .errors import UsageError, mistakes_in_one_line
from .screen import quiet_dependencies

__all__ = [
    'UsageError',
    'add_common_arguments',
    'config_parser',
    'find_checkpoint',
    'find_weights',
    'mistakes_in_one_line',
    'named_path',
    'run_command',
    'set_common',
]

# What gloo and NCCL say when another process is gone, and gloo of which. The
# rest of their messages is about their own source.
_LOST_CONNECTION = re.compile(
    '(Connection (closed|reset) by peer|remote process exited|Broken pipe)'
    r'( \[\S+\]:\d+)?'
)

__getattr__ = moved_names(__name__)


CONFIG_HELP = (
    'config file (.py), or the name of one that comes with swav_plugin, such '
    'as {}'
)


def add_common_arguments(
    parser: argparse.ArgumentParser,
    results: str,
    data: str,
    example: str,
    folder_by_default: str = 'work_dirs/<name of the config>',
    gpus_by_default: str = '1',
) -> None:
    """Add the options that all commands with a config have.

    Args:
        parser: The parser of the command.
        results: Name of what the work dir holds besides logs.
        data: What --data takes.
        example: An example of options for ``--cfg-options``.
        folder_by_default: The work dir if neither --work-dir nor the config
            says.
        gpus_by_default: How many it takes if --gpus does not say.
    """
    parser.add_argument(
        '--work-dir',
        metavar='DIR',
        help=f'folder for logs and {results} (default: work_dir of the '
        f'config, or {folder_by_default})',
    )
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help=f'where the data of the config is: {data}',
    )
    parser.add_argument(
        '--gpus',
        type=int,
        metavar='N',
        help='start N processes, each on a GPU of this machine, or on the '
        f'CPU if it has none (default: {gpus_by_default})',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes (default: none = a single one)',
    )
    _add_cfg_options(parser, example)
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        help='set by older launchers of torch',
    )


def config_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser for a tool that looks at a config, and runs nothing."""
    parser = Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'config',
        metavar='CONFIG',
        help=CONFIG_HELP.format(
            'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96'
        ),
    )
    _add_cfg_options(parser, 'model.head.num_prototypes=300')
    return parser


def _add_cfg_options(parser: argparse.ArgumentParser, example: str) -> None:
    """Add the option that changes a config."""
    parser.add_argument(
        '--cfg-options',
        metavar='KEY=VALUE',
        nargs='+',
        action='extend',
        default=[],
        help=f'change the config: {example} "a.b=[2, 6]"',
    )


def set_common(cfg: Config, args: argparse.Namespace) -> None:
    """Set the work dir and the launcher from the command line.

    Raises:
        UsageError: As `processes.set_launcher`.
    """
    if args.work_dir is not None:
        cfg.work_dir = named_path('--work-dir', args.work_dir)
    elif cfg.get('work_dir') is None:
        folders = [Path(args.config).stem]
        if getattr(args, 'pretrained', None) is not None:
            # Benchmarks of two checkpoints do not overwrite each other.
            folders.append(checkpoint_name(args.pretrained).replace('/', '-'))
        cfg.work_dir = os.path.join('work_dirs', *folders)
    if args.local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    processes.set_launcher(cfg, args.launcher)


def start_on_gpus(
    args: argparse.Namespace,
    command: str,
    check: Callable[[argparse.Namespace], object],
    arguments: Sequence[str],
) -> None:
    """Start the processes that --gpus asks for; go on if that is this one.

    Args:
        args: The command line.
        command: 'train' or 'test'.
        check: Finds the mistakes that every process would report.
        arguments: What each process gets.

    Raises:
        UsageError: They cannot be started.
    """
    gpus = args.gpus
    if gpus is None or gpus == 1:
        return
    if gpus < 0:
        raise UsageError(f'--gpus {gpus}: give 1 or more, or 0 for the CPU')
    if gpus == 0:
        if get_device() != 'cpu':
            raise UsageError(
                '--gpus 0: this machine has a GPU; to compute on the CPU '
                'put CUDA_VISIBLE_DEVICES= in front of the command'
            )
        return
    if args.launcher != 'none' or processes.find_launcher() != 'none':
        raise UsageError(
            f'--gpus {gpus} starts the processes itself; leave it out where '
            'a launcher has started them'
        )
    processes.check_gpus(gpus)
    check(copy.copy(args))
    processes.start_ranks(gpus, command, arguments)


def pass_on(args: argparse.Namespace, *names: str) -> list[str]:
    """Return options of the command line, where they are given.

    >>> args = argparse.Namespace(amp=True, data='a b', resume=None)
    >>> pass_on(args, 'amp', 'data', 'resume')
    ['--amp', '--data=a b']
    """
    words = []
    for name in names:
        option, value = f'--{name.replace("_", "-")}', getattr(args, name)
        if value is True:
            words.append(option)
        elif isinstance(value, list):
            words += [option, *value] if value else []
        elif value:
            words.append(f'{option}={value}')
    return words


def named_path(option: str, path: str) -> str:
    """Return the path that an option gives; ~ is the home of a user.

    Raises:
        UsageError: The name is empty, or not UTF-8, as configs are.
    """
    if not path:
        raise UsageError(f'{option} is empty; give a path')
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f'{option} {path!a}: the name is not UTF-8, as configs are; '
            'rename it, or give a link to it'
        ) from None
    return os.path.expanduser(path)


def run_command(
    run: Callable[[argparse.Namespace], None],
    args: argparse.Namespace,
    interrupted: str = 'interrupted',
) -> None:
    """Run a command; a mistake of the user ends in one line.

    Args:
        run: The command.
        args: Its arguments.
        interrupted: What to say after Ctrl-C.
    """
    if not gc.get_freeze_count():
        # What was imported stays. mmengine searches all of it for garbage
        # for each dataset, and workers would get copies of its pages.
        gc.freeze()
    processes.end_children_with_us()
    try:
        processes.end_with_launcher()
        with quiet_dependencies():
            run(args)
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        sys.exit(130)
    except Preempted as stop:
        print(stop.message, file=sys.stderr)
        kill_workers()  # torch would wait for each of them
        processes.end_processes(stop.CODE)
        sys.exit(stop.CODE)
    except (UsageError, CheckpointError) as error:
        _end(str(error), 2)
    except RuntimeError as error:
        lost = _LOST_CONNECTION.search(str(error))
        if lost is None:
            raise
        _end(
            f'rank {get_rank()} lost the connection to another process, which '
            f'has probably exited; its output says why ({lost.group()})',
            1,
        )


def _end(message: str, code: int) -> NoReturn:
    """End with a line, which torchrun's summary repeats."""
    _tell_torchrun(message)
    print(f'{Path(sys.argv[0]).name}: error: {message}', file=sys.stderr)
    sys.exit(code)


def _tell_torchrun(message: str) -> None:
    """Let the summary of torchrun show a message in place of a traceback.

    It reads a file that it names to each process, as @record writes it.
    """
    path = os.environ.get('TORCHELASTIC_ERROR_FILE')
    if path:
        extra = dict(timestamp=str(int(time.time())))
        content = dict(message=dict(message=message, extraInfo=extra))
        Path(path).write_text(json.dumps(content), encoding='utf-8')


def find_weights(source: str) -> str:
    """Return the file of weights given as a path, a URL or a zoo name.

    Raises:
        UsageError: There is none, or it cannot be downloaded.
    """
    try:
        return str(checkpoint_path(source))
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
