"""Run every benchmark whose data is present, and lay the numbers out.

    python tools/benchmarks/run_suite.py CHECKPOINT --root data --out DIR

Each benchmark is a run of tools/test.py or tools/train.py in a folder of its
own below DIR. The same command again goes on where it stopped. Writes
results.json, results.md and report.html to DIR.
"""

import argparse
import copy
import datetime
import hashlib
import importlib.util
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import swav_plugin  # noqa: F401 isort:skip  says what is not installed

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device

from swav_plugin.checkpoints import checkpoint_name, read_checkpoint
from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.checkpoints.download import hash_file
from swav_plugin.checkpoints.keys import backbone_weights
from swav_plugin.compat.stack import downstream_hint
from swav_plugin.datasets.check import check, read_coco
from swav_plugin.engine.launch import (
    UsageError,
    count_cores,
    find_checkpoint,
    find_weights,
    load_config,
    parse_options,
)
from swav_plugin.evaluation.svm import draw_samples
from swav_plugin.models.resnet import resnet_arguments
from swav_plugin.registry import DATASETS
from swav_plugin.suite.report import heading, to_markdown
from swav_plugin.suite.report_html import to_html

TOOLS = Path(__file__).resolve().parents[1]
CONFIGS = TOOLS.parent / 'configs/benchmarks'
RANDOM = 'random'
RESULT = 'result.json'  # of a run that is done
# Folders below --root, which configs have below data/.
FOLDERS = dict(
    imagenet='imagenet',
    imagenet_1percent='imagenet',
    imagenet_10percent='imagenet',
    voc07='VOCdevkit/VOC2007',
    places205='places205',
    inaturalist2018='inaturalist2018',
    cifar10='cifar10',
    voc0712='VOCdevkit',
    coco='coco',
    voc12aug='VOCdevkit/VOC2012',
    cityscapes='cityscapes',
)


class Benchmark(NamedTuple):
    """One run: what is measured, and on which data."""

    config: str  # below configs/benchmarks
    data: str  # one of FOLDERS
    trains: bool = False  # by tools/train.py, else by tools/test.py
    library: str = ''  # what its config builds on, beside mmpretrain


_IMAGENET = 'classification/imagenet'
BENCHMARKS = dict(
    knn=Benchmark('classification/knn_imagenet.py', 'imagenet'),
    svm=Benchmark('classification/svm_voc07.py', 'voc07'),
    linear=Benchmark(
        f'{_IMAGENET}/resnet50_linear-8xb32-coslr-100e_in1k.py',
        'imagenet',
        trains=True,
    ),
    linear_mhead=Benchmark(
        f'{_IMAGENET}/resnet50_mhead_linear-8xb32-steplr-90e_in1k.py',
        'imagenet',
        trains=True,
    ),
    places205=Benchmark(
        'classification/places205/'
        'resnet50_mhead_8xb32-steplr-28e_places205.py',
        'places205',
        trains=True,
    ),
    inaturalist2018=Benchmark(
        'classification/inaturalist2018/'
        'resnet50_mhead_8xb32-steplr-84e_inat18.py',
        'inaturalist2018',
        trains=True,
    ),
    # SwAV's own recipes, of the several there are.
    semisup_1percent=Benchmark(
        f'{_IMAGENET}/imagenet_1percent/'
        'resnet50_head250_8xb32-steplr2e-2-20e_in1k-1pct.py',
        'imagenet_1percent',
        trains=True,
    ),
    semisup_10percent=Benchmark(
        f'{_IMAGENET}/imagenet_10percent/'
        'resnet50_head20_8xb32-steplr1e-2-20e_in1k-10pct.py',
        'imagenet_10percent',
        trains=True,
    ),
    cifar10=Benchmark(
        'classification/cifar10/resnet50_8xb128-steplr-350e_cifar10.py',
        'cifar10',
        trains=True,
    ),
    faster_rcnn_c4=Benchmark(
        'mmdetection/voc0712/faster-rcnn_r50-c4_ms-24k_voc0712.py',
        'voc0712',
        trains=True,
        library='mmdet',
    ),
    mask_rcnn_fpn_1x=Benchmark(
        'mmdetection/coco/mask-rcnn_r50_fpn_ms-1x_coco.py',
        'coco',
        trains=True,
        library='mmdet',
    ),
    mask_rcnn_c4_1x=Benchmark(
        'mmdetection/coco/mask-rcnn_r50-c4_ms-1x_coco.py',
        'coco',
        trains=True,
        library='mmdet',
    ),
    fcn_voc12aug=Benchmark(
        'mmsegmentation/voc12aug/fcn_r50-d8_4xb4-20k_voc12aug-512x512.py',
        'voc12aug',
        trains=True,
        library='mmseg',
    ),
    fcn_cityscapes=Benchmark(
        'mmsegmentation/cityscapes/fcn_r50-d8_4xb2-40k_cityscapes-769x769.py',
        'cityscapes',
        trains=True,
        library='mmseg',
    ),
)


