"""Several processes and mixed precision without a GPU.

mmengine supports neither: its DDP always names a CUDA device and its
``AmpOptimWrapper`` asserts one. On a machine without a GPU our commands use
these instead; a config need not mention them.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from swav_plugin.registry import MODEL_WRAPPERS, OPTIM_WRAPPERS


@MODEL_WRAPPERS.register_module()
class CPUDistributedDataParallel(MMDistributedDataParallel):
    """mmengine's DDP for processes that compute on the CPU (gloo).

    torch's SyncBN refuses CPU tensors, so SyncBN layers become plain BN: each
    process then normalizes with the statistics of its own images, and the log
    says so.

    Args:
        module: The model, on the CPU.
        device_ids: Ignored: mmengine passes one, DDP on CPU allows none.
        broadcast_buffers: Off as in mmengine's default wrapper; torch's own
            default would copy rank 0's buffers before each step.
        **kwargs: Passed on to torch's ``DistributedDataParallel``.
    """

    def __init__(
        self,
        module: nn.Module,
        device_ids: list[int] | None = None,
        broadcast_buffers: bool = False,
        **kwargs: Any,
    ) -> None:
        num_sync_bn = sum(
            isinstance(m, nn.SyncBatchNorm) for m in module.modules()
        )
        if num_sync_bn:
            module = revert_sync_batchnorm(module)
            print_log(
                f'{num_sync_bn} SyncBN layers became plain BN, because SyncBN '
                'needs a GPU: batch statistics are per process, so results '
                'depend on the number of processes. GroupNorm or frozen BN '
                'does not.',
                logger='current',
                level=logging.WARNING,
            )
        super().__init__(
            module=module, broadcast_buffers=broadcast_buffers, **kwargs
        )


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """``OptimWrapper`` with forward passes in bfloat16 on the CPU.

    bfloat16 has float32's range, so no loss scaling is needed.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast the forward pass to bfloat16."""
        hook = register_module_forward_pre_hook(_widen)
        try:
            with (
                super().optim_context(model),
                torch.autocast('cpu', dtype=torch.bfloat16),
            ):
                yield
        finally:
            hook.remove()


def _widen(module: nn.Module, args: tuple[Tensor, ...]) -> Any:
    """Pad the input of a convolution that is narrower than the stride.

    With AVX-512, oneDNN (3.12, torch 2.14) computes the bfloat16 gradient of
    such a convolution's weights from memory that nobody wrote. A ResNet has
    one for views of 16 px. Zeros on the right leave the output as it is.
    """
    if not isinstance(module, nn.Conv2d) or isinstance(module.padding, str):
        return None
    width, stride = args[0].shape[-1], module.stride[1]
    reach = module.dilation[1] * (module.kernel_size[1] - 1) + 1
    ends = [each + 2 * module.padding[1] - reach for each in (width, stride)]
    if width >= stride or ends[0] < 0 or ends[1] >= stride:
        return None
    return (F.pad(args[0], (0, stride - width)),)
