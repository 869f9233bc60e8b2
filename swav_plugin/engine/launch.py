"""From the arguments of a command to a config that mmengine's Runner runs.

Used by the commands in ``tools/``. What a user is likely to get wrong is
looked for here, before anything slow starts.
"""

import argparse
import ctypes
import datetime
import difflib
import functools
import inspect
import logging
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from swav_plugin.checkpoints import (
    checkpoint_name,
    checkpoint_path,
    read_checkpoint,
)
from swav_plugin.checkpoints.safe_load import load_from_local
from swav_plugin.compat.stack import downstream_hint

from .hooks.pretrained import PretrainedHook

# What Runner, its loops and the config reader look up in a config.
_RUNNER_KEYS = frozenset(inspect.signature(Runner.__init__).parameters) - {
    'self',
    'cfg',
} | {
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
}

# Dicts in which mmengine overlooks a key that it does not know. All others
# end up as arguments of a class, which refuses such a key.
_KNOWN_KEYS: dict[str, Collection[str]] = {
    '': _RUNNER_KEYS,
    'auto_scale_lr': ('enable', 'base_batch_size'),
    'default_hooks': (
        'runtime_info',
        'timer',
        'sampler_seed',
        'logger',
        'param_scheduler',
        'checkpoint',
    ),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'optim_wrapper.paramwise_cfg': (
        'custom_keys',
        'bias_lr_mult',
        'bias_decay_mult',
        'norm_decay_mult',
        'dwconv_decay_mult',
        'flat_decay_mult',
        'bypass_duplicate',
        'dcn_offset_lr_mult',
    ),
}


# Of these, the ones in which nobody keeps entries of his own.
_CLOSED = ('auto_scale_lr', 'env_cfg', 'optim_wrapper.paramwise_cfg')

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


class UsageError(ValueError):
    """A mistake of the user's; its message is all that need be printed."""


def add_common_arguments(
    parser: argparse.ArgumentParser, results: str, example: str
) -> None:
    """Add the options that all commands of ``tools/`` have.

    Args:
        parser: Of the command.
        results: What goes into the work dir beside logs.
        example: Of ``--cfg-options``.
    """
    parser.add_argument(
        '--work-dir',
        metavar='D',
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
        metavar='K=V',
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
    """Let the work dir and the launcher be those of the command line.

    Raises:
        UsageError: As `set_launcher`.
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
    set_launcher(cfg, args.launcher)


def run_command(
    run: Callable[[argparse.Namespace], None], args: argparse.Namespace
) -> None:
    """Run a command; a mistake of the user's ends in one line."""
    _end_children_with_us()
    try:
        run(args)
    except UsageError as error:
        if args.launcher == 'pytorch':
            raise  # for torchrun's summary, see @record
        print(f'{Path(sys.argv[0]).name}: error: {error}', file=sys.stderr)
        sys.exit(2)


@functools.cache
def _end_children_with_us() -> None:
    """Let data workers end when this process is killed, on Linux.

    One that waits to hand over masks, which are too large for a pipe, never
    looks whether it was left alone. No handler of SIGTERM instead: while a
    child is being forked Python forgets the signal, and mmdet's metric of VOC
    would wait for that child for ever. To the kernel the parent is a thread:
    nothing here may fork from one that ends before its child.
    """
    if sys.platform == 'linux':
        libc = ctypes.CDLL(None)
        os.register_at_fork(
            after_in_child=functools.partial(
                libc.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL
            )
        )


@contextmanager
def mistakes_in_one_line(cfg: Config) -> Iterator[None]:
    """Take errors of building what a config describes for the user's.

    With log_level='DEBUG' in the config they keep their traceback.

    Raises:
        UsageError: In place of a ValueError, OSError or ImportError, or an
            AssertionError that says something, as mmseg's do.
    """
    try:
        yield
    except (ValueError, OSError, ImportError, AssertionError) as error:
        if (
            isinstance(error, UsageError)
            or not str(error)
            or cfg.get('log_level') == 'DEBUG'
        ):
            raise
        raise UsageError(f'{error} (log_level=DEBUG shows where)') from error


def load_config(path: str, options: Sequence[str] = ()) -> Config:
    """Read a config, change it as asked and look for misspelt keys.

    Args:
        path: The config file.
        options: 'KEY=VALUE' each, as after ``--cfg-options``.

    Raises:
        UsageError: The file or one that it builds on is missing or can not
            be read, an option has no place in the config, or a key looks
            misspelt.
    """
    if not Path(path).is_file():
        raise UsageError(_missing_config(path))
    if Path(path).suffix not in ('.py', '.yml', '.yaml', '.json'):
        raise UsageError(
            f'{path} is no config, which ends in .py; are the arguments in '
            'the right order?'
        )
    try:
        cfg = Config.fromfile(path)
    except FileNotFoundError as error:
        raise UsageError(f'{path} builds on a missing config: {error}')
    except (AssertionError, ValueError) as error:
        raise UsageError(f'{path} can not be read: {error!r}') from error
    except ModuleNotFoundError as error:
        raise UsageError(
            f'{path} builds on a package that is not here: {error}; for mmdet '
            f'and mmseg: {downstream_hint()}'
        )
    changes = parse_options(options)
    for key in changes:
        _check_option(cfg, key)
    cfg.merge_from_dict(changes)
    check_keys(cfg)
    cfg.setdefault('default_scope', 'swav_plugin')
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name) or {}
        if loader.get('num_workers') == 0:
            # Without workers torch refuses these, which are about them.
            loader.pop('persistent_workers', None)
            loader.pop('prefetch_factor', None)
    return cfg


