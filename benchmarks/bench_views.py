"""Time JPEG files to SwAV's 2x224 + 6x96 views: images/s of one core.

Compares our pipeline with those that others train SwAV with. Each has its own
decoder, its own draws from the same distributions, and its own output.

    taskset -c 1 python benchmarks/bench_views.py --data PHOTOS
    python benchmarks/bench_views.py --data PHOTOS --workers 1 2

The second line measures our loader with worker processes instead.
"""

import argparse
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import cycle
from statistics import median
from unittest import mock

import cv2
import numpy as np
import torch
import torchvision.transforms as T
import torchvision.transforms.functional as TF
from common import (
    build_loader,
    find_photos,
    hardware,
    interleave,
    summary,
    write_json,
)
from mmcv.transforms import Compose
from mmengine.registry import init_default_scope
from PIL import Image, ImageFilter

from swav_plugin.compat import jit
from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.transforms import LoadImage, read_rgb
from swav_plugin.datasets.transforms.view_params import (
    AMOUNT,
    BRIGHTNESS,
    CONTRAST,
    FLIP,
    GRAYSCALE,
    HUE,
    ORDER,
    SATURATION,
    SIGMA,
    SIZE,
    TOP,
    WIDTH,
    draw_view_params,
)
from swav_plugin.registry import TRANSFORMS

# Each group: how many views, their size in pixels, share of the image.
GROUPS = ((2, 224, (0.14, 1.0)), (6, 96, (0.05, 0.14)))
FILES_IN_TURN = 8
UPSTREAM = 'facebookresearch/swav'
PACKAGES = (
    'torchvision',
    'Pillow',
    'numpy',
    'numba',
    'opencv-python',
    'opencv-python-headless',
    'onedl-mmpretrain',
    'mmpretrain',
    'lightly',
    'albumentations',
)
Pipeline = Callable[[str], object]