class Data(NamedTuple):
    """A dataset as it was found."""

    root: Path
    problem: str | None
    is_stand_in: bool = False  # complete, but not of the published size
    digest: str = ''  # another one: the set was changed


class Run(NamedTuple):
    """One benchmark of one network."""

    entry: dict  # of the report; is filled in
    folder: Path
    cfg: Config
    weights: str  # a file, or RANDOM


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition('\n')[0],
        epilog='Benchmarks: '
        + ', '.join(
            f'{name} ({benchmark.data})'
            for name, benchmark in BENCHMARKS.items()
        ),
    )
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        help='of a ResNet in any layout: a file, a URL or the name of a model '
        'of the zoo',
    )
    parser.add_argument(
        '--root',
        type=Path,
        default=Path('data'),
        help='folder of the datasets: '
        + ', '.join(dict.fromkeys(FOLDERS.values()))
        + ' (default: data)',
    )
    parser.add_argument(
        '--dataset',
        metavar='NAME=PATH',
        nargs='+',
        action='extend',
        default=[],
        help='a dataset that lies elsewhere, or stands in for one: '
        'imagenet=PATH takes any folder with train/CLASS/ and val/CLASS/',
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='folder for all results'
    )
    parser.add_argument(
        '--only',
        metavar='NAME',
        nargs='+',
        choices=BENCHMARKS,
        default=[*BENCHMARKS],
        help='run these benchmarks',
    )
    parser.add_argument(
        '--skip',
        metavar='NAME',
        nargs='+',
        choices=BENCHMARKS,
        default=[],
        help='do not run these',
    )
    parser.add_argument(
        '--with-random',
        action='store_true',
        help='measure the same network at random initialisation as well',
    )
    parser.add_argument(
        '--gpus',
        type=int,
        default=1,
        help='GPUs, or CPU processes, of each run (default: 1)',
    )
    parser.add_argument(
        '--epochs',
        type=int,
        help='train this long, with schedules shortened in proportion; '
        'trainings that are counted in iterations are left alone',
    )
    parser.add_argument(
        '--iters',
        type=int,
        help='the same for trainings that are counted in iterations: '
        'faster_rcnn_c4, fcn_voc12aug, fcn_cityscapes',
    )
    parser.add_argument(
        '--image-size',
        type=int,
        help='px of crops that are 224 on the page, other sizes in '
        'proportion; features are then pooled to as many windows. Detection '
        'and segmentation keep their sizes',
    )
    parser.add_argument(
        '--cfg-options',
        metavar='[NAME:]K=V',
        nargs='+',
        action='extend',
        default=[],
        help='change the configs of all benchmarks or, with its name before '
        'it, of one: knn:test_evaluator.0.k="[5, 20]"',
    )
    args = parser.parse_args(argv)
    least = dict(gpus=1, epochs=1, iters=1, image_size=32)
    for name, minimum in least.items():
        given = getattr(args, name)
        if given is not None and given < minimum:
            parser.error(
                f'--{name.replace("_", "-")} {given}: must be at '
                f'least {minimum}'
            )
    return args


