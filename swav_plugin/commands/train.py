"""Train what a config describes, on CPU, one GPU or many.

    swav train CONFIG --data FOLDER --gpus 8

CONFIG is a file, or the name of a config that comes with swav_plugin. In a
checkout tools/train.py is the same. Several machines: tools/dist_train.sh and
tools/slurm_train.sh.
"""

import argparse
from collections.abc import Iterator
from logging import INFO, WARNING
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from torch.distributed.elastic.multiprocessing.errors import record

from swav_plugin.checkpoints import RANDOM
from swav_plugin.checkpoints.newest import find_checkpoint
from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.agreement import StopSignals
from swav_plugin.engine.checks import (
    check_batches,
    check_images,
    check_labels,
    check_load_from,
    check_ranks,
    check_resume,
    check_samples,
    check_weights,
)
from swav_plugin.engine.config import (
    check_has,
    load_config,
    set_mixed_precision,
)
from swav_plugin.engine.data_folder import set_data
from swav_plugin.engine.default_hooks import hook_class
from swav_plugin.engine.errors import UsageError, mistakes_in_one_line
from swav_plugin.engine.hooks.skipped_images import skipped_images_stored
from swav_plugin.engine.launch import (
    CONFIG_HELP,
    add_common_arguments,
    find_weights,
    run_command,
    set_common,
    start_on_gpus,
)
from swav_plugin.engine.processes import (
    end_processes,
    prepare_processes,
    rank_before_init,
)
from swav_plugin.engine.runner import CommandRunner, stop_noted
from swav_plugin.engine.screen import log_summary
from swav_plugin.engine.shared_memory import (
    check_shared_memory,
    lost_workers_in_one_line,
)
from swav_plugin.engine.wording import Alarm
from swav_plugin.engine.work_dir import own_work_dir
from swav_plugin.report.record import end_recorded

from .plan import (
    add_plan_arguments,
    arguments_of_ranks,
    plan_into_work_dir,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description='Train what a config describes.')
    _add_start(parser)
    add_common_arguments(
        parser,
        results='checkpoints',
        data='a folder of images to pretrain on, or a dataset, with train and '
        'val or as the head of the config says',
        folder_by_default='work_dirs/<name of the config>, followed by the '
        'name of the weights after --pretrained',
        example='model.head.num_prototypes=300 '
        'default_hooks.swav.queue_begin_epoch=5',
        gpus_by_default='1, or all with --plan',
    )
    # What mim makes of its --gpus 0.
    parser.add_argument('--device', choices=['cpu'], help=argparse.SUPPRESS)
    planning = parser.add_argument_group(
        'a plan in place of a config (swav plan prints it)'
    )
    planning.add_argument(
        '--plan',
        metavar='FOLDER',
        help='plan a config for the images in FOLDER, write it into the work '
        'dir (default: work_dirs/<name of FOLDER>) and train it',
    )
    add_plan_arguments(planning)
    args = parser.parse_args(argv)
    if (args.config is None) == (args.plan is None):
        parser.error('give either CONFIG or --plan FOLDER')
    if args.plan is not None and args.data is not None:
        parser.error('--plan FOLDER names the images already, without --data')
    if args.device is not None:
        args.gpus = 0
    return args


def _add_start(parser: argparse.ArgumentParser) -> None:
    """Add what says where a training begins, and how."""
    parser.add_argument(
        'config',
        metavar='CONFIG',
        nargs='?',
        help=CONFIG_HELP.format('swav_demo_digits'),
    )
    parser.add_argument(
        '--resume',
        metavar='CHECKPOINT',
        nargs='?',
        const='newest',
        help='continue from a checkpoint; without CHECKPOINT from the newest '
        'one of the work dir (several machines must share that folder), or '
        'from the start if there is none',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='remove the checkpoints of an earlier run from the work dir',
    )
    parser.add_argument(
        '--pretrained',
        metavar='CHECKPOINT',
        help='fill the backbone from this checkpoint: a file, a URL or the '
        'name of a model of the zoo; every backbone key must be in it. '
        f"'{RANDOM}' leaves it as initialized. A resumed run must have begun "
        'with the same',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: float16 (or optim_wrapper.dtype) on GPUs, '
        'bfloat16 on CPU',
    )


def build_config(args: argparse.Namespace) -> tuple[Config, list[str]]:
    """Merge config and command line; also return what the log should say.

    Raises:
        UsageError: The arguments cannot work.
    """
    notes: list[str] = []
    cfg = load_config(args.config, args.cfg_options, notes)
    check_has(cfg, 'model', 'train_cfg', 'train_dataloader', 'optim_wrapper')
    notes += set_data(cfg, args, 'train', 'val')
    set_common(cfg, args)
    wrapper = cfg.get('optim_wrapper') or {}
    is_amp = wrapper.get('type') == 'AmpOptimWrapper'
    if args.amp or (is_amp and get_device() == 'cpu'):
        notes.append(set_mixed_precision(cfg))
    if args.pretrained is not None:
        _set_pretrained(cfg, args.pretrained)
    if args.resume is None and cfg.get('resume') and not cfg.get('load_from'):
        args.resume = 'newest'  # like mmengine, but damaged files are skipped
    if args.resume is not None:
        notes += _set_resume(cfg, args.resume)
    hooks = {hook_class(hook) for hook in _hooks(cfg)}
    if cfg.model.get('type') == 'SwAV' and 'SwAVHook' not in hooks:
        notes.append(
            'The config has no SwAVHook: prototypes are never frozen, the '
            'queue starts at once and impossible recipes are not refused.'
        )
    return cfg, notes


