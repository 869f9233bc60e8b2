"""Pretrain SwAV on a small set and show what it learned; `make demo` runs it.

    swav demo                         scikit-learn's handwritten digits
    swav demo --data DIR              your own folder of images
    swav demo --dataset imagenette    downloaded by torchvision

Prints kNN accuracy before and after (where class folders give labels) and
writes demo.png: the loss, and nearest neighbors of a few images.
"""

import argparse
import json
import math
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from swav_plugin import shipped
from swav_plugin.checkpoints.atomic import new_folder
from swav_plugin.compat.arguments import Parser
from swav_plugin.compat.stack import install_hint
from swav_plugin.datasets import ImageFolder
from swav_plugin.datasets.list_file import write_class_folders
from swav_plugin.datasets.transforms import read_rgb
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import run_command
from swav_plugin.engine.processes import leave_cores_to_workers
from swav_plugin.engine.runner import CommandRunner
from swav_plugin.engine.screen import log_summary
from swav_plugin.engine.wording import counted
from swav_plugin.engine.work_dir import own_work_dir
from swav_plugin.evaluation import knn_predict
from swav_plugin.models import SwAV
from swav_plugin.report.record import end_recorded

CONFIGS = shipped.CONFIGS / 'selfsup/swav'
IMAGES_SEEN = 20_000  # by the demo on images: about four minutes on two cores
MAX_EVALUATED = 2_000
LABELS_PER_CLASS, NUM_DRAWS = 3, 20
# What the digits must reach, or the demo fails.
MAX_LOSS_SHARE, MIN_GAIN = 0.6, 25


class Features(NamedTuple):
    """Features of the evaluated images."""

    vectors: Tensor  # (N, C)
    labels: Tensor | None  # (N,)
    files: list[str]


def export_digits(folder: Path) -> None:
    """Write scikit-learn's 1,797 digits of 8x8 px as 32x32 PNG files."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    write_class_folders(
        folder,
        (
            (
                Image.fromarray((pixels * (255 / 16)).astype(np.uint8)).resize(
                    (32, 32), Image.Resampling.BICUBIC
                ),
                str(label),
            )
            for pixels, label in zip(digits.images, digits.target)
        ),
    )


def export_cifar10(folder: Path) -> None:
    """Download CIFAR-10 and write its training images as PNG files."""
    from torchvision.datasets import CIFAR10

    cifar = CIFAR10(str(folder.parent / 'download'), download=True)
    write_class_folders(
        folder, ((image, cifar.classes[label]) for image, label in cifar)
    )


def export_imagenette(folder: Path) -> None:
    """Download Imagenette at 160 px."""
    from torchvision.datasets import Imagenette

    download = folder.parent / 'download'
    Imagenette(str(download), size='160px', download=True)
    shutil.copytree(download / 'imagenette2-160/train', folder)


EXPORTS = dict(
    digits=export_digits, cifar10=export_cifar10, imagenette=export_imagenette
)


def prepare(dataset: str, root: Path) -> Path:
    """Return the folder of a known set; make it first if it is missing."""
    folder = root / dataset
    if not folder.exists():
        print(f'Preparing {dataset} in {folder}')
        # All or nothing: a broken download leaves no half-filled folder.
        with new_folder(folder) as part:
            EXPORTS[dataset](part)
    return folder


def make_config(data: Path, is_digits: bool, work_dir: Path) -> Config:
    """Return the demo's recipe for a folder of images."""
    name = 'swav_demo_digits' if is_digits else 'swav_demo_images'
    cfg = Config.fromfile(str(CONFIGS / f'{name}.py'))
    cfg.work_dir = str(work_dir)
    cfg.train_dataloader.dataset.data_root = str(data)
    if is_digits:
        return cfg
    num_images = len(ImageFolder(str(data)))
    batch_size = cfg.train_dataloader.batch_size
    if num_images < 2 * batch_size:
        raise UsageError(
            f'{data} has {counted(num_images, "image")}; this demo needs at '
            f'least {2 * batch_size} to form batches of {batch_size}.'
        )
    cfg.train_cfg.max_epochs = max(1, round(IMAGES_SEEN / num_images))
    return cfg


