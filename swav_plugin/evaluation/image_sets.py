"""The two sets of images that features are made of: order, labels, classes."""

from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from .feature_store import Labels, share


class ShareSampler(Sampler):
    """Sample the images of this rank, in order, each on one rank only.

    mmengine's samplers repeat some images where the set does not divide
    evenly by the ranks.
    """

    def __init__(self, dataset: Sized, seed: Any, batch_size: int) -> None:
        self._images = share(len(dataset), batch_size)

    def __iter__(self) -> Iterator[int]:
        """Yield indices of images."""
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)


def in_order(config: dict) -> dict:
    """Make a dataloader's config give each image once, on one rank."""
    if not isinstance(config, dict):
        raise ValueError(
            'FeatureEvalLoop needs the configs of its dataloaders, but got a '
            f'{type(config).__name__}.'
        )
    for key in ('sampler', 'batch_sampler'):
        kind = (config.get(key) or {}).get('type', 'DefaultSampler')
        if kind != 'DefaultSampler' or (config.get(key) or {}).get('shuffle'):
            raise ValueError(
                f'{key}={config[key]} is not supported here: FeatureEvalLoop '
                f'gives each image to one rank, in order; leave {key} out.'
            )
    config = dict(
        config,
        drop_last=False,
        sampler=dict(type=ShareSampler, batch_size=config['batch_size']),
    )
    config.setdefault('collate_fn', dict(type='default_collate'))
    config.pop('batch_sampler', None)
    return config


def read_annotations(dataset: Any, name: str) -> tuple[list[str], Labels]:
    """Read paths and labels of a set, without opening an image."""
    if not getattr(dataset, 'test_mode', True):
        raise ValueError(
            f'the {name} has test_mode=False: an unreadable image would be '
            'replaced by another and counted under the wrong label. Set '
            'test_mode=True.'
        )
    paths, labels = [], []
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        paths.append(str(info.get('img_path', '')))
        if info.get('gt_label') is None:
            raise ValueError(
                f'the {name} has no label for image {i}, {paths[-1]}; put '
                'images into one folder for each class, or give a list file '
                'with labels.'
            )
        labels.append(info['gt_label'])
    values = torch.as_tensor(np.array(labels))
    classes = tuple(getattr(dataset, 'metainfo', {}).get('classes') or ())
    num_unreadable = getattr(dataset, 'num_unreadable', 0)
    return paths, Labels(name, values, classes, num_unreadable=num_unreadable)


def check_classes(bank: Labels, test: Labels) -> None:
    """Refuse sets in which the same label means different classes."""
    if bank.classes and test.classes and bank.classes != test.classes:
        only = sorted(set(bank.classes) ^ set(test.classes))[:5]
        raise ValueError(
            f'bank and test set have different classes ({len(bank.classes)} '
            f'and {len(test.classes)}; in one of them only: '
            f'{", ".join(only)}), so their labels do not mean the same. Give '
            'folders with the same names, or list files.'
        )