def upstream() -> Pipeline:
    """Build upstream's pipeline: torchvision on Pillow images."""

    def blur(img: Image.Image) -> Image.Image:
        if random.random() >= 0.5:
            return img
        return img.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))

    views = []
    for num_views, size, ratios in GROUPS:
        views += num_views * [
            T.Compose(
                [
                    T.RandomResizedCrop(size, scale=ratios),
                    T.RandomHorizontalFlip(0.5),
                    T.RandomApply([T.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
                    T.RandomGrayscale(0.2),
                    blur,
                    T.ToTensor(),
                    T.Normalize([0.485, 0.456, 0.406], [0.228, 0.224, 0.225]),
                ]
            )
        ]

    def pipeline(path: str) -> list:
        with Image.open(path) as file:
            img = file.convert('RGB')
        return [view(img) for view in views]

    return pipeline


def mmpretrain() -> Pipeline:
    """Build that of mmpretrain's swav_resnet50_8xb32-mcrop-coslr-200e_in1k."""
    import mmpretrain.datasets  # noqa: F401
    from mmpretrain.registry import TRANSFORMS as theirs

    groups = [
        [
            dict(
                type='RandomResizedCrop',
                scale=size,
                crop_ratio_range=ratios,
                backend='pillow',
            ),
            dict(
                type='RandomApply',
                prob=0.8,
                transforms=[
                    dict(
                        type='ColorJitter',
                        brightness=0.8,
                        contrast=0.8,
                        saturation=0.8,
                        hue=0.2,
                    )
                ],
            ),
            dict(
                type='RandomGrayscale',
                prob=0.2,
                keep_channels=True,
                channel_weights=(0.114, 0.587, 0.2989),
            ),
            dict(
                type='GaussianBlur',
                magnitude_range=(0.1, 2.0),
                magnitude_std='inf',
                prob=0.5,
            ),
            dict(type='RandomFlip', prob=0.5),
        ]
        for _, size, ratios in GROUPS
    ]
    with _scope('mmpretrain'):
        transforms = [
            theirs.build(transform)
            for transform in (
                dict(type='LoadImageFromFile'),
                dict(
                    type='MultiView',
                    num_views=[group[0] for group in GROUPS],
                    transforms=groups,
                ),
                dict(type='PackInputs'),
            )
        ]
    return lambda path: Compose(transforms)(dict(img_path=path))


@contextmanager
def _scope(name: str) -> Iterator[None]:
    """Let names mean the classes of another package."""
    init_default_scope(name)
    yield
    init_default_scope('swav_plugin')


def lightly() -> Pipeline:
    """Build SwaVTransform with its defaults, which are SwAV's."""
    from lightly.transforms import SwaVTransform

    transform = SwaVTransform()

    def pipeline(path: str) -> list:
        with Image.open(path) as file:
            return transform(file.convert('RGB'))

    return pipeline


def albumentations() -> Pipeline:
    """Build the nearest one: no antialiasing, other hue and blur."""
    import albumentations as A

    views = []
    for num_views, size, ratios in GROUPS:
        views += num_views * [
            A.Compose(
                [
                    A.RandomResizedCrop((size, size), scale=ratios),
                    A.HorizontalFlip(p=0.5),
                    A.ColorJitter(
                        (0.2, 1.8), (0.2, 1.8), (0.2, 1.8), (-0.2, 0.2), p=0.8
                    ),
                    A.ToGray(p=0.2),
                    A.GaussianBlur(
                        blur_limit=0, sigma_limit=(0.1, 2.0), p=0.5
                    ),
                ]
            )
        ]

    def pipeline(path: str) -> list:
        img = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        return [
            view(image=img)['image'].transpose(2, 0, 1).copy()
            for view in views
        ]

    return pipeline


def recipe(**changes: object) -> dict:
    """Return our transform with SwAV's numbers."""
    num_views, sizes, ratios = zip(*GROUPS)
    return dict(
        type='MultiCrop',
        num_views=num_views,
        sizes=sizes,
        crop_ratio_ranges=ratios,
        **changes,
    )


def separate() -> dict:
    """Return our transforms one by one, as in a custom pipeline."""
    return dict(
        type='MultiView',
        num_views=[group[0] for group in GROUPS],
        transforms=[
            [
                dict(
                    type='RandomResizedCrop',
                    size=size,
                    crop_ratio_range=ratios,
                ),
                dict(type='RandomFlip', prob=0.5),
                dict(
                    type='ColorJitter',
                    brightness=0.8,
                    contrast=0.8,
                    saturation=0.8,
                    hue=0.2,
                    prob=0.8,
                ),
                dict(type='RandomGrayscale', prob=0.2),
                dict(type='GaussianBlur', sigma_range=(0.1, 2.0), prob=0.5),
            ]
            for _, size, ratios in GROUPS
        ],
    )


def ours(cut: dict, loads: bool = True, numba: bool = True) -> Pipeline:
    """Build ours, which reads files or starts from decoded images."""
    steps = [dict(type='LoadImage')] if loads else []
    transform = Compose(
        [
            TRANSFORMS.build(step)
            for step in (*steps, cut, dict(type='PackViews'))
        ]
    )
    decoded: dict[str, np.ndarray] = {}
    keys = iter(SampleKey(i, epoch=0, seed=0) for i in range(10**9))

    def pipeline(path: str) -> dict:
        sample = dict(img_path=path, sample_idx=next(keys))
        if not loads:
            if path not in decoded:  # in a warm-up round
                decoded[path] = read_rgb(path)
            sample.update(img=decoded[path], channel_order='rgb')
        with (
            nullcontext()
            if numba
            else mock.patch.object(jit, 'NO_NUMBA', 'switched off')
        ):
            return transform(sample)

    return pipeline


# Name: how to build it, what comes out, how to install it.
PIPELINES: dict[str, tuple[Callable[[], Pipeline], str, str]] = {
    UPSTREAM: (upstream, 'float32', ''),
    'mmpretrain': (mmpretrain, 'uint8', 'onedl-mmpretrain'),
    'lightly': (lightly, 'float32', 'lightly'),
    'albumentations (different pixels)': (
        albumentations,
        'uint8',
        'albumentations',
    ),
    'swav_plugin': (lambda: ours(recipe()), 'uint8', ''),
    'swav_plugin without numba': (
        lambda: ours(recipe(), numba=False),
        'uint8',
        '',
    ),
    'swav_plugin, separate transforms': (
        lambda: ours(separate()),
        'uint8',
        '',
    ),
    'swav_plugin, views cut on the GPU': (
        lambda: ours(recipe(on_device=True)),
        'uint8',
        '',
    ),
    'swav_plugin, images in memory': (
        lambda: ours(recipe(), loads=False),
        'uint8',
        '',
    ),
    'decoding alone': (
        lambda: lambda path: LoadImage()(dict(img_path=path)),
        'uint8',
        '',
    ),
}


def compare(files: list[str], num_rounds: int) -> tuple[list, dict]:
    """Time all pipelines; also say which are missing, and why.

    They take turns after some files: often enough for other work on the
    machine to slow all of them alike, and rarely enough for their code to be
    in the cache. A round is all files.
    """
    steps, missing = {}, {}
    num_turns = -(-len(files) // FILES_IN_TURN)
    for name, (build, _, package) in PIPELINES.items():
        try:
            pipeline = build()
            for file in files[:FILES_IN_TURN]:
                pipeline(file)
        except Exception as error:
            if not package:
                raise
            missing[name] = f'{error!r}; pip install {package}'
            if not isinstance(error, ImportError):
                missing[name] = f'{package} does not run here: {error!r}'
            continue
        turns = cycle([files[turn::num_turns] for turn in range(num_turns)])
        steps[name] = lambda pipeline=pipeline, turns=turns: [
            pipeline(file) for file in next(turns)
        ]
    times = {}
    for name, turns in interleave(
        steps, num_rounds * num_turns, warmup=num_turns
    ).items():
        rounds = np.array(turns).reshape(num_rounds, num_turns).sum(1)
        times[name] = (rounds / len(files)).tolist()
    rows = summary(times, baseline=UPSTREAM)
    for row in rows:
        row['images_per_s'] = round(1000 / median(times[row['name']]), 1)
        row['output'] = PIPELINES[row['name']][1]
        row['ours_speedup'] = round(
            median(
                theirs / own
                for theirs, own in zip(
                    times[row['name']], times['swav_plugin']
                )
            ),
            2,
        )
    return rows, missing


def largest_difference(files: list[str], num_crops: int) -> dict[str, object]:
    """Cut the same views with torchvision on Pillow and compare pixels."""
    transform = TRANSFORMS.build(recipe())
    largest = num_values = num_views = 0
    while num_views < num_crops:
        img = read_rgb(files[num_views % len(files)])
        key = SampleKey(num_views, epoch=0, seed=0)
        params = draw_view_params(key, *img.shape[:2], transform.recipe)
        for view, row in zip(transform.cut(img, params), params):
            expected = np.asarray(_torchvision_view(img, row), np.int16)
            largest = max(largest, int(abs(view - expected).max()))
            num_values += view.size
            num_views += 1
    return dict(
        max_difference=largest, num_crops=num_views, num_values=num_values
    )


def _torchvision_view(img: np.ndarray, row: np.ndarray) -> Image.Image:
    """Cut one view, (size, size), by its row of `draw_view_params`."""
    top, left, height, width = row[TOP : WIDTH + 1].astype(int).tolist()
    size = int(row[SIZE])
    view = TF.resized_crop(
        Image.fromarray(img), top, left, height, width, [size, size]
    )
    if row[FLIP]:
        view = TF.hflip(view)
    adjust = {
        BRIGHTNESS: TF.adjust_brightness,
        CONTRAST: TF.adjust_contrast,
        SATURATION: TF.adjust_saturation,
        HUE: TF.adjust_hue,
    }
    for adjustment in row[ORDER : ORDER + 4].astype(int):
        if adjustment in adjust:
            view = adjust[adjustment](view, float(row[AMOUNT + adjustment]))
    if row[GRAYSCALE]:
        view = TF.rgb_to_grayscale(view, 3)
    if row[SIGMA]:
        view = view.filter(ImageFilter.GaussianBlur(float(row[SIGMA])))
    return view


def scaling(
    files: list[str],
    worker_counts: list[int],
    num_rounds: int,
    batch_size: int = 32,
    num_batches: int = 16,
) -> list[dict]:
    """Measure images/s of our loader with each number of workers, in turn."""
    loaders = {
        count: iter(build_loader(files, batch_size, count))
        for count in worker_counts
    }

    def batches(count: int) -> float:
        """Time `num_batches` in seconds, after those made in advance."""
        for _ in range(2 * count + 1):
            next(loaders[count])
        start = time.perf_counter()
        for _ in range(num_batches):
            next(loaders[count])
        return time.perf_counter() - start

    speeds: dict[int, list[float]] = {count: [] for count in worker_counts}
    for round_number in range(1 + num_rounds):
        for count in worker_counts:
            speed = num_batches * batch_size / batches(count)
            if round_number:
                speeds[count].append(speed)
    return [
        dict(
            num_workers=count,
            images_per_s=round(median(own), 1),
            speedup=round(
                median(a / b for a, b in zip(own, speeds[worker_counts[0]])), 2
            ),
        )
        for count, own in speeds.items()
    ]


def print_pipelines(rows: list[dict], missing: dict[str, str]) -> None:
    """Print one line for each pipeline."""
    print(
        f'{"pipeline":<36} {"ms/image":>8} {"images/s":>8} '
        f'{"ratio [range]":>18} {"ours is":>7}  output'
    )
    for row in rows:
        low, high = row['speedup_range']
        ratio = f'{row["speedup"]:.2f} [{low:.2f}-{high:.2f}]'
        print(
            f'{row["name"]:<36} {row["median_ms"]:8.2f} '
            f'{row["images_per_s"]:8.1f} {ratio:>18} '
            f'{row["ours_speedup"]:6.2f}x  {row["output"]}'
        )
    for name, reason in missing.items():
        print(f'{name:<36} {reason}')


def main() -> None:
    """Print tables and write them to results/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--data', required=True, help='folder of JPEG photographs'
    )
    parser.add_argument('--num-files', type=int, default=48)
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument(
        '--num-crops',
        type=int,
        default=1024,
        help='views whose pixels are compared',
    )
    parser.add_argument(
        '--workers',
        type=int,
        nargs='+',
        help='measure the loader with these numbers of workers instead',
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    warnings.filterwarnings('ignore')
    init_default_scope('swav_plugin')
    files = find_photos(args.data, args.num_files)
    content: dict[str, object] = dict(hardware=hardware(PACKAGES))
    if args.workers:
        content['workers'] = scaling(files, args.workers, args.rounds)
        for row in content['workers']:
            print(
                f'{row["num_workers"]} workers: {row["images_per_s"]:.1f} '
                f'images/s, {row["speedup"]:.2f} x'
            )
        path = write_json('workers_cpu', content)
    else:
        rows, missing = compare(files, args.rounds)
        print_pipelines(rows, missing)
        pixels = largest_difference(files, args.num_crops)
        print(
            f'largest difference from torchvision: '
            f'{pixels["max_difference"]} of 255, in {pixels["num_crops"]} '
            f'views of the same draws ({pixels["num_values"]:.1e} values)'
        )
        content.update(results=rows, missing=missing, pixels=pixels)
        path = write_json('views_cpu', content)
    print(f'written to {path.name}')


if __name__ == '__main__':
    main()
