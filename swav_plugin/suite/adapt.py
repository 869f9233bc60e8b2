"""Fit the config of a benchmark to a checkpoint, its data and the options.

Every change of a config by the suite is here. Notes say what a reader of the
numbers needs to know in addition to the config.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from swav_plugin.checkpoints.model_settings import ModelSettings
from swav_plugin.datasets.check import read_coco
from swav_plugin.engine.config import change_config, read_config
from swav_plugin.engine.data_folder import move_data
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.processes import count_cores
from swav_plugin.engine.walk import dicts_of
from swav_plugin.evaluation.svm_samples import largest_k
from swav_plugin.registry import DATASETS

from .benchmarks import BENCHMARKS, CONFIGS
from .data import FoundDataset, UnfitDataset, voc0712_lists

LEAST_SIZE = 32  # px of images that --image-size takes


@dataclass(frozen=True)
class Options:
    """The changes to all runs that a user asks for.

    Args:
        gpus: GPUs, or CPU processes, of each run.
        epochs: Length of runs that are counted in epochs.
        iters: Length of runs that are counted in iterations.
        image_size: px of crops that are 224 in the configs.
        cfg_options: 'KEY=VALUE', or 'NAME:KEY=VALUE' for one benchmark.
        skip_unreadable: Leave out images that cannot be read.
        settings: What the checkpoint says of its images, for sets that stand
            in; None if it says nothing.
    """

    gpus: int = 1
    epochs: int | None = None
    iters: int | None = None
    image_size: int | None = None
    cfg_options: Sequence[str] = ()
    skip_unreadable: bool = False
    settings: ModelSettings | None = None


def make_config(
    name: str,
    network: dict[str, int],
    data: FoundDataset,
    options: Options,
    feature_cache: Path,
) -> tuple[Config, list[str]]:
    """Adapt the config of a benchmark.

    Args:
        name: Name of the benchmark.
        network: Arguments of the ResNet in the checkpoint.
        data: The dataset that it reads.
        options: What the user asks for.
        feature_cache: Folder for the features of all runs.

    Returns:
        The config and the notes.

    Raises:
        UsageError: An option does not fit it.
        UnfitDataset: The data do not.
    """
    benchmark = BENCHMARKS[name]
    changes = _options_of(name, options.cfg_options)
    about_config: list[str] = []
    cfg = read_config(str(CONFIGS / benchmark.config), about_config)
    if benchmark.library:
        cfg.default_hooks.pictures = dict(type='swav_plugin.PicturesHook')
    # With the options at once, which finds misspelt ones.
    change_config(cfg, changes, about_config)
    for note in about_config:
        print(f'{name}: {note}')
    set_network(cfg, network)
    notes = set_dataset(cfg, data)
    if benchmark.trains:
        notes += set_batch(cfg, options.gpus, data)
        for unit in ('epochs', 'iters'):
            length = getattr(options, unit)
            if length is not None:
                set_length(cfg, unit, length)
        if data.dataset.folder == 'coco' and data.is_stand_in:
            notes += shorten_warm_up(cfg, data.root)
    if options.image_size is not None and not benchmark.library:
        set_image_size(cfg, options.image_size)
    elif data.is_stand_in and not benchmark.library:
        notes += _set_own_size(cfg, options.settings)
    if options.skip_unreadable:
        set_skip_unreadable(cfg)
    set_workers(cfg, options.gpus)
    if 'cache_dir' in (cfg.get('test_cfg') or {}):
        cfg.test_cfg.cache_dir = str(feature_cache)
    # The user's own have the last word.
    change_config(cfg, changes, [])
    return cfg, notes


def _options_of(name: str, options: Sequence[str]) -> list[str]:
    """Return the options for one benchmark, without its name before them."""
    chosen = []
    for option in options:
        before, colon, after = option.partition(':')
        if not colon or before not in BENCHMARKS:
            chosen.append(option)
        elif before == name:
            chosen.append(after)
    return chosen


def set_network(cfg: Config, network: dict[str, int]) -> None:
    """Make everything on the backbone as wide as the checkpoint's features."""
    cfg.model.backbone.update(network)
    depth, width = network['depth'], network['base_channels']
    # Channels of stages 1 to 4.
    stages = [width * 2**i * (1 if depth < 50 else 4) for i in range(4)]
    if cfg.model.get('head', {}).get('in_channels'):
        cfg.model.head.in_channels = stages[-1]
    if 'decode_head' in cfg.model:
        cfg.model.decode_head.in_channels = stages[3]
        cfg.model.auxiliary_head.in_channels = stages[2]
    if 'neck' in cfg.model and 'roi_head' in cfg.model:
        cfg.model.neck.in_channels = stages
    elif 'roi_head' in cfg.model:  # stage 4 is part of the heads
        cfg.model.rpn_head.in_channels = stages[2]
        heads = cfg.model.roi_head
        heads.bbox_roi_extractor.out_channels = stages[2]
        heads.shared_head.update(depth=depth, base_channels=width)
        heads.bbox_head.in_channels = stages[3]
        if 'mask_head' in heads:
            heads.mask_head.in_channels = stages[3]


