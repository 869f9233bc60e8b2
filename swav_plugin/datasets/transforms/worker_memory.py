"""Memory for what a worker hands over to the main process."""

import torch
from torch import Tensor
from torch.utils.data import get_worker_info


def new_bytes(num_bytes: int) -> Tensor:
    """Return an empty (num_bytes,) uint8 tensor.

    In a worker it is in shared memory, from which the main process takes it
    without a copy, as torch's own default_collate does.
    """
    if get_worker_info() is None:
        return torch.empty(num_bytes, dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(num_bytes)
    return torch.empty(0, dtype=torch.uint8).set_(storage)
