"""Measure a checkpoint by what a config describes, on CPU, one GPU or many.

    python tools/test.py configs/benchmarks/classification/CONFIG.py CKPT

Several processes: tools/dist_test.sh and tools/slurm_test.sh.
"""
import argparse
import os
import sys
from pathlib import Path
from typing import Any

import swav_plugin  # noqa: F401 isort:skip  says what is not installed

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, load_checkpoint
from torch.distributed.elastic.multiprocessing.errors import record

# Also makes `_base_ = 'swav_plugin::...'` resolve in configs.
from swav_plugin.compat.checkpoint_keys import load_backbone, load_model
from swav_plugin.engine.launch import (UsageError, init_cpu_group,
                                       leave_cores_to_workers, leave_cpu_group,
                                       load_config, set_launcher)
from swav_plugin.models import SwAV

RANDOM = 'random'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Measure a checkpoint by what a config describes.')
    parser.add_argument('config', metavar='CONFIG', help='config file (.py)')
    parser.add_argument(
        'checkpoint',
        metavar='CKPT',
        help='weights in any layout that tools/train.py --pretrained takes; '
        f"'{RANDOM}' for a network as it is before any training")
    parser.add_argument(
        '--work-dir',
        metavar='D',
        help='folder for logs and results (default: work_dir of the config, '
        'or work_dirs/<name of the config>)')
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
        help='change the config: model.backbone.depth=18 '
        'test_dataloader.dataset.data_root=FOLDER "a.b=[2, 6]"')
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        help='set by older launchers of torch')
    return parser.parse_args(argv)


def build_config(args: argparse.Namespace) -> Config:
    """Merge config and command line.

    Raises:
        UsageError: When the arguments cannot work.
    """
    cfg = load_config(args.config, args.cfg_options)
    if cfg.get('test_cfg') is None:
        raise UsageError(
            f'{args.config} has no test_cfg, test_dataloader and '
            'test_evaluator: it does not say what to measure; see '
            'configs/benchmarks')
    if args.checkpoint != RANDOM and not Path(args.checkpoint).is_file():
        raise UsageError(f'there is no checkpoint {args.checkpoint}')
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', Path(args.config).stem)
    if args.local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    set_launcher(cfg, args.launcher)
    # Weights are filled in below, or it is an error.
    cfg.load_from = None
    cfg.resume = False
    return cfg


def fill(model: Any, checkpoint: str) -> str:
    """Give a model its weights, all of them; say what was done.

    Raises:
        ValueError: When the checkpoint lacks a part of the model.
    """
    if checkpoint == RANDOM:
        model.init_weights()
        return 'The network is as initialised: no weights were loaded.'
    if isinstance(model, SwAV):
        count = load_model(model, checkpoint)
    elif getattr(model, 'head', None) is None:
        count = load_backbone(model.backbone, checkpoint)
    else:
        load_checkpoint(model, checkpoint, 'cpu', strict=True)
        count = len(model.state_dict())
    return f'Filled {count} tensors from {checkpoint}.'


def test(args: argparse.Namespace) -> None:
    """Build everything, load the weights and measure."""
    cfg = build_config(args)
    if args.launcher != 'none' and get_device() == 'cpu':
        init_cpu_group(cfg)
    else:
        leave_cores_to_workers(cfg)
    runner = Runner.from_cfg(cfg)
    model = runner.model
    if is_model_wrapper(model):
        model = model.module
    runner.logger.info(fill(model, args.checkpoint))
    runner.test()
    if torch.distributed.is_initialized():
        if get_device() == 'cpu':
            leave_cpu_group()
        torch.distributed.destroy_process_group()


@record  # torchrun's summary, its last lines, then holds the error
def main() -> None:
    """Test; a mistake of the user's ends in one line."""
    args = parse_args()
    try:
        test(args)
    except UsageError as error:
        if args.launcher == 'pytorch':
            raise  # for torchrun's summary, see @record
        print(f'{Path(__file__).name}: error: {error}', file=sys.stderr)
        sys.exit(2)


if __name__ == '__main__':
    main()
