"""Define what commands share that use a pretrained network on images."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.logging import print_log
from torch import nn

from swav_plugin.apis import get_model
from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.checkpoints.zoo import checkpoint_source
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import named_path
from swav_plugin.inference.batches import settings_of
from swav_plugin.inference.files import check_folder_of


def add_arguments(parser: argparse.ArgumentParser, contents: str) -> None:
    """Add the arguments: a network, a folder of images and one for results.

    Args:
        parser: Parser of the command.
        contents: What the folder of results will hold.
    """
    add_network(
        parser,
        'FOLDER',
        f'new folder for {contents}; appears whole or not at all',
    )
    parser.add_argument(
        '--features',
        metavar='FILE',
        help='what `swav extract` or this command has written of FOLDER with '
        'MODEL: nothing is computed again',
    )


def add_model_and_images(
    parser: argparse.ArgumentParser, images: str, out: str
) -> None:
    """Add the arguments of a network, of images and of where to write.

    Args:
        parser: Parser of the command.
        images: What to call the images, such as 'FOLDER'.
        out: What OUT is.
    """
    parser.add_argument(
        'model',
        metavar='MODEL',
        help='checkpoint: a file, a URL, the name of a model of the zoo, or a '
        'work dir, whose newest one it is',
    )
    parser.add_argument(
        images.lower(),
        metavar=images,
        help='images, at any depth; also a pattern such as "a/**/*.jpg", or '
        'a .txt file with a path on each line',
    )
    parser.add_argument('out', metavar='OUT', help=out)
    parser.add_argument(
        '--config',
        help='config of the network, if it cannot be told from the '
        'checkpoint; also its mean, std, epsilon and temperature (default: '
        'as the checkpoint says if this package trained it, else those of '
        'SwAV on ImageNet)',
    )
    parser.add_argument(
        '--size',
        type=int,
        help='height and width of images in pixels (default: as the '
        'checkpoint says if this package trained it, else 224)',
    )


def add_network(
    parser: argparse.ArgumentParser, images: str, out: str
) -> None:
    """Add those arguments, and how to run the network over many images.

    Args:
        parser: Parser of the command.
        images: As for `add_model_and_images`.
        out: The same.
    """
    add_model_and_images(parser, images, out)
    parser.add_argument(
        '--batch-size',
        type=int,
        default=64,
        help='images per forward pass (default: 64)',
    )
    parser.add_argument(
        '--workers',
        type=int,
        help='processes that load images (default: as fits the machine)',
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


def check_numbers(args: argparse.Namespace, **least: int) -> None:
    """Check that options, where they are given, are not below a number.

    Raises:
        UsageError: One is.
    """
    for name, minimum in least.items():
        value = getattr(args, name)
        if value is not None and value < minimum:
            option = name.replace('_', '-')
            raise UsageError(f'--{option} {value}: give {minimum} or more')


def check_out(out: str, source: str) -> Path:
    """Check that a new folder can be made, before anything is computed.

    Raises:
        UsageError: It exists, cannot be made, or would be among the images.
    """
    path = Path(named_path('OUT', out))
    if os.path.lexists(path):
        raise UsageError(
            f'{out} exists already; give a new folder, or remove it'
        )
    root = os.path.realpath(os.path.expanduser(source))
    if os.path.isdir(root) and Path(root) in Path(path).resolve().parents:
        raise UsageError(
            f'{out} is inside {source}, so the next run would take results '
            'for images; give a folder elsewhere'
        )
    check_folder_of(path)
    return path


def open_model(
    args: argparse.Namespace, device: str | None = None
) -> nn.Module:
    """Build the network of the command line, with its weights.

    Where no --size is given, that of the network is noted as if it were; and
    the checkpoint, where a work dir is given. The config of a work dir is
    read if its network is one that weights alone do not tell.
    """
    with mistakes():
        given, args.model = args.model, checkpoint_source(args.model)
        configs = [*Path(given).glob('*.py')] if given != args.model else []
        if args.config is None:
            try:
                model = get_model(args.model, device)
            except CheckpointError:
                raise
            except ValueError:
                if len(configs) != 1:
                    raise
                args.config = str(configs[0])
                print_log(
                    f'{given}: its network is that of {args.config}',
                    'current',
                )
        if args.config is not None:
            model = get_model(args.config, device, checkpoint=args.model)
    args.size = settings_of(model, args.size).size
    return model


@contextmanager
def mistakes() -> Iterator[None]:
    """Treat errors about files, images and weights as the user's.

    Raises:
        UsageError: In place of an OSError or a ValueError.
    """
    try:
        yield
    except (UsageError, CheckpointError):
        raise
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