def set_dataset(cfg: Config, data: FoundDataset) -> list[str]:
    """Let a config read its dataset where that is.

    A set that stands in for the published one may be smaller: what needs more
    images than it has is left out.

    Returns:
        Notes of everything but the folder.
    """
    move_data(cfg, f'data/{data.dataset.folder}', data.root)
    if not data.is_stand_in:
        return []
    stand_in = _STAND_INS.get(data.dataset.name)
    notes = stand_in(cfg, data.root) if stand_in else []
    return notes + _drop_large_k(cfg) + _set_num_classes(cfg)


def _drop_large_k(cfg: Config) -> list[str]:
    """Drop the k of kNN and of low-shot SVMs that need more images."""
    bank_loader = (cfg.get('test_cfg') or {}).get('bank_dataloader')
    if not bank_loader:
        return []
    notes = []
    bank = build(bank_loader.dataset)
    for evaluator in cfg.test_evaluator:
        for key, possible in (
            ('k', range(1, len(bank) + 1)),
            ('low_shot_k', possible_k(bank)),
        ):
            wanted = evaluator.get(key, [])
            dropped = [str(k) for k in wanted if k not in possible]
            if dropped:
                evaluator[key] = [k for k in wanted if k in possible]
                notes.append(f'too few images for k = {", ".join(dropped)}')
    return notes


def _set_num_classes(cfg: Config) -> list[str]:
    """Give a classifier as many classes as its training images have.

    Raises:
        UnfitDataset: Validation images have a class that these do not have.
    """
    head: Any = cfg.model.get('head') or {}
    if 'num_classes' not in head:
        return []
    head.num_classes = build(cfg.train_dataloader.dataset).num_classes
    num_tested = build(cfg.val_dataloader.dataset).num_classes
    if num_tested > head.num_classes:
        raise UnfitDataset(
            f'labels of {_source(cfg.val_dataloader.dataset)} go up to '
            f'{num_tested - 1}, those of '
            f'{_source(cfg.train_dataloader.dataset)} only to '
            f'{head.num_classes - 1}; both sets need the same classes'
        )
    if 'num_classes' in cfg.model.data_preprocessor:
        cfg.model.data_preprocessor.num_classes = head.num_classes
    return [f'{head.num_classes} classes']


def _source(dataset: dict) -> str:
    """Name the folder or the list that labels come from."""
    root, list_file = dataset['data_root'], dataset.get('ann_file')
    return os.path.normpath(os.path.join(root, list_file or ''))


def _stand_in_for_voc07(cfg: Config, root: Path) -> list[str]:
    """Split into train and val where there is no test set, as in VOC2012."""
    if (root / 'ImageSets/Main/aeroplane_test.txt').is_file():
        return []
    for node in dicts_of(cfg._cfg_dict):
        if node.get('type') == 'VOC07':
            node.split = dict(trainval='train', test='val')[node.split]
    return ['train in place of trainval, val in place of test']


def _stand_in_for_voc0712(cfg: Config, root: Path) -> list[str]:
    """Read the lists that there are."""
    train, test = voc0712_lists(root)
    union = cfg.train_dataloader.dataset
    union.datasets = [
        dict(
            union.datasets[0],
            ann_file=path,
            data_prefix=dict(sub_data_root=path.partition('/')[0] + '/'),
        )
        for path in train
    ]
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.ann_file = test[0]
        loader.dataset.data_prefix.sub_data_root = (
            test[0].partition('/')[0] + '/'
        )
    return [f'trained on {", ".join(train)}, tested on {test[0]}']


def _stand_in_for_coco(cfg: Config, root: Path) -> list[str]:
    """Detect the classes of the set, which need not be COCO's."""
    content = read_coco(root / 'annotations/instances_train2017.json')
    # Also those of the test set: `datasets.check` has compared them.
    classes = [category['name'] for category in content['categories']]
    for loader in (
        cfg.train_dataloader,
        cfg.val_dataloader,
        cfg.test_dataloader,
    ):
        # COCO's palette may have too few colors.
        loader.dataset.metainfo = dict(classes=classes, palette=None)
    for head in ('bbox_head', 'mask_head'):
        if head in cfg.model.roi_head:
            cfg.model.roi_head[head].num_classes = len(classes)
    return [f'{len(classes)} classes']


def _stand_in_for_voc12aug(cfg: Config, root: Path) -> list[str]:
    """Do without the masks of SBD where there are none."""
    if (root / 'ImageSets/Segmentation/aug.txt').is_file():
        return []
    cfg.train_dataloader.dataset.datasets.pop()
    return ['without the masks of SBD']


# What a stand-in changes apart from the folder, by dataset. Returns notes.
_STAND_INS: dict[str, Callable[[Config, Path], list[str]]] = dict(
    voc07=_stand_in_for_voc07,
    voc0712=_stand_in_for_voc0712,
    coco=_stand_in_for_coco,
    coco_boxes=_stand_in_for_coco,
    voc12aug=_stand_in_for_voc12aug,
)