def evaluated_images(cfg: Config) -> Subset:
    """Return at most MAX_EVALUATED images, spread evenly over the set."""
    views = cfg.train_dataloader.dataset.pipeline[1]
    if views.type == 'MultiCrop':
        size = views.sizes[0]
    else:
        size = next(
            transform.size
            for transform in views.transforms[0]
            if 'size' in transform
        )
    dataset = ImageFolder(
        cfg.train_dataloader.dataset.data_root,
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeEdge', scale=size),
            dict(type='CenterCrop', crop_size=size),
            dict(type='PackViews'),
        ],
    )
    count = min(len(dataset), MAX_EVALUATED)
    indices = np.linspace(0, len(dataset) - 1, count).round().astype(int)
    return Subset(dataset, indices.tolist())


@torch.no_grad()
def extract(model: SwAV, images: Subset) -> Features:
    """Compute the pooled backbone features of images."""
    model.eval()
    vectors, labels, files = [], [], []
    for batch in DataLoader(images, 64, collate_fn=default_collate):
        inputs = model.data_preprocessor(batch)['inputs']
        vectors.append(model(inputs, mode='tensor').cpu())
        for sample in batch['data_samples']:
            files.append(sample.img_path)
            if 'gt_label' in sample:
                labels.append(int(sample.gt_label))
    known = torch.tensor(labels) if len(labels) == len(files) else None
    if known is not None and len(known.unique()) < 2:
        known = None
    return Features(torch.cat(vectors), known, files)


def few_label_accuracy(features: Features) -> float:
    """Return kNN accuracy in % with 3 labels per class, mean of 20 draws.

    The labeled images are the bank, all others the queries; k = 3, T = 0.07.
    """
    vectors, labels, _ = features
    assert labels is not None
    accuracies = []
    for seed in range(NUM_DRAWS):
        order = torch.randperm(
            len(labels), generator=torch.Generator().manual_seed(seed)
        )
        bank = torch.cat(
            [
                order[labels[order] == label][:LABELS_PER_CLASS]
                for label in labels.unique()
            ]
        )
        is_query = torch.ones(len(labels), dtype=torch.bool)
        is_query[bank] = False
        accuracies.append(
            _accuracy(
                vectors[bank],
                labels[bank],
                vectors[is_query],
                labels[is_query],
                k=LABELS_PER_CLASS,
            )
        )
    return float(np.mean(accuracies))


def all_label_accuracy(features: Features) -> float:
    """Return kNN accuracy in %: every other image is the bank; k 10, T .07."""
    vectors, labels, _ = features
    assert labels is not None
    return _accuracy(
        vectors[::2],
        labels[::2],
        vectors[1::2],
        labels[1::2],
        k=min(10, len(labels[::2])),
    )


def _accuracy(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, k: int
) -> float:
    votes = knn_predict(
        bank,
        bank_labels,
        queries,
        k,
        0.07,
        int(max(bank_labels.max(), labels.max())) + 1,
    )
    return 100 * float((votes.argmax(1) == labels).float().mean())


def read_losses(work_dir: Path) -> list[tuple[int, float]]:
    """Return iterations and losses of the newest run in a work dir."""
    newest = max(work_dir.glob('*/vis_data/scalars.json'))
    rows = [json.loads(line) for line in newest.read_text().splitlines()]
    return [(row['step'], row['loss']) for row in rows if 'loss' in row]


