"""Count the FLOPs of a SwAV: of a view of each size, and of a step.

    get_flops.py CONFIG
    get_flops.py CONFIG --shape 224

A multiplication with its addition counts once, as in papers. Norms,
activations, the queue and Sinkhorn are left out: together they are less than
1 % of a ResNet-50. The backward pass counts as two forward passes.
"""

import argparse
from collections import Counter

from swav_plugin.engine.browse import view_sizes_of_config
from swav_plugin.engine.config import check_has, load_config
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import config_parser, run_command
from swav_plugin.models import SwAV
from swav_plugin.models.complexity import count_flops
from swav_plugin.models.pretrained import build_model


def get_flops(args: argparse.Namespace) -> None:
    """Print what each view costs, and a step."""
    cfg = load_config(args.config, args.cfg_options)
    check_has(cfg, 'model')
    model, total = build_model(cfg), 0
    if not isinstance(model, SwAV):
        raise UsageError(
            f'{args.config} has a {type(model).__name__}; this tool counts '
            "the views of a SwAV. Use mmpretrain's get_flops.py"
        )
    if args.shape:
        sizes = [(args.shape[0], args.shape[-1])]
    else:
        sizes = view_sizes_of_config(cfg)
    if not sizes:
        raise UsageError(f'{args.config} trains on no views; give --shape PX')
    for size, number in Counter(sizes).items():
        flops = count_flops(model, *size)
        total += number * flops
        _print(f'{number} of {size[0]}x{size[1]} px, each', flops)
    _print('all views of an image', total)
    batch_size = (cfg.get('train_dataloader') or {}).get('batch_size', 1)
    _print(f'a step of {batch_size} images, x 3', 3 * batch_size * total)


def _print(what: str, flops: int) -> None:
    print(f'{what:28} {flops / 1e9:12,.3f} GFLOPs')


def main(argv: list[str] | None = None) -> None:
    """Run the command; a mistake of the user ends in one line."""
    parser = config_parser(__doc__)
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        metavar='PX',
        help='count one view of this height and width',
    )
    run_command(get_flops, parser.parse_args(argv))


if __name__ == '__main__':
    main()
