"""Choose what a command shows on the screen. The log file has everything.

mmengine logs environment, config and hooks before the first iteration, and
dependencies warn about themselves: hundreds of lines that hide what matters.
"""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmengine
from mmengine.dist import get_world_size
from mmengine.logging import logger
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from swav_plugin.datasets import ImageFolder
from swav_plugin.models import SwAVHead

from .wording import counted
from .wrappers import unwrap

# How messages begin that mmengine logs and that only its log file gets.
_FILE_ONLY = re.compile(
    r'\n-+\nSystem environment:'
    r'|Config:\n'
    r'|Hooks will be executed in the following order:'
    r'|Distributed training is not used, all SyncBatchNorm '
    r'|paramwise_options -- '
    r'|Checkpoints will be saved to '  # also in `log_summary`
    r'|Exp name: '
    # mmengine uses these itself; users can do nothing about them.
    r'|"FileClient" will be deprecated in future\.'
    r'|"HardDiskBackend" is the alias of "LocalBackend"'
    r'|init_weights of \w+ has been called more than once\.'
)

# How a message of ours begins that only the log file gets.
NUMBERS = 'Health in numbers: '

# How Python warnings begin that concern no user, and the module warned of.
_SILENT_WARNINGS = (
    (
        "'pin_memory' argument is set as true but no accelerator is found",
        'torch.utils.data.dataloader',
    ),
    (
        'Setting (OMP|MKL)_NUM_THREADS environment variable',
        'mmengine.utils.dl_utils.setup_env',
    ),
    (
        '`broadcast_buffers` is deprecated',
        'mmengine.model.wrappers.distributed',
    ),
)

# mmpretrain, mmdet and mmseg print this of an optional package.
_SILENT_PRINT = 'Could not import OneDL'


def is_for_screen(record: logging.LogRecord) -> bool:
    """Return whether a log record may reach the screen."""
    folder = Path(mmengine.__file__).parent
    is_mmengine = folder in Path(record.pathname).parents
    message = record.getMessage()
    if message.startswith(NUMBERS):
        return False
    return not (is_mmengine and _FILE_ONLY.match(message))


@contextmanager
def quiet_dependencies() -> Iterator[None]:
    """Hide warnings of dependencies that are about themselves.

    Data workers inherit this when they are forked.
    """

    def print_others(message: object) -> None:
        if not str(message).startswith(_SILENT_PRINT):
            print(message)

    with warnings.catch_warnings():
        for start, module in _SILENT_WARNINGS:
            warnings.filterwarnings(
                'ignore', start, module=re.escape(module) + '$'
            )
        # What `print_log` calls where it is given no logger.
        vars(logger)['print'] = print_others
        try:
            yield
        finally:
            del vars(logger)['print']


def log_summary(runner: Runner, *names: str) -> None:
    """Log what is about to run: data, model, batch, length, folders.

    Args:
        runner: The Runner, before it starts.
        names: 'train', 'val' or 'test'; sets that the config does not have
            are left out.
    """
    log = runner.logger.info
    for name in names:
        if getattr(runner, f'_{name}_loop') is not None:
            dataset = getattr(runner, f'{name}_dataloader').dataset
            log(f'Data ({name}): {describe_data(dataset)}')
    log(f'Model: {describe_model(unwrap(runner.model))}')
    if 'train' in names:
        log(f'Batch: {describe_batch(runner)}')
        log(f'Length: {describe_length(runner)}')
        log(f'Checkpoints: {runner.work_dir}')
    log(f'Log, with config and environment: {runner.log_dir}')


def describe_data(dataset: Any) -> str:
    """Say how many images were found, in how many folders or classes."""
    text = counted(len(dataset), 'image')
    classes = getattr(dataset, 'metainfo', {}).get('classes') or ()
    num_classes = getattr(dataset, 'num_classes', None) or len(classes)
    roots = getattr(dataset, 'roots', None) or [
        getattr(part, 'data_root', None)
        for part in getattr(dataset, 'datasets', [dataset])
    ]
    root = ', '.join(dict.fromkeys(str(root) for root in roots if root))
    if isinstance(dataset, ImageFolder) and classes:
        return f'{text} in {counted(num_classes, "folder")} of {root}'
    if isinstance(dataset, ImageFolder) and dataset.found:
        parts = [
            f'{each.describe_folders()} of {each.root}'
            for each in dataset.found
        ]
        return f'{text} in {" and ".join(parts)}'
    if num_classes:
        text += f' of {counted(num_classes, "class")}'
    return f'{text} in {root}' if root else text


def describe_model(model: nn.Module) -> str:
    """Say what a model is made of."""
    parts = [type(model).__name__]
    backbone = getattr(model, 'backbone', None)
    if backbone is not None:
        depth = getattr(backbone, 'depth', None)
        layers = f' of {depth} layers' if depth else ''
        parts.append(f'backbone {type(backbone).__name__}{layers}')
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    part = f' ({trained:,} of them trained)' if trained < total else ''
    parts.append(f'{total:,} parameters{part}')
    head = getattr(model, 'head', None)
    if isinstance(head, SwAVHead):
        numbers = ' + '.join(f'{number:,}' for number in head.num_prototypes)
        length = head.queue_length
        parts.append(f'{numbers} prototypes')
        parts.append(f'queue of {length:,}' if length else 'no queue')
    return ', '.join(parts)


def describe_batch(runner: Runner) -> str:
    """Say how many images a step sees, over processes and accumulation."""
    images = getattr(runner.train_dataloader.batch_sampler, 'batch_size', None)
    if images is None:
        return 'of varying size'
    num_processes = get_world_size()
    text = f'{images} per process x {num_processes} process'
    text += 'es' * (num_processes != 1)
    wrapper = runner.cfg.get('optim_wrapper') or {}
    accumulated = wrapper.get('accumulative_counts', 1)
    if accumulated > 1:
        text += f' x {accumulated} accumulated'
    total = images * num_processes * accumulated
    return f'{text} = {total} image{"s" * (total != 1)}'


def describe_length(runner: Runner) -> str:
    """Say how long the run is."""
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        num_iters = counted(len(runner.train_dataloader), 'iteration')
        return f'{counted(loop.max_epochs, "epoch")} of {num_iters}'
    return counted(loop.max_iters, 'iteration')