def _missing_config(path: str) -> str:
    """Say that there is no config `path`, and which ones are named alike."""
    message = f'there is no config {path}'
    package = Path(__file__).resolve().parents[1]
    named = {
        config.stem: config
        for folder in (package / '.mim/configs', package.parent / 'configs')
        for config in folder.rglob('*.py')
    }
    close = difflib.get_close_matches(Path(path).stem, named, cutoff=0.7)
    if close:
        names = ', '.join(os.path.relpath(named[stem]) for stem in close)
        message += f'; did you mean {names}?'
    return message


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """Turn 'KEY=VALUE' strings into keys and values, as mmengine does.

    Other than mmengine's, a value without commas keeps its spaces.

    Raises:
        UsageError: One has no '='.

    >>> parse_options(['a.b=1e-3', 'c=[2, 6]', 'd=/my photos'])
    {'a.b': 0.001, 'c': [2, 6], 'd': '/my photos'}
    """
    parsed = {}
    for option in options:
        key, equals, value = option.partition('=')
        if not key or not equals:
            raise UsageError(
                f"--cfg-options takes KEY=VALUE, but got '{option}'"
            )
        is_text = ' ' in value and ',' not in value
        parsed[key] = (
            value.strip('\'"')
            if is_text
            else DictAction._parse_iterable(value)
        )
    return parsed


def _check_option(cfg: Config, key: str) -> None:
    """Raise where `key` ('a.b.0.c') would change nothing or cannot be set."""
    node: Any = cfg._cfg_dict
    *_, name = parts = key.split('.')
    for depth, part in enumerate(parts):
        above = '.'.join(parts[:depth])
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                raise UsageError(
                    f"--cfg-options {key}: '{above}' has {len(node)} "
                    f"entries, numbered from 0; there is no '{part}'"
                )
            node = node[int(part)]
        elif not isinstance(node, Mapping):
            raise UsageError(
                f"--cfg-options {key}: '{above}' is {node!r} and has no "
                f"'{part}'; give it as a whole"
            )
        elif part in node:
            node = node[part]
        else:
            known = {*node} | (_RUNNER_KEYS if depth == 0 else set())
            match = _near_miss(part, known)
            if match is not None:
                raise UsageError(
                    f"--cfg-options {key}: unknown key '{part}'; "
                    f"did you mean '{match}'?"
                )
            if depth == 0 and part not in known:
                raise UsageError(
                    f"--cfg-options {key}: the config has no '{part}'"
                )
            break
    if len(parts) == 1 and name not in _RUNNER_KEYS:
        places = list(_places(cfg._cfg_dict, name))
        if places:
            raise UsageError(
                f"--cfg-options {key}: '{name}' is a variable that only the "
                'config file reads. Set it where it is used: '
                f'{", ".join(places)}'
            )


def _places(node: Any, name: str, above: str = '') -> Iterator[str]:
    """Yield the dotted paths below the top level whose last key is `name`."""
    if isinstance(node, Mapping):
        items = list(node.items())
    elif isinstance(node, (list, tuple)):
        items = [(str(i), child) for i, child in enumerate(node)]
    else:
        return
    for key, child in items:
        # Only what the Runner reads counts, not other variables.
        if above or key in _RUNNER_KEYS:
            if above and key == name:
                yield above + key
            yield from _places(child, name, f'{above}{key}.')


