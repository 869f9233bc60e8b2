"""A checkpoint that somebody named: found once, read once."""

from functools import cached_property
from pathlib import Path

from torch import Tensor

from swav_plugin.compat.moved import renamed_arguments

from .cache import hash_file
from .describe import Description, describe_weights
from .file_kind import find_container
from .formats import Content, read_content
from .model_settings import ModelSettings, read_settings
from .zoo import checkpoint_name, checkpoint_path


class Checkpoint:
    """A file with weights.

    It is found, read and hashed when that is first asked for, and only then.
    Whoever needs the same weights several times makes one of these and hands
    it on.

    Args:
        source: A path, a URL or the name of a model of the zoo, as for
            `checkpoint_path`.

    >>> checkpoint = Checkpoint('work/epoch_8.pth')
    >>> print(checkpoint, checkpoint.name)
    work/epoch_8.pth work/epoch_8
    """

    def __init__(self, source: str | Path) -> None:
        self.source = str(source)

    def __str__(self) -> str:
        return self.source

    @property
    def name(self) -> str:
        """A short name that tells it from others; see `checkpoint_name`."""
        return checkpoint_name(self.source)

    @cached_property
    def path(self) -> Path:
        """The file, downloaded if need be.

        Raises:
            FileNotFoundError, ValueError, ConnectionError: As
                `checkpoint_path`.
        """
        return checkpoint_path(self.source)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, as 64 hexadecimal digits."""
        return hash_file(self.path)

    @cached_property
    def content(self) -> Content:
        """The weights and what is said of them; kept until `drop`.

        Raises:
            ValueError: As `read_content`; besides the errors of `path`.
        """
        return read_content(self.path)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Names to tensors, as they are in the file; raises as `content`."""
        return self.content.weights

    @property
    def settings(self) -> ModelSettings | None:
        """What it says of its images; None in files of other projects.

        Raises:
            CheckpointError: It is damaged; besides the errors of `content`.
        """
        return read_settings(self.content.meta, self)

    @cached_property
    def container(self) -> str:
        """What holds the weights: 'torch', 'safetensors' or 'pickle'."""
        with open(self.path, 'rb') as file:
            return find_container(file)

    def drop(self) -> None:
        """Free the memory of the weights."""
        self.__dict__.pop('content', None)


@renamed_arguments(path='checkpoint')
def read_checkpoint(checkpoint: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint without running code from it.

    Args:
        checkpoint: A path, a URL or the name of a model of the zoo, as for
            `checkpoint_path`.

    Returns:
        Names to tensors, as they are in the file, on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ConnectionError: It could not be downloaded.
        ValueError: The file holds no weights, or wants to run code.
    """
    return Checkpoint(checkpoint).weights


def describe_checkpoint(checkpoint: str | Path | Checkpoint) -> Description:
    """Say what a checkpoint is.

    Args:
        checkpoint: A file, a URL or the name of a model of the zoo.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: As `read_checkpoint`.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint(checkpoint)
    return describe_weights(checkpoint.weights, checkpoint.container)