def draw(
    path: Path,
    losses: list[tuple[int, float]],
    num_prototypes: int,
    before: Features,
    after: Features,
    table: list[str],
) -> None:
    """Write the loss curve and nearest neighbors before and after."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(13, 4.6), layout='constrained')
    panels = figure.subfigures(1, 3, width_ratios=[1.1, 1, 1], squeeze=False)
    left, middle, right = panels[0]
    axis = left.subplots()
    axis.plot(*zip(*losses))
    chance = math.log(num_prototypes)
    axis.axhline(chance, color='gray', ls='--', label=f'ln K = {chance:.2f}')
    axis.set(xlabel='iteration', ylabel='SwAV loss', title='\n'.join(table))
    axis.title.set_fontsize(9)
    axis.set_ylim(0, 1.1 * chance)
    axis.legend()
    _draw_neighbors(middle, before, 'random network')
    _draw_neighbors(right, after, 'after SwAV')
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_neighbors(panel: Any, features: Features, title: str) -> None:
    """Draw a few images, each with its nearest neighbors."""
    num_queries, num_neighbors = 6, 5
    panel.suptitle(
        f'image, then its {num_neighbors} nearest: {title}', fontsize=9
    )
    grid = panel.subplots(num_queries, num_neighbors + 1)
    vectors = torch.nn.functional.normalize(features.vectors, dim=1)
    last = len(features.files) - 1
    queries = np.linspace(0, last, num_queries + 2)[1:-1].astype(int)
    for row, query in zip(grid, queries):
        nearest = (vectors @ vectors[query]).topk(num_neighbors + 1)
        others = [i for i in nearest.indices.tolist() if i != query]
        for cell, i in zip(row, [query, *others]):
            image = Image.fromarray(read_rgb(features.files[i]))
            cell.imshow(image.resize((64, 64)))
            cell.axis('off')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        '--data', type=Path, help='a folder of images, in place of a dataset'
    )
    parser.add_argument(
        '--dataset',
        choices=EXPORTS,
        default='digits',
        help='default: digits, which is not downloaded',
    )
    parser.add_argument(
        '--data-root',
        type=Path,
        default=Path('data'),
        help='folder for the datasets (default: data)',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        help='folder for results (default: work_dirs/demo/NAME)',
    )
    return parser.parse_args(argv)


def demo(args: argparse.Namespace) -> None:
    """Prepare, pretrain, compare.

    Raises:
        UsageError: A package is missing, or there are too few images.
    """
    missing = [n for n in ('matplotlib', 'sklearn') if find_spec(n) is None]
    if missing:
        raise UsageError(
            f'the demo needs {" and ".join(missing)}: {install_hint("demo")}'
        )
    is_digits = args.data is None and args.dataset == 'digits'
    name = args.dataset if args.data is None else args.data.resolve().name
    work_dir = args.work_dir or Path('work_dirs/demo') / name
    data = args.data or prepare(args.dataset, args.data_root)
    try:
        cfg = make_config(data, is_digits, work_dir)
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error)) from None

    own_work_dir(str(work_dir), is_new=True, overwrite=True)
    leave_cores_to_workers(cfg)
    runner = CommandRunner.from_cfg(cfg)
    images = evaluated_images(cfg)
    log_summary(runner, 'train')
    runner.model.init_weights()
    before = extract(runner.model, images)
    with end_recorded(runner):
        runner.train()
    after = extract(runner.model, images)
    report(data, work_dir, runner.model, before, after, is_digits)


def report(
    data: Path,
    work_dir: Path,
    model: SwAV,
    before: Features,
    after: Features,
    is_digits: bool,
) -> None:
    """Print and draw what was learned; end with an error if it is too little.

    Raises:
        SystemExit: The digits, whose numbers are known, fell short of them.
    """
    losses = read_losses(work_dir)
    num_prototypes = model.head.num_prototypes[0]
    share = losses[-1][1] / math.log(num_prototypes)
    table = [
        f'loss {losses[0][1]:.2f} -> {losses[-1][1]:.2f} = {share:.2f} ln K'
    ]
    gain = 0.0
    if after.labels is not None:
        few = few_label_accuracy(before), few_label_accuracy(after)
        half = all_label_accuracy(before), all_label_accuracy(after)
        gain = few[1] - few[0]
        table += [
            f'kNN, {LABELS_PER_CLASS} labels per class: {few[0]:.1f} % '
            f'-> {few[1]:.1f} %',
            f'kNN, half of all labels: {half[0]:.1f} % -> {half[1]:.1f} %',
        ]
    else:
        table.append('no class folders, so no kNN accuracy')
    draw(work_dir / 'demo.png', losses, num_prototypes, before, after, table)
    print('\nSwAV on', data)
    print('\n'.join(f'  {line}' for line in table))
    print(f'  picture: {work_dir / "demo.png"}')
    print(f'  weights: {(work_dir / "last_checkpoint").read_text()}')
    if is_digits and (share >= MAX_LOSS_SHARE or gain < MIN_GAIN):
        sys.exit(
            f'The demo did not learn as it should: the loss should end '
            f'below {MAX_LOSS_SHARE} ln K and kNN with few labels gain '
            f'at least {MIN_GAIN} points. Please report this output.'
        )


def main() -> None:
    """Run the demo; a mistake of the user ends in one line."""
    run_command(demo, parse_args())


if __name__ == '__main__':
    main()
