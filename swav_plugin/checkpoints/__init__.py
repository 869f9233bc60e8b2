"""Checkpoint files: find, read, convert, load and write them.

Names are imported when they are first asked for: `swav zoo list` needs none
of torch, which takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .atomic import AtomicBackend
    from .checkpoint import Checkpoint, describe_checkpoint, read_checkpoint
    from .describe import Description
    from .keys import convert_state_dict
    from .load import load_backbone, load_model, load_shared_head
    from .zoo import RANDOM, checkpoint_name, checkpoint_path

_HOMES = dict(
    RANDOM='zoo',
    AtomicBackend='atomic',
    Checkpoint='checkpoint',
    Description='describe',
    checkpoint_name='zoo',
    checkpoint_path='zoo',
    convert_state_dict='keys',
    describe_checkpoint='checkpoint',
    load_backbone='load',
    load_model='load',
    load_shared_head='load',
    read_checkpoint='checkpoint',
)

__all__ = [
    'RANDOM',
    'AtomicBackend',
    'Checkpoint',
    'Description',
    'checkpoint_name',
    'checkpoint_path',
    'convert_state_dict',
    'describe_checkpoint',
    'load_backbone',
    'load_model',
    'load_shared_head',
    'read_checkpoint',
]


def __getattr__(name: str) -> Any:
    """Import the module in which a name is defined."""
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'.{_HOMES[name]}', __name__), name)