def find_data(args: argparse.Namespace, names: list[str]) -> dict[str, Data]:
    """Look at every dataset that these benchmarks need.

    Raises:
        UsageError: ``--dataset`` is not understood.
    """
    given = {}
    for option in args.dataset:
        name, equals, path = option.partition('=')
        if name not in FOLDERS or not path:
            raise UsageError(
                f'--dataset takes NAME=PATH with one of the names '
                f'{", ".join(FOLDERS)}, but got {option!r}'
            )
        if not Path(path).is_dir():
            raise UsageError(f'--dataset {option}: there is no such folder')
        given[name] = Path(path)
    found = {}
    for name in {
        BENCHMARKS[chosen].data
        for chosen in names
        if not lacks_library(chosen)
    }:
        # imagenet_1percent is a list for the images of imagenet.
        root = (
            given.get(name)
            or given.get(FOLDERS[name])
            or (args.root / FOLDERS[name])
        )
        found[name] = look_at(name, root)
    return found


def lacks_library(name: str) -> str | None:
    """What is to be installed for a benchmark, if anything."""
    library = BENCHMARKS[name].library
    if not library or importlib.util.find_spec(library) is not None:
        return None
    return f'{library} is not installed: {downstream_hint()}'


def look_at(name: str, root: Path) -> Data:
    """Whether a dataset is there, complete, and of the published size."""
    if not root.is_dir():
        return Data(
            root,
            f'there is no folder {root} (--dataset '
            f'{name}=PATH if it lies elsewhere)',
        )
    if name == 'cifar10' and not (root / 'cifar-10-batches-py').is_dir():
        return Data(root, f'there is no {root}/cifar-10-batches-py')
    report = check(name, root)
    if report.problem is None:
        return Data(root, None, digest=report.digest)
    if name == 'voc0712' and not all(voc0712_lists(root)):
        return Data(
            root,
            f'{root} has no ImageSets/Main/trainval.txt with '
            'VOC2007/ImageSets/Main/test.txt, nor train.txt with '
            'val.txt',
        )
    report = check(name, root, any_size=True)
    return Data(root, report.problem, True, report.digest)


def voc0712_lists(root: Path) -> tuple[list[str], list[str]]:
    """The lists to train on, and those to test on, relative to the root.

    As on the page, if there is its test set; else train and val.
    """

    def present(name: str) -> list[str]:
        paths = [
            f'{year}/ImageSets/Main/{name}.txt'
            for year in ('VOC2007', 'VOC2012')
        ]
        return [path for path in paths if (root / path).is_file()]

    if (root / 'VOC2007/ImageSets/Main/test.txt').is_file():
        return present('trainval'), ['VOC2007/ImageSets/Main/test.txt']
    return present('train'), present('val')


