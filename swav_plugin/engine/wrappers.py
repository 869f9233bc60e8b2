"""Look through what torch and mmengine wrap around a model."""

from typing import Any

from mmengine.model import is_model_wrapper
from torch import nn


def unwrap(model: nn.Module) -> Any:
    """Return the model itself, without a wrapper such as DDP's around it.

    >>> model = nn.Linear(2, 1)
    >>> unwrap(nn.DataParallel(model)) is unwrap(model) is model
    True
    """
    return model.module if is_model_wrapper(model) else model
