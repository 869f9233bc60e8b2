"""Checkpoint files: find, read, convert, load and write them."""

from .atomic import AtomicBackend
from .checkpoint import Checkpoint, read_checkpoint
from .describe import Description, describe_checkpoint
from .keys import convert_state_dict
from .load import load_backbone, load_model, load_shared_head
from .zoo import RANDOM, checkpoint_name, checkpoint_path

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