def _hooks(cfg: Config) -> Iterator[dict]:
    """Yield the configs of all hooks."""
    hooks = (cfg.get('default_hooks') or {}).values()
    yield from (hook for hook in hooks if hook is not None)
    yield from cfg.get('custom_hooks') or ()


def _set_pretrained(cfg: Config, weights: str) -> None:
    """Let a hook fill the backbone before training."""
    if cfg.get('load_from') is not None and not cfg.get('resume'):
        raise UsageError(
            f'--pretrained {weights} and load_from = {cfg.load_from!r} both '
            'give the backbone its weights; use one of them'
        )
    if weights != RANDOM:
        weights = find_weights(weights)
    own = [
        hook for hook in _hooks(cfg) if hook_class(hook) == 'PretrainedHook'
    ]
    if own:
        own[0]['checkpoint'] = weights
    else:
        hook = dict(
            type='swav_plugin.engine.PretrainedHook', checkpoint=weights
        )
        cfg.default_hooks = dict(
            cfg.get('default_hooks') or {}, pretrained=hook
        )
    # mmdet's and mmseg's own configs name weights to download at the start.
    cfg.model.pop('pretrained', None)
    parts = (
        cfg.model.get('backbone'),
        (cfg.model.get('roi_head') or {}).get('shared_head'),
    )
    for part in filter(None, parts):
        init = part.get('init_cfg')
        if isinstance(init, dict) and init.get('type') == 'Pretrained':
            part.init_cfg = None


def _set_resume(cfg: Config, checkpoint: str) -> list[str]:
    """Let the Runner continue from a checkpoint; say from which."""
    found: list[str] = []
    if checkpoint == 'newest':
        newest = find_checkpoint(cfg.work_dir, found)
        if newest is None:
            cfg.resume = False
            return [
                *map(Alarm, found),
                f'--resume: no checkpoint in {cfg.work_dir}, training '
                'starts from the beginning.',
            ]
        checkpoint = newest
    elif Path(checkpoint).is_dir():
        raise UsageError(
            f'--resume: {checkpoint} is a folder; give a file in it, or give '
            f'--work-dir {checkpoint} and --resume alone'
        )
    elif checkpoint.startswith(('http:', 'https:', 'file:')):
        checkpoint = find_weights(checkpoint)
    elif '://' not in checkpoint and not Path(checkpoint).is_file():
        raise UsageError(f'--resume: there is no checkpoint {checkpoint}')
    cfg.resume = True
    cfg.load_from = checkpoint
    return [*map(Alarm, found), f'--resume: continuing from {checkpoint}.']


def train(args: argparse.Namespace) -> None:
    """Build everything, check it and train."""
    with StopSignals(at_once=True):  # until `runner.train` takes over
        if args.plan is not None:
            plan_into_work_dir(args)
        else:
            start_on_gpus(
                args, 'train', build_config, arguments_of_ranks(args)
            )
        cfg, notes = build_config(args)
        notes += own_work_dir(
            cfg.work_dir,
            is_new=not cfg.get('resume'),
            overwrite=args.overwrite,
            rank=rank_before_init(cfg.launcher),
        )
        with stop_noted(cfg.work_dir):
            runner = _build(cfg, notes)
            with (
                end_recorded(runner),
                lost_workers_in_one_line(),
                skipped_images_stored(runner),
            ):
                runner.train()
    end_processes()


def _build(cfg: Config, notes: list[str]) -> CommandRunner:
    """Build what trains, and check it; log the notes and what it is."""
    prepare_processes(cfg)
    with mistakes_in_one_line(cfg):
        runner = CommandRunner.from_cfg(cfg)
        for note in notes:
            level = WARNING if isinstance(note, Alarm) else INFO
            runner.logger.log(level, note)
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        check_resume(runner)
        check_load_from(runner)
        check_weights(runner)
        check_ranks(runner)
        check_batches(runner)
        check_labels(runner, 'train', 'val')
        check_images(runner, 'train', 'val')
        check_samples(runner, 'train', 'val')
        check_shared_memory(runner, 'train')
        log_summary(runner, 'train', 'val')
    return runner


@record  # torchrun's summary, its last lines, then holds the error
def main() -> None:
    """Train; a mistake of the user ends in one line."""
    run_command(
        train,
        parse_args(),
        interrupted='interrupted; --resume goes on from the last checkpoint',
    )


if __name__ == '__main__':
    main()