def check_keys(cfg: Config) -> None:
    """Look for misspelt keys where mmengine would overlook them.

    A config may hold variables of its own, so a key at the top is refused
    only when it is nearly a key that the Runner knows.

    Raises:
        UsageError: Names the key and what was probably meant.
    """
    for where, known in _KNOWN_KEYS.items():
        node: Any = cfg._cfg_dict
        for part in where.split('.') if where else ():
            node = node.get(part) or {}
        for key in node:
            match = _near_miss(key, known)
            dot = f'{where}.' if where else ''
            if match is not None:
                raise UsageError(
                    f"unknown config key '{dot}{key}': did you "
                    f"mean '{dot}{match}'?"
                )
            if where in _CLOSED and key not in known:
                raise UsageError(
                    f"unknown config key '{dot}{key}': {where} "
                    f'takes {", ".join(known)}'
                )
    _check_optimizer((cfg.get('optim_wrapper') or {}).get('optimizer') or {})
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if checkpoint.get('type') == 'CheckpointHook':
        # It would pass them on and fail at the first checkpoint, hours later.
        known = {*inspect.signature(CheckpointHook.__init__).parameters}
        # mmengine writes _scope_ into what a base of another package brings.
        unknown = sorted(
            {*checkpoint} - known - {'type', 'priority', '_scope_'}
        )
        if unknown:
            raise UsageError(
                f'default_hooks.checkpoint: CheckpointHook has no {unknown}; '
                f'it takes {sorted(known - {"self", "kwargs"})}'
            )


def _check_optimizer(optimizer: Mapping) -> None:
    """Raise where mmengine would only say that None is not callable."""
    name = optimizer.get('type')
    if isinstance(name, str) and '.' not in name:
        from swav_plugin.registry import OPTIMIZERS

        if OPTIMIZERS.get(name) is None:
            known = {
                key
                for registry in (OPTIMIZERS, torch.optim)
                for key in getattr(registry, 'module_dict', dir(registry))
            }
            close = difflib.get_close_matches(name, known)
            raise UsageError(
                f"optim_wrapper.optimizer.type: there is no '{name}'"
                + (f'; did you mean {", ".join(close)}?' if close else '')
            )


def check_batches(runner: Runner) -> None:
    """Look whether the training set is large enough for one batch.

    Raises:
        UsageError: It is not, and mmengine would train nothing.
    """
    loader = runner.train_dataloader
    if not len(loader):
        raise UsageError(
            f'the training set has {len(loader.dataset)} images, which give '
            f'no batch of {loader.batch_size} on each of {get_world_size()} '
            'processes, since drop_last drops incomplete ones; set '
            'train_dataloader.batch_size lower.'
        )


def check_weights(runner: Runner) -> None:
    """Look whether weights fit the backbone, before images are looked for.

    Raises:
        UsageError: They do not, or the config wants some and none are given.
    """
    for hook in runner.hooks:
        if isinstance(hook, PretrainedHook) and not runner.cfg.get('resume'):
            try:
                hook.fill(runner, dry_run=True)
            except ValueError as error:
                raise UsageError(str(error)) from None


def check_resume(runner: Runner) -> None:
    """Look whether a training can go on from what is to be resumed.

    The Runner reads the file again: it takes a name only, and reads it after
    the images were looked for.

    Raises:
        UsageError: It holds weights only, or belongs to a training from other
            weights than are given now.
    """
    if not runner.cfg.get('resume'):
        return
    source = runner.cfg.get('load_from') or find_checkpoint(runner.work_dir)
    if source is None or '://' in source:
        return
    checkpoint = load_from_local(source, 'cpu')
    state = checkpoint if isinstance(checkpoint, Mapping) else {}
    if 'optimizer' not in state or 'iter' not in (state.get('meta') or ()):
        raise UsageError(
            f'{source} can not be resumed: the file holds weights and no '
            'state of a training; to start from them give --pretrained '
            f'{source}'
        )
    for hook in runner.hooks:
        if isinstance(hook, PretrainedHook):
            hook.check_origin(state, source)


def check_load_from(runner: Runner) -> None:
    """Look whether `load_from` fills the backbone; the Runner would not mind.

    The Runner reads the file again, as in `check_resume`.

    Raises:
        UsageError: A tensor of the backbone, or of the last stage in the
            heads of a C4 detector, is not in the file or has another shape.
    """
    source = runner.cfg.get('load_from')
    model = runner.model
    if is_model_wrapper(model):
        model = model.module
    if (
        source is None
        or runner.cfg.get('resume')
        or (not hasattr(model, 'backbone'))
    ):
        return
    found = {
        key.removeprefix('module.'): value.shape
        for key, value in read_checkpoint(source).items()
    }
    missing = sorted(
        key
        for key, value in model.state_dict().items()
        if key.startswith(('backbone.', 'roi_head.shared_head.layer'))
        and found.get(key) != value.shape
    )
    if missing:
        raise UsageError(
            f'load_from = {source!r} lacks {len(missing)} tensors that are to '
            f'be pretrained, such as {missing[0]}, or has them in another '
            'shape; load_from takes weights under the names of this very '
            'model. Give others by --pretrained'
        )


