"""Train what a config describes, on CPU, one GPU or many.

    python tools/train.py configs/selfsup/swav/CONFIG.py

Several processes: tools/dist_train.sh and tools/slurm_train.sh.
"""
import argparse
import os
import sys
from pathlib import Path

import swav_plugin  # noqa: F401 isort:skip  says what is not installed

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner
from torch.distributed.elastic.multiprocessing.errors import record

# Also makes `_base_ = 'swav_plugin::...'` resolve in configs.
from swav_plugin.engine.launch import (UsageError, check_batches,
                                       find_checkpoint, init_cpu_group,
                                       leave_cores_to_workers, leave_cpu_group,
                                       load_config, set_launcher,
                                       set_mixed_precision)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Train what a config describes.')
    parser.add_argument('config', metavar='CONFIG', help='config file (.py)')
    parser.add_argument(
        '--work-dir',
        metavar='D',
        help='folder for logs and checkpoints (default: work_dir of the '
        'config, or work_dirs/<name of the config>)')
    parser.add_argument(
        '--resume',
        metavar='CKPT',
        nargs='?',
        const='newest',
        help='continue from a checkpoint; without CKPT from the newest one '
        'of the work dir (several machines must share that folder), or from '
        'the start if there is none')
    parser.add_argument(
        '--pretrained',
        metavar='W',
        help='fill the backbone from this checkpoint; every backbone key '
        'must be in it. A resumed run ignores it')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: float16 (or optim_wrapper.dtype) on GPUs, '
        'bfloat16 on CPU')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes (default: none = a single one)')
    parser.add_argument(
        '--cfg-options',
        metavar='K=V',
        nargs='+',
        action='extend',
        default=[],
        help='change the config: model.head.num_prototypes=300 '
        'custom_hooks.0.queue_begin_epoch=5 "a.b=[2, 6]"')
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        help='set by older launchers of torch')
    return parser.parse_args(argv)


def build_config(args: argparse.Namespace) -> tuple[Config, list[str]]:
    """Merge config and command line; also return what the log should say.

    Raises:
        UsageError: When the arguments cannot work.
    """
    cfg = load_config(args.config, args.cfg_options)
    notes = []
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', Path(args.config).stem)
    if args.local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    set_launcher(cfg, args.launcher)
    wrapper = cfg.get('optim_wrapper') or {}
    is_amp = wrapper.get('type') == 'AmpOptimWrapper'
    if args.amp or (is_amp and get_device() == 'cpu'):
        notes.append(set_mixed_precision(cfg))
    if args.pretrained is not None:
        _set_pretrained(cfg, args.pretrained)
    if args.resume is not None:
        notes.append(_set_resume(cfg, args.resume))
    hooks = [hook.get('type') for hook in cfg.get('custom_hooks') or ()]
    if cfg.model.get('type') == 'SwAV' and 'SwAVHook' not in hooks:
        notes.append(
            'custom_hooks has no SwAVHook: prototypes are never frozen, the '
            'queue starts at once and impossible recipes are not refused.')
    return cfg, notes


def _set_pretrained(cfg: Config, weights: str) -> None:
    """Let a hook fill the backbone before training."""
    if not Path(weights).is_file():
        raise UsageError(f'--pretrained: there is no file {weights}')
    if cfg.get('load_from') is not None and not cfg.get('resume'):
        raise UsageError(
            f'--pretrained {weights} and load_from = {cfg.load_from!r} both '
            'give the backbone its weights; use one of them')
    hook = dict(type='swav_plugin.engine.PretrainedHook', checkpoint=weights)
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]


def _set_resume(cfg: Config, checkpoint: str) -> str:
    """Let the Runner continue from a checkpoint; say from which."""
    if checkpoint == 'newest':
        newest = find_checkpoint(cfg.work_dir)
        if newest is None:
            cfg.resume = False
            return (f'--resume: no checkpoint in {cfg.work_dir}, training '
                    'starts from the beginning.')
        checkpoint = newest
    elif '://' not in checkpoint and not Path(checkpoint).is_file():
        raise UsageError(f'--resume: there is no checkpoint {checkpoint}')
    cfg.resume = True
    cfg.load_from = checkpoint
    return f'--resume: continuing from {checkpoint}.'


def train(args: argparse.Namespace) -> None:
    """Build everything, look it over and train."""
    cfg, notes = build_config(args)
    if args.launcher != 'none' and get_device() == 'cpu':
        init_cpu_group(cfg)
    else:
        leave_cores_to_workers(cfg)
    runner = Runner.from_cfg(cfg)
    for note in notes:
        runner.logger.info(note)
    check_batches(runner)
    runner.train()
    if torch.distributed.is_initialized():
        if get_device() == 'cpu':
            leave_cpu_group()
        torch.distributed.destroy_process_group()


@record  # torchrun's summary, its last lines, then holds the error
def main() -> None:
    """Train; a mistake of the user's ends in one line."""
    args = parse_args()
    try:
        train(args)
    except UsageError as error:
        if args.launcher == 'pytorch':
            raise  # for torchrun's summary, see @record
        print(f'{Path(__file__).name}: error: {error}', file=sys.stderr)
        sys.exit(2)


if __name__ == '__main__':
    main()
