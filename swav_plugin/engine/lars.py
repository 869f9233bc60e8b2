"""LARS: layer-wise adaptive rate scaling around SGD."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from swav_plugin.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class LARS(Optimizer):
    r"""SGD whose gradients are scaled to the norm of each tensor.

    For each tensor w with gradient g, if neither is all zero:

    .. math:: a = \frac{\eta \lVert w \rVert}
                       {\lVert g \rVert + \lambda \lVert w \rVert + \epsilon},
              \quad g \leftarrow a \, (g + \lambda w)

    else g is taken as it is, without decay. Then m <- mu m + g and
    w <- w - lr m: the learning rate stays outside the momentum, so a change
    of it acts at once. This is NVIDIA apex' LARC around torch's SGD, which
    SwAV used, and not the LARS of mmselfsup or mmpretrain, whose momentum
    holds lr * g.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate, >= 0.
        momentum: mu, >= 0.
        weight_decay: lambda, >= 0. Applied to every tensor of a group, biases
            and norms too; use parameter groups to exclude some.
        trust_coefficient: eta, > 0.
        clip: Take min(a / lr, 1) in place of a, so that the step is never
            larger than that of SGD (LARC).
        eps: epsilon, > 0.

    Raises:
        ValueError: An argument is out of range.

    No value is read back to the host in a step.

    Source: LARS (arXiv:1708.03888), section 5; apex' LARC as used by SwAV.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0,
        trust_coefficient: float = 1e-3,
        clip: bool = False,
        eps: float = 1e-8,
    ) -> None:
        for name, value in dict(
            lr=lr, momentum=momentum, weight_decay=weight_decay
        ).items():
            if value < 0:
                raise ValueError(f'LARS got {name}={value}; it must be >= 0.')
        if trust_coefficient <= 0 or eps <= 0:
            raise ValueError(
                f'LARS got trust_coefficient={trust_coefficient} and '
                f'eps={eps}; both must be > 0 (SwAV: 1e-3 and 1e-8).'
            )
        defaults = dict(
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            trust_coefficient=trust_coefficient,
            clip=clip,
            eps=eps,
        )
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], Tensor] | None = None
    ) -> Tensor | None:
        """Update all parameters that have a gradient.

        Args:
            closure: Computes the loss again and returns it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group['params'] if p.grad is not None]
            if params:
                self._step_group(params, group)
        return loss

    def _step_group(self, params: list[Tensor], group: dict[str, Any]) -> None:
        updates = self._scaled_gradients(params, group)
        momentum = group['momentum']
        if momentum:
            for param, update in zip(params, updates):
                if 'momentum_buffer' not in self.state[param]:
                    self.state[param]['momentum_buffer'] = torch.zeros_like(
                        param
                    )
            buffers = [self.state[p]['momentum_buffer'] for p in params]
            torch._foreach_mul_(buffers, momentum)
            torch._foreach_add_(buffers, updates)
            updates = buffers
        torch._foreach_add_(params, updates, alpha=-group['lr'])

    @staticmethod
    def _scaled_gradients(
        params: list[Tensor], group: dict[str, Any]
    ) -> list[Tensor]:
        """Return a * (g + lambda * w) of each parameter, as new tensors."""
        grads = [p.grad for p in params if p.grad is not None]  # all have one
        decay = group['weight_decay']
        param_norms = torch.stack(torch._foreach_norm(params))
        grad_norms = torch.stack(torch._foreach_norm(grads))
        rates = (
            group['trust_coefficient']
            * param_norms
            / (grad_norms + decay * param_norms + group['eps'])
        )
        if group['clip']:
            rates = (rates / group['lr']).clamp(max=1)
        # A branch on the norms would make the host wait for the device. A
        # gradient of zeros is left as it is; rate 0 also drops its decay.
        rates = torch.where(param_norms > 0, rates, 1) * (grad_norms > 0)
        updates = torch._foreach_add(grads, params, alpha=decay)
        torch._foreach_mul_(updates, rates.unbind())
        return list(updates)
