"""Checkpoint files: finding, reading, converting and writing them."""

from .atomic import AtomicBackend
from .keys import (
    convert_state_dict,
    load_backbone,
    load_model,
    load_shared_head,
    read_checkpoint,
)
from .zoo import checkpoint_name, checkpoint_path

__all__ = [
    'AtomicBackend',
    'checkpoint_name',
    'checkpoint_path',
    'convert_state_dict',
    'load_backbone',
    'load_model',
    'load_shared_head',
    'read_checkpoint',
]
