"""Register swav_plugin's classes, under the scope ``swav_plugin``.

A name that is not ours is looked up in mmpretrain, then in mmengine. So a
config with ``default_scope = 'swav_plugin'`` says ``type='ResNet'`` for
mmpretrain's and ``type='SwAV'`` for ours.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mmpretrain.registry
from mmengine.registry import FUNCTIONS, STRATEGIES, Registry


def _child(parent: Registry, *locations: str) -> Registry:
    """Make our child of `parent`; `locations` are imported at first use."""
    # mmengine imports the locations of the registry that it asks, not those of
    # its parents: without the parent's, `ResNet` would not be found.
    child = Registry(
        parent.name,
        parent=parent,
        scope='swav_plugin',
        locations=[*parent._locations, *locations],
    )
    # Names such as `swav_plugin.SwAV` are looked up in the direct children of
    # the root; without this no other scope, such as mmdet's, finds ours.
    root = parent._get_root_registry()
    if root is not parent:
        root._add_child(child)
    return child


MODELS = _child(mmpretrain.registry.MODELS, 'swav_plugin.models')
DATASETS = _child(
    mmpretrain.registry.DATASETS,
    'swav_plugin.datasets',
    'swav_plugin.datasets.cifar',  # imports mmpretrain's, which takes long
)
TRANSFORMS = _child(mmpretrain.registry.TRANSFORMS, 'swav_plugin.datasets')
DATA_SAMPLERS = _child(
    mmpretrain.registry.DATA_SAMPLERS, 'swav_plugin.datasets'
)
HOOKS = _child(
    mmpretrain.registry.HOOKS, 'swav_plugin.engine', 'swav_plugin.report'
)
OPTIMIZERS = _child(mmpretrain.registry.OPTIMIZERS, 'swav_plugin.engine')
OPTIM_WRAPPERS = _child(
    mmpretrain.registry.OPTIM_WRAPPERS, 'swav_plugin.engine'
)
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    mmpretrain.registry.OPTIM_WRAPPER_CONSTRUCTORS, 'swav_plugin.engine'
)
MODEL_WRAPPERS = _child(
    mmpretrain.registry.MODEL_WRAPPERS, 'swav_plugin.engine'
)
LOG_PROCESSORS = _child(
    mmpretrain.registry.LOG_PROCESSORS, 'swav_plugin.engine'
)
LOOPS = _child(mmpretrain.registry.LOOPS, 'swav_plugin.evaluation')
METRICS = _child(mmpretrain.registry.METRICS, 'swav_plugin.evaluation')

# We add nothing to these, but mmengine looks for a child of the default scope:
# without one it warns and searches the root only, and does not find
# mmpretrain's Accuracy. With an empty list of locations mmengine would import
# `swav_plugin.utils`, so name a module that is loaded already.
for _parent in (
    mmpretrain.registry.RUNNERS,
    mmpretrain.registry.RUNNER_CONSTRUCTORS,
    mmpretrain.registry.PARAM_SCHEDULERS,
    mmpretrain.registry.WEIGHT_INITIALIZERS,
    mmpretrain.registry.TASK_UTILS,
    mmpretrain.registry.EVALUATORS,
    mmpretrain.registry.VISUALIZERS,
    mmpretrain.registry.VISBACKENDS,
    mmpretrain.registry.BATCH_AUGMENTS,
    FUNCTIONS,
    STRATEGIES,
):
    _child(_parent, __name__)


def build_transforms(transforms: Sequence[dict | Callable]) -> list[Callable]:
    """Build those transforms that are dicts, in swav_plugin's scope.

    mmengine would look them up in its default scope only.
    """
    return [
        TRANSFORMS.build(transform)
        if isinstance(transform, dict)
        else transform
        for transform in transforms
    ]


def type_name(kind: Any) -> str:
    """Return the name of a class, without a scope, from itself or a config."""
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]
