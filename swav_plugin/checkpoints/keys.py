"""The names of weights in every known SwAV layout, and ours for them.

Known layouts: ours, upstream's released and training files
(`module.conv1.weight`, `projection_head.0.weight`, `prototypes.weight`),
mmselfsup 0.x and 1.x, mmpretrain, and bare backbones.
"""

import re
from collections.abc import Mapping

from torch import Tensor

# The first rule that matches a key renames it; None drops it.
_RULES = [
    # Ours.
    (
        r'(backbone\..*|neck\.projection\..*|head\.prototypes\.\d+\.weight'
        r'|head\.queue\..*)',
        r'\1',
    ),
    # mmselfsup and mmpretrain. `neck.norm` repeats `projection_neck.1`.
    (r'neck\.projection_neck\.(.*)', r'neck.projection.\1'),
    (r'neck\.norm\..*', None),
    (
        r'head\.(?:loss_module\.|loss\.)?prototypes\.weight',
        'head.prototypes.0.weight',
    ),
    (
        r'head\.(?:loss_module\.|loss\.)?prototypes\.prototypes(\d+)\.weight',
        r'head.prototypes.\1.weight',
    ),
    # Upstream.
    (r'projection_head\.(.*)', r'neck.projection.\1'),
    (r'prototypes\.weight', 'head.prototypes.0.weight'),
    (r'prototypes\.prototypes(\d+)\.weight', r'head.prototypes.\1.weight'),
    # The mean and std of a data preprocessor belong to the config.
    (r'data_preprocessor\..*', None),
    # Anything without a prefix is part of a bare backbone.
    (r'(?!neck\.|head\.|prototypes|projection_head)(.*)', r'backbone.\1'),
]


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of any known SwAV layout to those of our `SwAV`.

    Args:
        state_dict: Names to tensors, e.g. upstream's, with or without
            `module.` in front.

    Returns:
        `backbone.*`, `neck.projection.*` and `head.*`. Keys of other heads,
        such as a classifier's, keep their names.

    >>> list(convert_state_dict({'module.prototypes.weight': Tensor()}))
    ['head.prototypes.0.weight']
    """
    converted = {}
    for key, value in state_dict.items():
        key = key.removeprefix('module.')
        new_key: str | None = key
        for pattern, name in _RULES:
            match = re.fullmatch(pattern, key)
            if match:
                new_key = match.expand(name) if name is not None else None
                break
        if new_key is not None:
            converted[new_key] = value
    return converted


def backbone_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the backbone alone, under its own names.

    Args:
        state_dict: As for `convert_state_dict`.

    >>> list(backbone_weights({'module.conv1.weight': Tensor()}))
    ['conv1.weight']
    """
    prefix = 'backbone.'
    return {
        key.removeprefix(prefix): value
        for key, value in convert_state_dict(state_dict).items()
        if key.startswith(prefix)
    }
