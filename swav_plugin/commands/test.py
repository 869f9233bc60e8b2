"""Measure a checkpoint with what a config describes, on CPU or GPUs.

    swav test CONFIG CHECKPOINT --data FOLDER

CONFIG is a file, or the name of a config that comes with swav_plugin. In a
checkout tools/test.py is the same. Several machines: tools/dist_test.sh and
tools/slurm_test.sh.
"""

import argparse

from mmengine.config import Config
from torch.distributed.elastic.multiprocessing.errors import record

from swav_plugin.checkpoints import RANDOM
from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.checks import check_images, check_labels, check_samples
from swav_plugin.engine.config import check_has, load_config
from swav_plugin.engine.data_folder import set_data
from swav_plugin.engine.errors import UsageError, mistakes_in_one_line
from swav_plugin.engine.launch import (
    CONFIG_HELP,
    add_common_arguments,
    find_weights,
    pass_on,
    run_command,
    set_common,
    start_on_gpus,
)
from swav_plugin.engine.processes import end_processes, prepare_processes
from swav_plugin.engine.runner import CommandRunner
from swav_plugin.engine.screen import log_summary
from swav_plugin.engine.shared_memory import (
    check_shared_memory,
    lost_workers_in_one_line,
)
from swav_plugin.engine.wrappers import unwrap
from swav_plugin.models.pretrained import fill_model


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description='Measure a checkpoint as a config describes.')
    parser.add_argument(
        'config', metavar='CONFIG', help=CONFIG_HELP.format('knn_imagenet')
    )
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        help='weights in any layout that swav train --pretrained takes: '
        'a file, a URL, the name of a model of the zoo, or a work dir, whose '
        'newest one it is; '
        f"'{RANDOM}' for a network as it is before any training",
    )
    add_common_arguments(
        parser,
        results='results',
        data='a dataset, with the folders that the config reads, such as '
        'train and val, or as the head of the config says',
        example='model.backbone.depth=18 '
        'test_dataloader.dataset.data_root=FOLDER',
    )
    return parser.parse_args(argv)


def build_config(args: argparse.Namespace) -> tuple[Config, list[str]]:
    """Merge config and command line; also return what the log should say.

    Raises:
        UsageError: The arguments cannot work.
    """
    notes: list[str] = []
    cfg = load_config(args.config, args.cfg_options, notes)
    if cfg.get('test_cfg') is None:
        raise UsageError(
            f'{args.config} has no test_cfg, test_dataloader and '
            'test_evaluator: it does not say what to measure; see '
            'configs/benchmarks'
        )
    check_has(cfg, 'model', 'test_dataloader')
    notes += set_data(cfg, args, 'test')
    if args.checkpoint != RANDOM:
        args.checkpoint = find_weights(args.checkpoint)
    set_common(cfg, args)
    # Weights are filled in below, or it is an error.
    cfg.load_from = None
    cfg.resume = False
    return cfg, notes


def test(args: argparse.Namespace) -> None:
    """Build everything, load the weights and measure."""
    start_on_gpus(
        args,
        'test',
        build_config,
        [
            args.config,
            args.checkpoint,
            *pass_on(args, 'work_dir', 'data', 'cfg_options'),
        ],
    )
    cfg, notes = build_config(args)
    prepare_processes(cfg)
    with mistakes_in_one_line(cfg):
        runner = CommandRunner.from_cfg(cfg)
        for note in [
            *notes,
            fill_model(unwrap(runner.model), args.checkpoint),
        ]:
            runner.logger.info(note)
        runner.test_loop  # built here, with the checks of evaluators
        check_labels(runner, 'test')
        check_images(runner, 'test')
        check_samples(runner, 'test')
        check_shared_memory(runner, 'test')
        log_summary(runner, 'test')
    with lost_workers_in_one_line():
        runner.test()
    end_processes()


@record  # torchrun's summary, its last lines, then holds the error
def main() -> None:
    """Test; a mistake of the user ends in one line."""
    run_command(test, parse_args())


if __name__ == '__main__':
    main()
