"""MultiLinearHead: many linear classifiers that learn side by side.

Letters for shapes: N images, C channels of a feature, Y classes, P classifiers
(probes), one for each feature and learning rate.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModule
from torch import Tensor, nn

from swav_plugin.registry import MODELS


class FeatureNorm(nn.Module):
    """Batch norm without scale and shift for features without gradients.

    The statistics cover the images of all ranks, on CPU and GPU alike. In one
    process it is torch's BatchNorm with affine=False.

    Args:
        num_channels: C.
        momentum: Weight of a batch in the running statistics.
        eps: Added to the variance.
    """

    def __init__(
        self, num_channels: int, momentum: float = 0.1, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer('running_mean', torch.zeros(num_channels))
        self.register_buffer('running_var', torch.ones(num_channels))

    def forward(self, rows: Tensor) -> Tensor:
        """Normalize (N, C, windows) over images and windows."""
        if self.training:
            mean, var = self._batch_statistics(rows.detach())
        else:
            mean, var = self.running_mean, self.running_var
        scale = (var + self.eps).rsqrt()
        return (rows - mean[:, None]) * scale[:, None]

    def _batch_statistics(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance over all ranks, (C,) each.

        They also go into the running statistics.
        """
        count = len(rows) * rows.shape[2]
        if count * get_world_size() < 2:
            raise ValueError(
                'batch norm of a single image is all zeros; set '
                'train_dataloader.batch_size to 2 or more.'
            )
        var, mean = torch.var_mean(rows, (0, 2), correction=0)
        dtype = rows.dtype
        total: float | Tensor = count
        if get_world_size() > 1:
            # float64, for the variance is the difference of two of these.
            mean = mean.double()
            moments = (
                torch.cat([mean, var + mean.square(), mean.new_ones(1)])
                * count
            )
            all_reduce(moments)
            total = moments[-1]
            mean, square = (moments[:-1] / total).chunk(2)
            var = (square - mean.square()).clamp_min(0).to(dtype)
            mean = mean.to(dtype)
        unbiased = (var * (total / (total - 1))).to(dtype)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)
        return mean, var


@MODELS.register_module()
class MultiLinearHead(BaseModule):
    """One linear classifier for each feature and each learning rate.

    Probes do not influence each other: features have no gradients, and each
    probe has its own parameters and loss. The probes of one feature start
    from the same weights. Always in float32, under autocast too.

    Args:
        shapes: (C, windows) of each feature; `LinearProbe` gives them.
        num_classes: Y.
        learning_rates: The rates to try; the optimizer takes them from here.
        batch_norm: Pass features through a `FeatureNorm`, as mmselfsup does.

    Raises:
        ValueError: There is no learning rate, or one is listed twice.

    Source: mmselfsup's MultiClsHead, after Goyal et al. (arXiv:1905.01235).
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        num_classes: int,
        learning_rates: Sequence[float],
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        rates = [float(rate) for rate in learning_rates]
        names = [f'lr{rate:g}' for rate in rates]
        if not rates or len(set(names)) < len(names) or min(rates) <= 0:
            raise ValueError(
                f'MultiLinearHead got learning_rates={learning_rates}; give '
                'one or more rates > 0, each once, e.g. [0.01] or '
                '[0.003, 0.01, 0.03].'
            )
        self.num_classes = num_classes
        self.learning_rates = rates
        self.batch_norm = batch_norm
        self.norms = nn.ModuleDict(
            {
                name: FeatureNorm(num_channels)
                if batch_norm
                else nn.Identity()
                for name, (num_channels, _) in shapes.items()
            }
        )
        self.classifiers: Any = nn.ModuleDict()
        for name, (num_channels, num_windows) in shapes.items():
            linear = nn.Linear(num_channels * num_windows, num_classes)
            nn.init.normal_(linear.weight, std=0.01)
            nn.init.zeros_(linear.bias)
            copies = [copy.deepcopy(linear) for _ in rates[1:]]
            self.classifiers[name] = nn.ModuleList([linear, *copies])
        # Metrics and losses have these names.
        self.probes = [
            name if len(rates) == 1 else f'{name}/{rate}'
            for name in shapes
            for rate in names
        ]

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Score each class with each probe.

        Args:
            features: (N, C, windows) each.

        Returns:
            (N, P, Y) scores.
        """
        scores = []
        device = next(iter(features.values())).device.type
        with torch.autocast(device, enabled=False):
            for name, linears in self.classifiers.items():
                rows = features[name].to(linears[0].weight.dtype)
                rows = self.norms[name](rows).flatten(1)
                scores += [linear(rows) for linear in linears]
        return torch.stack(scores, dim=1)

    def loss(
        self, features: Mapping[str, Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        """Return the cross-entropy of each probe; mmengine adds them up.

        Args:
            features: (N, C, windows) each.
            labels: (N,) in 0 to Y - 1.
        """
        scores = self.forward(features).unbind(1)
        return {
            f'{probe}/loss': F.cross_entropy(each, labels)
            for probe, each in zip(self.probes, scores)
        }

    def parameter_groups(self) -> Iterator[dict]:
        """Yield each learning rate with the parameters that follow it."""
        for index, rate in enumerate(self.learning_rates):
            yield dict(
                lr=rate,
                params=[
                    parameter
                    for linears in self.classifiers.values()
                    for parameter in linears[index].parameters()
                ],
            )
