"""The optimizer of a linear probe: a parameter group per learning rate."""

from typing import Any

from mmengine.optim import OptimWrapper

from swav_plugin.models.multi_linear_head import MultiLinearHead
from swav_plugin.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
)

from .wrappers import unwrap


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ProbeOptimConstructor:
    """Give the optimizer the classifiers alone, each at its learning rate.

    The rates are those of `model.head.learning_rates`; a scheduler scales all
    of them. Nothing of the backbone is in the optimizer, so that neither
    momentum nor decay can reach it.

    >>> optim_wrapper = dict(
    ...     type='OptimWrapper',
    ...     constructor='ProbeOptimConstructor',
    ...     optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4))

    Args:
        optim_wrapper_cfg: Config of the wrapper, its optimizer without `lr`.
        paramwise_cfg: None; probes have no exceptions.

    Raises:
        ValueError: The learning rate is given twice, or the model has no
            `MultiLinearHead`.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        self._wrapper = dict(optim_wrapper_cfg)
        self._optimizer = dict(self._wrapper.pop('optimizer'))
        if paramwise_cfg or 'lr' in self._optimizer:
            raise ValueError(
                'the learning rates of a linear probe are in '
                'model.head.learning_rates, e.g. [0.3] or [0.1, 0.3, 1.0], '
                'and apply to all its parameters; leave '
                'optim_wrapper.optimizer.lr and paramwise_cfg out.'
            )

    def __call__(self, model: Any) -> OptimWrapper:
        """Build the optimizer and its wrapper."""
        model = unwrap(model)
        head = getattr(model, 'head', None)
        if not isinstance(head, MultiLinearHead):
            raise ValueError(
                'ProbeOptimConstructor works on a model with a '
                f'MultiLinearHead but got a {type(model).__name__} with head '
                f'{type(head).__name__}; leave optim_wrapper.constructor out.'
            )
        groups = list(head.parameter_groups())
        # LARS wants a rate besides the groups' own.
        optimizer = OPTIMIZERS.build(
            dict(self._optimizer, params=groups, lr=groups[0]['lr'])
        )
        return OPTIM_WRAPPERS.build(
            dict(
                self._wrapper,
                type=self._wrapper.get('type', 'OptimWrapper'),
                optimizer=optimizer,
            )
        )
