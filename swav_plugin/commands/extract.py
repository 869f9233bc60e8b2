"""Write features of images to a file.

    swav extract MODEL IMAGES OUT.npy

MODEL is the name of a model of the zoo, a checkpoint or a URL. IMAGES is a
folder, a file, a pattern ('photos/**/*.jpg') or a .txt list. OUT ends with
.npy, .safetensors or .parquet. The same command goes on where it was ended.
"""

import argparse
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from torch.multiprocessing.spawn import ProcessExitedException

from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import named_path, run_command
from swav_plugin.engine.processes import end_with_parent
from swav_plugin.engine.screen import quiet_dependencies
from swav_plugin.inference.batches import Extraction
from swav_plugin.inference.files import check_out, unreadable_file
from swav_plugin.inference.images import list_images
from swav_plugin.inference.layers import LAYERS, check_layer
from swav_plugin.inference.parts import (
    Parts,
    fill_parts,
    open_parts,
    put_together,
)
from swav_plugin.inference.progress import Progress

from .pretrained import add_network, check_numbers, mistakes, open_model

_IMAGES = 'images'  # in the folder of parts: the paths, for all processes


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_network(parser, 'IMAGES', 'the file to write')
    parser.add_argument(
        '--layer',
        choices=LAYERS,
        default='avgpool',
        metavar='LAYER',
        help=f'{", ".join(LAYERS)} (default: avgpool)',
    )
    parser.add_argument(
        '--gpus',
        type=int,
        default=1,
        help='GPUs, or CPU processes (default: 1)',
    )
    parser.add_argument(
        '--amp', action='store_true', help='compute in half precision'
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace OUT if it exists'
    )
    return parser.parse_args(argv)


def _open_model(args: argparse.Namespace, device: str) -> Any:
    """Build the network that the command line names, on a device."""
    model = open_model(args, device)
    if device != 'cpu':
        # As tensor cores read them.
        model.to(memory_format=torch.channels_last)
    check_layer(model, args.layer)
    return model


def extract(args: argparse.Namespace) -> None:
    """Compute what is missing, and write it.

    Raises:
        UsageError: An argument does not fit, or too many images cannot be
            read.
    """
    out = Path(named_path('OUT', args.out))
    check_numbers(args, size=1, batch_size=1, workers=0, gpus=1)
    device = get_device()
    if device != 'cpu' and args.gpus > torch.cuda.device_count():
        raise UsageError(
            f'--gpus {args.gpus}: only {torch.cuda.device_count()} are visible'
        )
    with mistakes():
        # Before a model is downloaded.
        check_out(out, (), args.overwrite, args.images)
        job = _job(args, list_images(args.images))
        model = _open_model(args, device if args.gpus == 1 else 'cpu')
        with (
            open_parts(out, model, job, args.overwrite, args.images) as parts,
            closing(Progress(len(job.samples))) as progress,
        ):
            progress.skip(parts.num_done())
            if args.gpus == 1:
                fill_parts(model, parts, progress.advance, args.workers)
            else:
                del model
                _fill_in_processes(args, parts, progress)
            unreadable = put_together(parts, out)
    if unreadable:
        print(
            f'{len(unreadable):,} images cannot be read and were left out: '
            f'{unreadable_file(out)}',
            file=sys.stderr,
        )
    print(out)


def _job(
    args: argparse.Namespace, samples: list[dict[str, Any]]
) -> Extraction:
    """Return what the command line wants of these images."""
    return Extraction(
        samples,
        args.layer,
        args.size,
        args.batch_size,
        args.amp,
        skip_unreadable=True,
    )


def _fill_in_processes(
    args: argparse.Namespace, parts: Parts, progress: Progress
) -> None:
    """Let each of several processes compute its share of the parts."""
    # Not as an argument: where a process dies early, Python would wait for
    # ever for it to read a long one.
    paths = [sample['img_path'] for sample in parts.job.samples]
    write_atomic(parts.folder / _IMAGES, json.dumps(paths))
    spawn = torch.multiprocessing.get_context('spawn')
    # One number for each process and no lock, which a killed one might hold.
    counts, errors = spawn.RawArray('q', args.gpus), spawn.SimpleQueue()
    context = torch.multiprocessing.spawn(
        _fill_share,
        (args, parts.folder, counts, errors),
        args.gpus,
        join=False,
    )
    shown = 0
    try:
        while not context.join(timeout=0.2):
            count = sum(counts)
            progress.advance(count - shown)
            shown = count
    except ProcessExitedException as error:
        if not errors.empty():
            raise UsageError(errors.get()) from None
        raise UsageError(
            f'{error}; the same command goes on where it ended'
        ) from None
    progress.advance(sum(counts) - shown)


def _fill_share(
    rank: int,
    args: argparse.Namespace,
    folder: Path,
    counts: Any,
    errors: Any,
) -> None:
    """Compute the share of one process; leave a mistake in `errors`."""
    end_with_parent()
    device = get_device()
    paths = json.loads((folder / _IMAGES).read_text())
    parts = Parts(_job(args, [dict(img_path=path) for path in paths]), folder)

    def advance(count: int) -> None:
        counts[rank] += count

    try:
        with quiet_dependencies(), mistakes():
            model = _open_model(
                args, device if device == 'cpu' else f'{device}:{rank}'
            )
            fill_parts(model, parts, advance, args.workers, rank, args.gpus)
    except UsageError as error:
        errors.put(str(error))
        sys.exit(2)


def main() -> None:
    """Extract; a mistake of the user ends in one line."""
    run_command(
        extract,
        parse_args(),
        interrupted='interrupted; the same command goes on where it ended',
    )


if __name__ == '__main__':
    main()