def build(dataset: dict) -> Any:
    """Build a dataset that does not open its images."""
    return DATASETS.build(dict(dataset, pipeline=[]))


def possible_k(bank: Any) -> range:
    """Return the low-shot k for which each class has enough images."""
    labels = [bank.get_data_info(i)['gt_label'] for i in range(len(bank))]
    if np.ndim(labels[0]) == 0:
        return range(0)
    marks = torch.from_numpy(np.stack(labels))
    return range(1, largest_k(marks) + 1)


def set_batch(
    cfg: Config, num_processes: int, data: FoundDataset
) -> list[str]:
    """Keep the batch of all GPUs together, however many there are.

    Returns:
        A note if there are too few images for that batch.

    Raises:
        UsageError: It can't be split evenly, or there are fewer images than
            processes.
    """
    batch = cfg.auto_scale_lr.base_batch_size
    if batch % num_processes:
        raise UsageError(
            f'--gpus {num_processes}: batches of {batch} images '
            "can't be split evenly"
        )
    loader = cfg.train_dataloader
    loader.batch_size = batch // num_processes
    # Detection and segmentation train on incomplete batches, too.
    if data.is_stand_in and cfg.default_scope == 'swav_plugin':
        num_images = len(build(loader.dataset))
        if num_images < num_processes:
            raise UsageError(
                f'--gpus {num_processes}: more than the {num_images} images '
                f'of {data.root}'
            )
        if num_images < batch:
            loader.batch_size = num_images // num_processes
            return [f'too few images for batches of {batch}']
    return []


def set_length(cfg: Config, unit: str, length: int) -> None:
    """Shorten a training run, with its schedules and intervals in proportion.

    Args:
        cfg: Changed in place, unless the run is counted otherwise.
        unit: 'epochs' or 'iters'.
        length: How many of them.
    """
    longest = f'max_{unit}'
    if longest not in cfg.train_cfg:
        return
    share = length / cfg.train_cfg[longest]

    def shorten(number: int) -> int:
        return max(1, round(number * share))

    cfg.train_cfg[longest] = length
    # Also a warm-up that is counted in iterations, of a run counted in epochs.
    for node in [
        *dicts_of(cfg.get('param_scheduler')),
        cfg.default_hooks.checkpoint,
        cfg.train_cfg,
    ]:
        for key in ('T_max', 'begin', 'end', 'val_interval', 'interval'):
            if node.get(key):
                node[key] = shorten(node[key])
        if 'milestones' in node:
            node.milestones = sorted({*map(shorten, node.milestones)})
        if node.get('type') == 'LinearLR':
            # mmengine's never leaves its first factor in a single step.
            node.end = max(node.end, node.get('begin', 0) + 2)


def shorten_warm_up(cfg: Config, root: Path) -> list[str]:
    """End warm-ups in the first tenth of a run on a few images.

    They are counted in iterations, of which COCO has 7,330 in an epoch.

    Returns:
        Notes of what was shortened.
    """
    images = read_coco(root / 'annotations/instances_train2017.json')['images']
    num_iters = cfg.train_cfg.max_epochs * (
        len(images) // cfg.auto_scale_lr.base_batch_size
    )
    longest = max(2, num_iters // 10)
    notes = []
    for node in cfg.param_scheduler:
        if node.type == 'LinearLR' and node.end > longest:
            node.end = longest
            notes.append(f'warm-up of {longest} iterations')
    return notes


def _set_own_size(cfg: Config, settings: ModelSettings | None) -> list[str]:
    """See a user's own images as the checkpoint saw those of training.

    Small ones, enlarged to 224 px, are nothing that it has learned. Published
    sets keep the size of their protocol.

    Returns:
        A note where that is another size.
    """
    if settings is None or settings.size in (224, *range(LEAST_SIZE)):
        return []
    set_image_size(cfg, settings.size, settings.resize)
    return [f'images of {settings.size} px, as the checkpoint says']


def set_image_size(cfg: Config, size: int, resize: int | None = None) -> None:
    """Replace crops of 224 px with this size.

    Args:
        cfg: Changed in place.
        size: px of the crops.
        resize: px of the short edge before a crop in the center; by default
            in proportion.
    """
    if size == 224:
        return
    sizes = {224: size, 256: resize or round(256 * size / 224)}
    for node in dicts_of(cfg._cfg_dict):
        for key in ('scale', 'size', 'crop_size'):
            number = node.get(key)
            if number in (224, 256):
                node[key] = sizes[number]
            elif number in ((224, 224), [224, 224]):
                node[key] = (size, size)
        if 'windows' in node:
            node.windows = 'adaptive'


def set_skip_unreadable(cfg: Config) -> None:
    """Let our datasets leave out images that cannot be read."""
    for node in dicts_of(cfg._cfg_dict):
        if node.get('type') in ('ImageFolder', 'VOC07'):
            node.skip_unreadable = True


def set_workers(cfg: Config, num_processes: int) -> None:
    """Start no more workers than there are cores."""
    most = max(1, count_cores() // num_processes)
    for node in dicts_of(cfg._cfg_dict):
        if node.get('num_workers'):
            node.num_workers = min(node.num_workers, most)