def check_labels(runner: Runner, *names: str) -> None:
    """Look whether a classifier has the classes of its images, and no others.

    Args:
        runner: The Runner.
        names: 'train', 'val' or 'test'; a set that the config does not have,
            or that does not tell its classes, is not looked at.

    Raises:
        UsageError: Images have no labels, or some that are too high (on a GPU
            the loss would stop with an assertion that names none); training
            images have fewer classes than the head; or sets have other
            classes than each other.
    """
    model = runner.model
    if is_model_wrapper(model):
        model = model.module
    expected = getattr(getattr(model, 'head', None), 'num_classes', None)
    if expected is None:
        return
    known: Sequence[str] = ()
    for name in names:
        if getattr(runner, f'_{name}_loop') is None:
            continue
        dataset = getattr(runner, f'{name}_dataloader').dataset
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        if not hasattr(dataset, 'num_classes') and not classes:
            continue
        found = getattr(dataset, 'num_classes', len(classes or ()))
        if found is None:
            raise UsageError(
                f'images of {name}_dataloader have no labels; put them into '
                'one folder for each class, or give a list file with labels '
                '(dataset.ann_file)'
            )
        if found > expected:
            raise UsageError(
                f'labels of {name}_dataloader go up to {found - 1}, but the '
                f'head has {expected} classes, 0 to {expected - 1}; set '
                f'model.head.num_classes={found} or correct the labels.'
            )
        if name == 'train' and found < expected:
            raise UsageError(
                f'images of train_dataloader have {found} classes, but the '
                f'head has {expected}; set model.head.num_classes={found} or '
                'look for missing images.'
            )
        if classes and known and set(classes) != set(known):
            only = sorted(set(classes) ^ set(known))[:5]
            raise UsageError(
                f'{names[0]}_dataloader and {name}_dataloader have other '
                f'classes; in one of them only: {", ".join(only)}'
            )
        known = classes or known


def _near_miss(key: str, known: Collection[str]) -> str | None:
    """Return the known key that `key` misspells, if it seems to."""
    if key in known:
        return None
    for match in difflib.get_close_matches(key, known, cutoff=0.85):
        # layer_1 and layer_2 are two names, not one and a slip; so are
        # val_dataloader and val_dataloader_cfg.
        if re.sub(r'\d', '', key) != re.sub(r'\d', '', match) and (
            not key.startswith(f'{match}_')
        ):
            return match
    return None


def find_checkpoint(work_dir: str) -> str | None:
    """Return the newest checkpoint of a work directory, if there is one.

    That is the one which mmengine's ``last_checkpoint`` names, also after
    the folder was moved. Where it is gone, or the note was cut short by a
    crash, the ``epoch_*.pth`` or ``iter_*.pth`` written last.
    """
    folder = Path(work_dir)
    note = folder / 'last_checkpoint'
    if note.is_file():
        named = Path(note.read_text().strip())
        for path in (named, folder / named.name):
            if path.is_file():
                return str(path)
    saved = [*folder.glob('epoch_*.pth'), *folder.glob('iter_*.pth')]
    newest = max(saved, key=lambda path: path.stat().st_mtime, default=None)
    return None if newest is None else str(newest)


def find_weights(source: str) -> str:
    """Return the file of weights given as a path, a URL or a zoo name.

    Raises:
        UsageError: There is none, or it can not be downloaded.
    """
    try:
        return str(checkpoint_path(source))
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None