def set_data(cfg: Config, name: str, data: Data) -> list[str]:
    """Let a config read a dataset from where it is.

    A set that stands in for the page's may be smaller: what needs more
    images than it has is left out.

    Returns:
        What was done beside that.
    """
    prefix = f'data/{FOLDERS[name]}'
    datasets = [
        node
        for node in walk(cfg._cfg_dict)
        if str(node.get('data_root', '')).startswith(prefix)
    ]
    for dataset in datasets:
        own = Path(dataset.data_root).relative_to(prefix)
        dataset.data_root = str(data.root / own)
        folder = Path(dataset.data_root)
        if own.name == 'val' and not any(
            entry.is_dir() for entry in folder.iterdir()
        ):
            dataset.ann_file = '../meta/val.txt'
    for node in walk(cfg._cfg_dict):
        path = str(node.get('ann_file', ''))
        if path.startswith(f'{prefix}/'):  # of an evaluator
            node.ann_file = str(data.root / Path(path).relative_to(prefix))
    notes: list[str] = []
    if not data.is_stand_in:
        return notes
    if (
        name == 'voc07'
        and not (data.root / 'ImageSets/Main/aeroplane_test.txt').is_file()
    ):
        for dataset in datasets:
            dataset.split = dict(trainval='train', test='val')[dataset.split]
        notes.append('train in place of trainval, val of test')
    if name == 'voc0712':
        notes += stand_in_for_voc0712(cfg, data.root)
    if name == 'coco':
        notes += stand_in_for_coco(cfg, data.root)
    if (
        name == 'voc12aug'
        and not (data.root / 'ImageSets/Segmentation/aug.txt').is_file()
    ):
        cfg.train_dataloader.dataset.datasets.pop()
        notes.append('without the masks of SBD')
    if cfg.get('test_cfg', {}).get('bank_dataloader'):
        bank = build(cfg.test_cfg.bank_dataloader.dataset)
        for evaluator in cfg.test_evaluator:
            for key, possible in (
                ('k', range(1, len(bank) + 1)),
                ('low_shot_k', possible_k(bank)),
            ):
                wanted = evaluator.get(key, [])
                left_out = [k for k in wanted if k not in possible]
                if left_out:
                    evaluator[key] = [k for k in wanted if k in possible]
                    notes.append(
                        f'too few images for k = '
                        f'{", ".join(map(str, left_out))}'
                    )
    head: Any = cfg.model.get('head') or {}
    if 'num_classes' in head:
        head.num_classes = build(cfg.train_dataloader.dataset).num_classes
        if 'num_classes' in cfg.model.data_preprocessor:
            cfg.model.data_preprocessor.num_classes = head.num_classes
        notes.append(f'{head.num_classes} classes')
    return notes


def stand_in_for_voc0712(cfg: Config, root: Path) -> list[str]:
    """Read the lists that there are; tell which."""
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


def stand_in_for_coco(cfg: Config, root: Path) -> list[str]:
    """Detect the classes of a set that need not be COCO's; tell how many.

    Raises:
        UsageError: Training and test sets have other classes, or another
            order of them, which would shift the labels.
    """
    train, val = (
        [
            category['name']
            for category in read_coco(
                root / f'annotations/instances_{split}2017.json'
            )['categories']
        ]
        for split in ('train', 'val')
    )
    if train != val:
        raise UsageError(
            f'{root}: the categories of train2017 and val2017 must be the '
            f'same, in the same order; they are {train} and {val}'
        )
    for loader in (
        cfg.train_dataloader,
        cfg.val_dataloader,
        cfg.test_dataloader,
    ):
        # COCO's colours may be too few.
        loader.dataset.metainfo = dict(classes=train, palette=None)
    for head in ('bbox_head', 'mask_head'):
        cfg.model.roi_head[head].num_classes = len(train)
    return [f'{len(train)} classes']


def build(dataset: dict) -> Any:
    """A dataset without its images."""
    return DATASETS.build(dict(dataset, pipeline=[]))


def possible_k(bank: Any) -> range:
    """Low-shot sizes for which each class of a bank has enough images."""
    labels = [bank.get_data_info(i)['gt_label'] for i in range(len(bank))]
    if np.ndim(labels[0]) == 0:
        return range(0)
    marks = torch.from_numpy(np.stack(labels))
    largest = 0
    try:
        while True:
            draw_samples(marks, largest + 1, 1, 0)
            largest += 1
    except ValueError:
        return range(1, largest + 1)


