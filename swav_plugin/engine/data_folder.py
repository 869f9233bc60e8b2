"""Let a config read its data where that is: in the folder of --data."""

import argparse
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config

from swav_plugin.datasets.image_search import class_names

from .config import change_config
from .errors import UsageError
from .launch import named_path
from .walk import dicts_of

_SPLITS = ('train', 'val')


def move_data(cfg: Config, old: str, new: Path) -> None:
    """Let a config read from one folder what it read from another.

    Args:
        cfg: Changed in place: roots of datasets, and lists of evaluators.
        old: The folder that the config names.
        new: A folder with the same folders in it. Its 'val' need not have
            class folders: meta/val.txt then lists the labels.
    """
    for node in dicts_of(cfg._cfg_dict):
        if _is_below(node.get('data_root'), old):
            own = Path(node.data_root).relative_to(old)
            root = new / own
            node.data_root = str(root)
            if own.name == 'val' and root.is_dir() and not class_names(root):
                node.ann_file = '../meta/val.txt'
    for node in dicts_of(cfg._cfg_dict):
        if _is_below(node.get('ann_file'), old):  # of an evaluator
            path = Path(node.ann_file)
            node.ann_file = str(new / path.relative_to(old))


def _is_below(path: Any, folder: str) -> bool:
    """Return whether this is a path in a folder, or the folder."""
    return isinstance(path, str) and Path(path).is_relative_to(folder)


def set_data(cfg: Config, args: argparse.Namespace, *names: str) -> list[str]:
    """Let a config read the images of --data, if that is given.

    A folder with train and val is a dataset: all that the config reads of its
    own one moves there. Any other folder has only images, which is enough for
    pretraining, without validation. --cfg-options have the last word.

    Args:
        cfg: Changed in place.
        args: The command line.
        names: What is going to run: 'train', 'val', 'test'. The first says
            which dataset it is.

    Returns:
        What the log should say.

    Raises:
        UsageError: The folder lacks what the config reads.
    """
    if args.data is None:
        return []
    root = _folder(args.data)
    old = _dataset_of([node.data_root for node in _datasets(cfg, names[0])])
    wanted = {
        str(Path(node.data_root).relative_to(old))
        for node in _datasets(cfg, *names)
        if _is_below(node.data_root, old)
    }
    pretrains = names[0] == 'train' and cfg.model.get('type') == 'SwAV'
    # In a folder without 'val', 'train' may well be one of the classes.
    both = {*_SPLITS} if pretrains and 'train' in wanted else set()
    missing = [each for each in wanted | both if not (root / each).is_dir()]
    notes = []
    if wanted and not missing:
        move_data(cfg, old, root)
    elif pretrains:
        notes = _pretrain_on(cfg, old, root)
    else:
        raise UsageError(
            f'--data {args.data}: {Path(cfg.filename).stem} reads '
            f'{" and ".join(sorted(wanted)) or "several folders"} of a '
            'dataset, which are not there; set each folder with '
            f'--cfg-options, {names[0]}_dataloader.dataset.data_root=FOLDER'
        )
    change_config(cfg, args.cfg_options, [])
    for node in _datasets(cfg, *names):
        _check_lists(node, args.data)
    return notes


def _folder(data: str) -> Path:
    """Return the folder of --data.

    Raises:
        UsageError: It is not one.
    """
    root = Path(named_path('--data', data))
    if not root.is_dir():
        what = 'is not a folder' if root.exists() else 'does not exist'
        raise UsageError(f'--data {data} {what}; give the folder of the data')
    return root


def _datasets(cfg: Config, *names: str) -> list[Any]:
    """Return the datasets of loops that have a root."""
    loops = [
        (cfg.get(f'{name}_dataloader'), cfg[f'{name}_cfg'])
        for name in names
        if cfg.get(f'{name}_cfg') is not None
    ]
    return [node for node in dicts_of(loops) if node.get('data_root')]


def _dataset_of(roots: list[Any]) -> str:
    """Return the folder of the dataset that roots are in.

    >>> _dataset_of(['data/imagenet/train'])
    'data/imagenet'
    >>> _dataset_of(['data/digits'])
    'data/digits'
    """
    try:
        common = Path(os.path.commonpath(roots))
    except (TypeError, ValueError):  # a list of folders, or none
        return os.devnull  # nothing is below it
    return str(common.parent if common.name in _SPLITS else common)


def _pretrain_on(cfg: Config, old: str, root: Path) -> list[str]:
    """Train on all images of a folder.

    Validation on the dataset that they replace makes no sense any more.

    Raises:
        UsageError: The config does not have one training set.
    """
    nodes = _datasets(cfg, 'train')
    if len(nodes) != 1:
        raise UsageError(
            f'--data {root}: {Path(cfg.filename).stem} trains on '
            f'{len(nodes)} folders; set the data_root of each with '
            '--cfg-options'
        )
    nodes[0].data_root = str(root)
    if not any(
        _is_below(node.data_root, old) for node in _datasets(cfg, 'val')
    ):
        return []
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    return [
        f'--data: no validation during training, since {root} does not have '
        'train and val, with a folder for each class.'
    ]


def _check_lists(node: Any, data: str) -> None:
    """Check that the list of a dataset is where it looks for it.

    Raises:
        UsageError: It is not there.
    """
    name, root = node.get('ann_file'), node.data_root
    if name and isinstance(name, str) and isinstance(root, str):
        path = os.path.normpath(os.path.join(root, name))
        if not os.path.isfile(path):
            raise UsageError(
                f'--data {data}: the config reads the list {path}, which is '
                'not there; write it, or name another in --cfg-options '
                '(ann_file, beside data_root)'
            )
