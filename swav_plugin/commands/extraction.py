"""Compute features for a command: in one process or in several, with resume.

What is done lies on disk part by part; see `inference.parts`.
"""

import argparse
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from torch.multiprocessing.spawn import ProcessExitedException

from swav_plugin.checkpoints.atomic import new_folder, write_atomic
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.processes import check_gpus, end_with_parent
from swav_plugin.engine.screen import quiet_dependencies
from swav_plugin.engine.wording import counted
from swav_plugin.inference.batches import Extraction, files_of
from swav_plugin.inference.files import (
    ImageFeatures,
    read_features,
    unreadable_file,
)
from swav_plugin.inference.images import file_of
from swav_plugin.inference.parts import (
    Parts,
    fill_parts,
    open_parts,
    put_together,
)
from swav_plugin.inference.progress import Progress
from swav_plugin.inference.reuse import reuse_features

from .pretrained import check_numbers, mistakes, open_model

INTERRUPTED = 'interrupted; the same command goes on where it ended'
_IMAGES = 'images'  # in the folder of parts: the paths, for all processes
_FEATURES = 'features.npy'  # in the folder of results

Samples = list[dict[str, Any]]


def check_options(args: argparse.Namespace) -> None:
    """Check how features are to be computed, before anything is.

    Raises:
        UsageError: A number is out of range.
    """
    check_numbers(args, size=1, batch_size=1, workers=0, gpus=1)
    check_gpus(args.gpus)


def open_network(args: argparse.Namespace, device: str | None = None) -> Any:
    """Build the network that the command line names.

    Args:
        args: The command line.
        device: By default the GPU, or the CPU if other processes compute.
    """
    if device is None:
        device = get_device() if args.gpus == 1 else 'cpu'
    model = open_model(args, device)
    if device != 'cpu':
        # As tensor cores read them.
        model.to(memory_format=torch.channels_last)
    return model


@contextmanager
def computed_parts(
    args: argparse.Namespace,
    out: Path,
    model: Any,
    samples: Samples,
    layer: str,
    overwrite: bool = False,
) -> Iterator[Parts]:
    """Compute the features of images that no earlier run has computed.

    Args:
        args: The command line.
        out: The file or folder that features are for.
        model: From `open_network`.
        samples: The images.
        layer: What to compute.
        overwrite: Remove parts of another extraction.

    Yields:
        All parts, which stay until `remove` is called.
    """
    job = _job(args, samples, layer)
    with open_parts(out, model, job, overwrite) as parts:
        with closing(Progress(len(samples))) as progress:
            progress.skip(parts.num_done())
            if args.gpus == 1:
                fill_parts(model, parts, progress.advance, args.workers)
            else:
                _fill_in_processes(args, parts, progress)
        yield parts


def write_parts(parts: Parts, out: Path, shown: Path) -> list[str]:
    """Write the features of all parts to a file, and tell what it lacks.

    Args:
        parts: From `computed_parts`.
        out: The file.
        shown: Where it will be.

    Returns:
        The images that it has features of.
    """
    unreadable = put_together(parts, out)
    if unreadable:
        print(
            f'left out {counted(len(unreadable), "image")} that cannot be '
            f'read: {unreadable_file(shown)}',
            file=sys.stderr,
        )
    return files_of(parts.job, unreadable)


@contextmanager
def folder_of_results(
    args: argparse.Namespace,
    out: Path,
    model: Any,
    samples: Samples,
    layer: str,
) -> Iterator[tuple[Path, ImageFeatures]]:
    """Get the features of images, and make a folder for what comes of them.

    They are those of --features, or computed. The folder then has them, too:
    the next command need not compute them again.

    Args:
        args: The command line.
        out: The folder; it appears when all is written.
        model: From `open_network`.
        samples: The images.
        layer: What to compute.

    Yields:
        The folder that becomes `out`, and the features.
    """
    if args.features is not None:
        files = [file_of(sample) for sample in samples]
        found, missing = reuse_features(
            args.features, files, model, layer, args.size
        )
        if missing:
            print(
                f'left out {counted(len(missing), "image")} that '
                f'{args.features} has no features of, such as {missing[0]}',
                file=sys.stderr,
            )
        with new_folder(out) as folder:
            folder.mkdir()
            yield folder, found
        return
    with computed_parts(args, out, model, samples, layer) as parts:
        with new_folder(out) as folder:
            folder.mkdir()
            path = folder / _FEATURES
            files = write_parts(parts, path, out / _FEATURES)
            yield folder, ImageFeatures(read_features(path).features, files)
        parts.remove()


def describe_features(args: argparse.Namespace, layer: str) -> str:
    """Say which features these are, for a page."""
    if args.features is not None:
        return f'{layer}, from {args.features}'
    return f'{layer}, images of {args.size} px'


def _job(args: argparse.Namespace, samples: Samples, layer: str) -> Extraction:
    """Return what the command line wants of these images."""
    return Extraction(
        samples,
        layer,
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
    paths = [file_of(sample) for sample in parts.job.samples]
    write_atomic(parts.folder / _IMAGES, json.dumps(paths))
    spawn = torch.multiprocessing.get_context('spawn')
    # One number for each process and no lock, which a killed one might hold.
    counts, errors = spawn.RawArray('q', args.gpus), spawn.SimpleQueue()
    with _without_interrupts():
        context = torch.multiprocessing.spawn(
            _fill_share,
            (args, parts.job.layer, parts.folder, counts, errors),
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
    except KeyboardInterrupt:
        for process in context.processes:
            process.terminate()
        raise
    progress.advance(sum(counts) - shown)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let processes that are started ignore Ctrl-C: this one ends them.

    Each would write a traceback. A Ctrl-C in the meantime is not lost.
    """
    if not hasattr(signal, 'pthread_sigmask'):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _fill_share(
    rank: int,
    args: argparse.Namespace,
    layer: str,
    folder: Path,
    counts: Any,
    errors: Any,
) -> None:
    """Compute the share of one process; leave a mistake in `errors`."""
    end_with_parent()
    device = get_device()
    paths = json.loads((folder / _IMAGES).read_text())
    samples = [dict(img_path=path) for path in paths]
    parts = Parts(_job(args, samples, layer), folder)

    def advance(count: int) -> None:
        counts[rank] += count

    try:
        with quiet_dependencies(), mistakes():
            model = open_network(
                args, device if device == 'cpu' else f'{device}:{rank}'
            )
            fill_parts(model, parts, advance, args.workers, rank, args.gpus)
    except UsageError as error:
        errors.put(str(error))
        sys.exit(2)
