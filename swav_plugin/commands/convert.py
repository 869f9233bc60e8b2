"""Write the weights of a checkpoint for another library.

    swav convert CHECKPOINT OUT --to torchvision

Only weights are written: no optimizer, no queue, no classifier.
"""

import argparse
from typing import Any

import torch

from swav_plugin.apis import get_model
from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.checkpoints.checkpoint import Checkpoint
from swav_plugin.checkpoints.convert import pick_parts, to_ours
from swav_plugin.checkpoints.describe import describe_weights
from swav_plugin.checkpoints.training_state import check_finite
from swav_plugin.checkpoints.write import (
    Written,
    as_text,
    check_out,
    count_parts,
    origin,
    write_weights,
)
from swav_plugin.checkpoints.zoo import checkpoint_source
from swav_plugin.compat.arguments import Parser
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import named_path, run_command
from swav_plugin.models import SwAV
from swav_plugin.models.onnx_export import MissingPackages, export_onnx

_FORMATS = {
    'torchvision': 'state dict of its ResNet, without fc',
    'timm': 'the same, for create_model(..., num_classes=0)',
    'mmpretrain': "mmpretrain's and mmselfsup's SwAV",
    'mmdet': 'backbone for init_cfg of mmdet and mmseg',
    'detectron2': 'pickle for MODEL.WEIGHTS (.pkl)',
    'official': "names of facebookresearch/swav's files",
    'safetensors': 'our names (.safetensors)',
    'onnx': 'program that computes features of images (.onnx)',
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    assert __doc__ is not None
    width = max(map(len, _FORMATS))
    formats = [f'  {name:{width}}  {what}' for name, what in _FORMATS.items()]
    parser = Parser(
        description=__doc__.partition('\n')[0],
        epilog='\n'.join(['formats:', *formats]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        help='in any layout: a file, a URL, the name of a model of the zoo, '
        'or a work dir, whose newest one it is',
    )
    parser.add_argument('out', metavar='OUT', help='the file to write')
    parser.add_argument(
        '--to',
        metavar='FORMAT',
        choices=_FORMATS,
        required=True,
        help='what is to read it; listed below',
    )
    parser.add_argument(
        '--with-head',
        action='store_true',
        help='onnx: compute the scores of the prototypes as well',
    )
    parser.add_argument(
        '--config',
        help='onnx: config of the network, where it is not a ResNet with '
        'batch norm, which is read from the weights',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace OUT if it exists'
    )
    args = parser.parse_args(argv)
    if args.with_head and args.to != 'onnx':
        parser.error(
            f'--with-head is for --to onnx only; --to {args.to} writes the '
            'neck and prototypes if its library has a place for them'
        )
    if args.config is not None and args.to != 'onnx':
        parser.error('--config is for --to onnx only; leave it out')
    return args


def run(args: argparse.Namespace) -> None:
    """Convert as the command line says."""
    source = named_path('CHECKPOINT', args.checkpoint)
    checkpoint = Checkpoint(checkpoint_source(source))
    out = named_path('OUT', args.out)
    try:
        if args.to == 'onnx':
            written = _write_onnx(checkpoint, out, args)
        else:
            written = write_weights(checkpoint, out, args.to, args.overwrite)
    except (OSError, ValueError, MissingPackages) as error:
        raise UsageError(str(error)) from error
    print(describe(written))


def _write_onnx(
    checkpoint: Checkpoint, out: str, args: argparse.Namespace
) -> Written:
    """Write the ResNet of a checkpoint as a program."""
    path = check_out(out, checkpoint, '.onnx', args.overwrite)
    parts = pick_parts(checkpoint.weights, args.with_head)
    check_finite(to_ours(parts), checkpoint)
    model: Any
    if args.config is None:
        model = get_model(checkpoint, 'cpu')
    else:
        config = named_path('--config', args.config)
        model = get_model(config, 'cpu', checkpoint=checkpoint)
    neck, prototypes = None, []
    if args.with_head:
        if not isinstance(model, SwAV):
            raise UsageError(
                f'--with-head: {checkpoint} is '
                f'{describe_weights(checkpoint.weights)}; leave the option '
                'out to write the backbone alone'
            )
        neck = model.neck
        prototypes = [each.weight for each in model.head.prototypes]
    content = export_onnx(
        model.backbone,
        # Without these the network takes pixels in 0..255.
        getattr(model.data_preprocessor, 'mean', torch.zeros(3, 1, 1)),
        getattr(model.data_preprocessor, 'std', torch.ones(3, 1, 1)),
        neck,
        prototypes,
        as_text(origin(checkpoint)),
    )
    write_atomic(path, content)
    return Written(path, count_parts(parts), parts.others)


def describe(written: Written) -> str:
    """Return what to print about a file: its tensors, and what is not there.

    >>> from pathlib import Path
    >>> print(describe(Written(Path('a.pth'), dict(neck=9), ['head.fc.bias'])))
    a.pth: 9 tensors of the neck
    left out: head.fc
    """
    names = [*written.parts]
    parts = ' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))
    lines = [
        f'{written.path}: {sum(written.parts.values())} tensors of the {parts}'
    ]
    # Names of modules: those of tensors would be too many.
    modules = dict.fromkeys(
        '.'.join(name.split('.')[:2]) for name in written.left_out
    )
    if modules:
        lines.append(f'left out: {", ".join(modules)}')
    if written.settings is not None:
        lines.append(f'not in the file: its images are {written.settings}')
    return '\n'.join(lines)


def main() -> None:
    """Run the command; a mistake of the user ends in one line."""
    run_command(run, parse_args())


if __name__ == '__main__':
    main()