def set_launcher(cfg: Config, launcher: str) -> None:
    """Prepare a config for how the processes were started.

    On a machine without a GPU the model gets `CPUDistributedDataParallel`;
    call `init_cpu_group` before the Runner.

    Args:
        cfg: Changed in place.
        launcher: 'none', 'pytorch' (torchrun), 'slurm' or 'mpi'.

    Raises:
        UsageError: The launcher was not what started this process, needs
            GPUs, or has more processes than this machine has GPUs.
    """
    cfg.launcher = launcher
    if launcher == 'none':
        return
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise UsageError(
            '--launcher pytorch is for processes that torchrun '
            'starts: use tools/dist_train.sh CONFIG GPUS'
        )
    if get_device() == 'cpu':
        if launcher != 'pytorch':
            raise UsageError(
                f'--launcher {launcher} needs GPUs and none is visible; on '
                'CPU use tools/dist_train.sh CONFIG PROCESSES'
            )
        wrapper = dict(
            find_unused_parameters=cfg.get('find_unused_parameters', False)
        )
        wrapper.update(cfg.get('model_wrapper_cfg') or {})
        # The full path is found under any default_scope.
        wrapper['type'] = 'swav_plugin.engine.CPUDistributedDataParallel'
        cfg.model_wrapper_cfg = wrapper
        return
    per_node = dict(
        pytorch='LOCAL_WORLD_SIZE',
        slurm='SLURM_NTASKS_PER_NODE',
        mpi='OMPI_COMM_WORLD_LOCAL_SIZE',
    )[launcher]
    num_processes = int(os.environ.get(per_node, 1))
    num_gpus = torch.cuda.device_count()
    if get_device() == 'cuda' and num_processes > num_gpus:
        raise UsageError(
            f'{num_processes} processes on this machine, but only {num_gpus} '
            f'GPUs are visible: start at most {num_gpus}'
        )


def init_cpu_group(cfg: Config) -> None:
    """Join torchrun's processes over gloo; mmengine would ask for CUDA."""
    dist_cfg = (cfg.get('env_cfg') or {}).get('dist_cfg') or {}
    timeout_s = dist_cfg.get('timeout', 1800)
    torch.distributed.init_process_group(
        'gloo', timeout=datetime.timedelta(seconds=timeout_s)
    )


def prepare_processes(cfg: Config) -> None:
    """Let processes on CPU find each other, or share its cores well."""
    if cfg.launcher != 'none' and get_device() == 'cpu':
        init_cpu_group(cfg)
    else:
        leave_cores_to_workers(cfg)


def end_processes() -> None:
    """Leave the group of processes, if there is one, when all is done."""
    if torch.distributed.is_initialized():
        if get_device() == 'cpu':
            leave_cpu_group()
        torch.distributed.destroy_process_group()


def leave_cpu_group() -> NoReturn:
    """End a process that trained over gloo, successfully.

    While Python shuts down, threads of gloo abort some processes (torch 2.14;
    https://github.com/pytorch/pytorch/pull/179291), with or without
    ``destroy_process_group``, and torchrun would report a failed run.
    """
    for worker in multiprocessing.active_children():
        worker.terminate()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def leave_cores_to_workers(cfg: Config) -> None:
    """Give torch the cores of a CPU that the data loader leaves free.

    Threads of torch that share a core with a worker wait for each other: on
    two cores with one worker, two threads were four times slower than one.
    Several processes get their threads from torchrun.
    """
    if get_device() == 'cpu' and 'OMP_NUM_THREADS' not in os.environ:
        loader = cfg.get('train_dataloader') or cfg.test_dataloader
        num_workers = loader.get('num_workers', 0)
        torch.set_num_threads(max(1, count_cores() - num_workers))


def count_cores() -> int:
    """How many CPU cores this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_mixed_precision(cfg: Config) -> str:
    """Turn on mixed precision for the device at hand; say what was chosen.

    On CUDA that is mmengine's ``AmpOptimWrapper`` with the dtype of the
    config (float16 if none) and dynamic loss scaling for float16; on CPU
    bfloat16.

    Raises:
        UsageError: The config has an optimizer wrapper of another kind.
    """
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UsageError(
            "--amp replaces optim_wrapper.type 'OptimWrapper', but the "
            f"config has '{kind}'; choose its precision in the config"
        )
    if get_device() == 'cpu':
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)
        wrapper.type = 'swav_plugin.engine.CPUAmpOptimWrapper'
        return 'Mixed precision: bfloat16 on the CPU.'
    wrapper.type = 'AmpOptimWrapper'
    # bfloat16 has float32's range. Scaling for float16 reads from the device
    # in each step whether a gradient overflowed.
    wrapper.setdefault(
        'loss_scale',
        dict(enabled=False)
        if wrapper.get('dtype') == 'bfloat16'
        else 'dynamic',
    )
    scale = wrapper.loss_scale
    if isinstance(scale, dict) and not scale.get('enabled', True):
        scale = 'none'
    return (
        f'Mixed precision: {wrapper.get("dtype") or "float16"}, '
        f'loss_scale {scale}.'
    )
