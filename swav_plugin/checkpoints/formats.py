"""Containers of weights: from a file of any known kind to a state dict."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .file_kind import CheckpointError
from .safe_load import safe_load


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the weights in a file without running code from it.

    Args:
        path: A file written by `torch.save`: a state dict, or a dict that
            holds one under 'state_dict'.

    Returns:
        Names to tensors, as they are in the file, on the CPU.

    Raises:
        CheckpointError: The file holds no state dict, or as `safe_load`.
    """
    content = safe_load(path, 'cpu')
    if isinstance(content, Mapping):
        content = content.get('state_dict', content)
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise CheckpointError(
            f'{path} holds no weights; expected names with tensors, or a '
            "dict that has them under 'state_dict'."
        )
    return dict(content)