def walk(node: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """Yield all dicts of a config, outer ones first, each once."""
    seen = set() if seen is None else seen
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from walk(child, seen)


def set_batch(cfg: Config, num_processes: int, data: Data) -> list[str]:
    """Keep the batch of all GPUs together, however many there are.

    Returns:
        What was done if the data is too few for that batch.

    Raises:
        UsageError: It can not be split evenly, or there are fewer images
            than processes.
    """
    batch = cfg.auto_scale_lr.base_batch_size
    if batch % num_processes:
        raise UsageError(
            f'--gpus {num_processes}: batches of {batch} images '
            'can not be split evenly'
        )
    loader = cfg.train_dataloader
    loader.batch_size = batch // num_processes
    # Detection and segmentation do without a full batch.
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
    """Shorten a training with its schedules and intervals.

    Args:
        cfg: Changed in place, unless its training is counted otherwise.
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
    # A warm-up in iterations, too, of a training in epochs.
    for node in [
        *walk(cfg.get('param_scheduler')),
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
    """End warm-ups in the first tenth of a training on a few images.

    They count iterations, of which COCO has 7,330 in an epoch.

    Returns:
        What was done.
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


def set_image_size(cfg: Config, size: int) -> None:
    """Make crops of another size than 224 px, resizing in proportion."""
    if size == 224:
        return
    for node in walk(cfg._cfg_dict):
        for key in ('scale', 'size', 'crop_size'):
            number = node.get(key)
            if number in (224, 256):
                node[key] = round(number * size / 224)
            elif number in ((224, 224), [224, 224]):
                node[key] = (size, size)
        if 'windows' in node:
            node.windows = 'adaptive'


def set_network(cfg: Config, network: dict[str, int]) -> None:
    """Make what lies on the backbone as wide as a checkpoint's is."""
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


def set_workers(cfg: Config, num_processes: int) -> None:
    """Start no more workers than there are cores."""
    most = max(1, count_cores() // num_processes)
    for node in walk(cfg._cfg_dict):
        if node.get('num_workers'):
            node.num_workers = min(node.num_workers, most)


def make_config(
    args: argparse.Namespace, name: str, network: dict, data: Data
) -> tuple[Config, list[str]]:
    """A benchmark's config for a network, a dataset and the options.

    Also tells what else than those was changed.

    Raises:
        UsageError: An option does not fit it.
    """
    benchmark = BENCHMARKS[name]
    options = []
    for option in args.cfg_options:
        before, colon, after = option.partition(':')
        if colon and before in BENCHMARKS:
            options += [after] * (before == name)
        else:
            options.append(option)
    # With the options at once, which finds those that have no place.
    cfg = load_config(str(CONFIGS / benchmark.config), options)
    set_network(cfg, network)
    if benchmark.library:
        cfg.default_hooks.pictures = dict(type='swav_plugin.PicturesHook')
    notes = set_data(cfg, benchmark.data, data)
    if benchmark.trains:
        notes += set_batch(cfg, args.gpus, data)
        for unit in ('epochs', 'iters'):
            if getattr(args, unit) is not None:
                set_length(cfg, unit, getattr(args, unit))
        if benchmark.data == 'coco' and data.is_stand_in:
            notes += shorten_warm_up(cfg, data.root)
    if args.image_size is not None and not benchmark.library:
        set_image_size(cfg, args.image_size)
    set_workers(cfg, args.gpus)
    if 'cache_dir' in (cfg.get('test_cfg') or {}):
        cfg.test_cfg.cache_dir = str(args.out / 'features')
    # The user's own have the last word.
    cfg.merge_from_dict(parse_options(options))
    return cfg, notes


def make_key(cfg: Config, *others: Any) -> str:
    """Hash of all that numbers depend on."""
    content = copy.deepcopy(cfg.to_dict())
    for node in walk(content):
        for name in ('num_workers', 'cache_dir'):
            node.pop(name, None)
    text = json.dumps([content, *others], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def make_command(
    args: argparse.Namespace, run: Run, tool: str, *arguments: str
) -> list[str]:
    """The command that runs a tool in the folder of a run."""
    command = [sys.executable]
    end = []
    if args.gpus > 1:
        command += [
            '-m',
            'torch.distributed.run',
            '--standalone',
            f'--nproc_per_node={args.gpus}',
        ]
        end = ['--launcher', 'pytorch']
    return [
        *command,
        str(TOOLS / tool),
        str(run.folder / 'config.py'),
        *arguments,
        '--work-dir',
        str(run.folder),
        *end,
    ]


def measure(args: argparse.Namespace, run: Run) -> dict:
    """Run a benchmark, or find what an earlier run has left."""
    done = run.folder / RESULT
    if done.is_file():
        entry = json.loads(done.read_text())
        entry['pictures'] = [
            name
            for name in entry.get('pictures', ())
            if (args.out / name).is_file()
        ]
        return entry
    run.folder.mkdir(parents=True, exist_ok=True)
    run.cfg.dump(run.folder / 'config.py')
    log = run.folder / 'log.txt'
    before = {*run.folder.glob('*/results.json')}
    begin = time.monotonic()
    if BENCHMARKS[run.entry['benchmark']].trains:
        command = make_command(
            args, run, 'train.py', '--pretrained', run.weights, '--resume'
        )
    else:
        command = make_command(args, run, 'test.py', run.weights)
    failure = execute(command, log)
    results = newest_results(run.folder, before)
    trained = find_checkpoint(str(run.folder))
    if failure is None and results is None and trained is not None:
        # It had been stopped after its last epoch, before its numbers.
        failure = execute(make_command(args, run, 'test.py', trained), log)
        results = newest_results(run.folder, before)
    entry = dict(command=shlex.join(command), seconds=time.monotonic() - begin)
    if failure is not None or results is None or not read(results):
        # mmdet has none for COCO where no object at all was found.
        return dict(
            entry,
            status='failed',
            reason=failure or f'no numbers; {log} says why',
        )
    entry.update(
        status='done',
        results=read(results),
        pictures=[
            str(path.relative_to(args.out))
            for path in sorted(results.parent.glob('pictures/*.jpg'))
        ],
    )
    write(done, json.dumps(entry, indent=2))
    return entry


def execute(command: list[str], log: Path) -> str | None:
    """Run a command; give the end of what it printed if it failed."""
    path = f'{TOOLS.parent}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'
    with open(log, 'ab') as file:
        start = file.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, 'PYTHONPATH': path.rstrip(os.pathsep)},
        )
        try:
            status = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    if status == 0:
        return None
    printed = log.read_bytes()[start:].decode(errors='replace').splitlines()
    return '\n'.join(
        [f'exit status {status}; {log} ends with:', *printed[-12:]]
    )


def newest_results(folder: Path, before: set[Path]) -> Path | None:
    """What a run has written beside the files of earlier ones, if it has."""
    files = {*folder.glob('*/results.json')} - before
    return max(files, key=lambda path: path.stat().st_mtime, default=None)


def read(path: Path) -> list[dict]:
    """The numbers in a file of results."""
    return json.loads(path.read_text())


def write(path: Path, text: str) -> None:
    """Write a file that is there whole, or not at all."""
    write_atomic(path, text)


def run_suite(args: argparse.Namespace) -> int:
    """Run what can be run; return how many benchmarks failed."""
    weights = find_weights(args.checkpoint)
    network = read_network(args.checkpoint, weights)
    name = checkpoint_name(args.checkpoint)
    suite: dict[str, Any] = dict(
        checkpoint={
            'Checkpoint': args.checkpoint,
            'SHA-256': hash_file(Path(weights)),
            'Network': 'ResNet-{depth}, {stem_channels} channels in the stem, '
            '{base_channels} in the first stage'.format(**network),
        },
        setting={
            'Command': shlex.join(['python', *sys.argv]),
            'Software': f'swav_plugin {swav_plugin.__version__}, torch '
            f'{torch.__version__}, Python '
            f'{platform.python_version()}',
            'Processes': f'{args.gpus} on {get_device()}',
        },
        subjects=dict(pretrained=name),
        entries=[],
    )
    if args.with_random:
        suite['subjects'][RANDOM] = 'random initialisation'
    runs = plan(args, suite, network, weights)
    args.out.mkdir(parents=True, exist_ok=True)
    for number, run in enumerate(runs, start=1):
        is_done = (run.folder / RESULT).is_file()
        print(
            f'[{number}/{len(runs)}] {heading(suite, run.entry)}: '
            f'{run.folder}/log.txt' + ', done before' * is_done,
            flush=True,
        )
        run.entry.pop('reason')
        run.entry.update(measure(args, run))
        print_results(run.entry)
        write_report(args.out, suite)
    write_report(args.out, suite)
    print(f'{args.out}/report.html, results.md and results.json')
    return sum(entry['status'] == 'failed' for entry in suite['entries'])


def read_network(source: str, weights: str) -> dict[str, int]:
    """Depth and width of the ResNet in a checkpoint.

    Raises:
        UsageError: There is none.
    """
    try:
        return resnet_arguments(backbone_weights(read_checkpoint(weights)))
    except ValueError as error:
        raise UsageError(f'{source}: {error}') from None


def plan(
    args: argparse.Namespace, suite: dict, network: dict, weights: str
) -> list[Run]:
    """Enter every benchmark into the report; give those that have data.

    Raises:
        UsageError: An option does not fit, or there is nothing to run.
    """
    names = [
        name
        for name in BENCHMARKS
        if name in args.only and name not in args.skip
    ]
    datasets = find_data(args, names)
    runs = []
    for name in names:
        benchmark = BENCHMARKS[name]
        data = datasets.get(benchmark.data) or Data(
            Path(FOLDERS[benchmark.data]), lacks_library(name)
        )
        about = dict(
            benchmark=name,
            data=data.root.name,
            is_stand_in=data.is_stand_in,
            config=f'configs/benchmarks/{benchmark.config}',
        )
        if data.problem is not None:
            print(f'{name}: skipped, {data.problem}')
            suite['entries'] += [
                dict(
                    about,
                    subject=subject,
                    status='skipped',
                    reason=data.problem,
                )
                for subject in suite['subjects']
            ]
            continue
        cfg, notes = make_config(args, name, network, data)
        for subject, title in suite['subjects'].items():
            place, identity, source = RANDOM, RANDOM, RANDOM
            if subject != RANDOM:
                identity, source = suite['checkpoint']['SHA-256'], weights
                place = f'{title.replace("/", "-")}-{identity[:8]}'
            key = make_key(
                cfg,
                identity,
                data.digest,
                swav_plugin.__version__,
                args.gpus if benchmark.trains else None,
            )
            folder = Path(place, f'{name}-{key[:12]}')
            entry = dict(
                about,
                subject=subject,
                notes=notes,
                status='waiting',
                reason='not yet run',
                folder=str(folder),
            )
            suite['entries'].append(entry)
            runs.append(Run(entry, args.out / folder, cfg, source))
    if not runs:
        raise UsageError(
            'nothing to run: each benchmark lacks its data or a library, as '
            'said above'
            if names
            else 'nothing to run: --skip leaves none of --only'
        )
    return runs


def print_results(entry: dict) -> None:
    """Print the numbers of a run, or why there are none."""
    if entry['status'] == 'failed':
        print(f'  failed: {entry["reason"]}', file=sys.stderr, flush=True)
    for result in entry.get('results', ()):
        print(f'  {result["name"]}: {result["value"]:.2f}', flush=True)


def write_report(out: Path, suite: dict) -> None:
    """Write what is known so far, in three forms."""
    suite['setting']['Written'] = datetime.datetime.now().strftime(
        '%Y-%m-%d %H:%M'
    )
    write(out / 'results.json', json.dumps(suite, indent=2))
    write(out / 'results.md', to_markdown(suite))
    write(out / 'report.html', to_html(suite, out))


def main() -> NoReturn:
    """Run the suite; a mistake of the user's ends in one line."""
    # Slurm's way to say that time is over: end the run that is under way.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(1 if run_suite(parse_args()) else 0)
    except UsageError as error:
        print(f'run_suite.py: error: {error}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print('stopped; the same command goes on from here', file=sys.stderr)
        sys.exit(130)


if __name__ == '__main__':
    main()
