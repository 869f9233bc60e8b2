"""Write the backbone of a checkpoint as the pickle that detectron2 reads.

    to_detectron2.py CHECKPOINT OUT.pkl

CHECKPOINT is whatever tools/train.py --pretrained takes. In detectron2 set
MODEL.WEIGHTS to OUT.pkl and, as MoCo's configs do, INPUT.FORMAT RGB,
RESNETS.STRIDE_IN_1X1 False, BACKBONE.FREEZE_AT 0 and SyncBN; PIXEL_MEAN
[123.675, 116.28, 103.53] and PIXEL_STD [58.14, 57.12, 57.375].
"""

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from swav_plugin.checkpoints import read_checkpoint
from swav_plugin.checkpoints.atomic import open_atomic
from swav_plugin.checkpoints.keys import backbone_weights
from swav_plugin.checkpoints.training_state import check_finite

# Ends of names of a ResNet, and what detectron2 calls them.
_LAYERS = {
    r'conv(\d)\.': r'conv\1.',
    r'bn(\d)\.': r'conv\1.norm.',
    r'downsample\.0\.': 'shortcut.',
    r'downsample\.1\.': 'shortcut.norm.',
}


def convert_key(key: str) -> str:
    """Return detectron2's name of a tensor of a ResNet.

    Raises:
        ValueError: It is not in a ResNet whose stem is one convolution.

    >>> convert_key('bn1.weight'), convert_key('layer4.0.downsample.0.weight')
    ('stem.conv1.norm.weight', 'res5.0.shortcut.weight')
    """
    block = re.match(r'layer([1-4])\.(\d+)\.', key)
    where = f'res{int(block[1]) + 1}.{block[2]}.' if block else 'stem.'
    layer = key[block.end() :] if block else key
    for pattern, name in _LAYERS.items():
        match = re.match(pattern, layer)
        if match:
            return where + match.expand(name) + layer[match.end() :]
    raise ValueError(f'{key} is not in a ResNet with a plain stem.')


def convert(weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Rename the backbone of a checkpoint of any known layout."""
    backbone = backbone_weights(weights)
    if 'layer4.0.conv1.weight' not in backbone:
        raise ValueError(
            'the checkpoint has no backbone that is a ResNet of four stages; '
            f'its {len(weights)} tensors are such as '
            f'{", ".join(list(weights)[:3])}.'
        )
    # Leave out classifiers and heads beside a bare backbone.
    return {
        convert_key(key): value.numpy()
        for key, value in backbone.items()
        if re.match(r'(conv1|bn1|stem|layer[1-4])\.', key)
    }


class _Pickler(pickle.Pickler):
    """Writes arrays that any version of NumPy can read.

    NumPy's own pickles name internal modules: those of NumPy 2 cannot be read
    with 1.24 and older.
    """

    def reducer_override(self, value: Any) -> Any:
        """Write an array as the call that makes it."""
        if not isinstance(value, np.ndarray):
            return NotImplemented
        # An array made from a bytearray is writable.
        return np.ndarray, (
            value.shape,
            value.dtype.str,
            bytearray(value.tobytes()),
        )


def main() -> None:
    """Convert what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('out', metavar='OUT.pkl', type=Path)
    args = parser.parse_args()
    try:
        read = read_checkpoint(args.checkpoint)
        check_finite(read, args.checkpoint)
        weights = convert(read)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    # With heuristics names match if their ends do: res5 then also fills the
    # head of C4 detectors.
    content = dict(
        model=weights, __author__='swav_plugin', matching_heuristics=True
    )
    with open_atomic(args.out) as file:
        _Pickler(file, protocol=4).dump(content)
    print(f'{args.out}: {len(weights)} tensors of the backbone')


if __name__ == '__main__':
    main()
