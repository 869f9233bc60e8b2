"""Images of CIFAR's size cut a batch at a time and one at a time: images/s.

    taskset -c 1 python benchmarks/bench_batches.py --data PHOTOS

Images in memory take the path of batches; "one at a time" hides it, as any
wrapper around a dataset does. Photographs are read from files, one at a time
either way. `--before CHECKOUT` lets another version of this package take its
turns, too.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from common import find_photos, hardware, interleave, write_json
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
NUM_SMALL, NUM_PHOTOS = 4096, 256

# Runs in the version that PYTHONPATH names: a batch count for each line read.
WORKER = """
import sys
import numpy as np
import torch
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader, Dataset
from swav_plugin.datasets import ImageFolder, KeyedSampler, collate_views

torch.set_num_threads(1)
init_default_scope('swav_plugin')
root, in_memory, is_single = sys.argv[1], *map(int, sys.argv[2:])
crops = dict(
    num_views=[2, 6], sizes=[128, 64],
    crop_ratio_ranges=[(.14, 1.), (.05, .14)])
if in_memory:
    crops = dict(
        num_views=[2, 4], sizes=[32, 18],
        crop_ratio_ranges=[(.2, 1.), (.08, .5)], blur_prob=0.0)
dataset = ImageFolder(root, in_memory=bool(in_memory), pipeline=[
    dict(type='LoadImage'),
    dict(type='MultiCrop', flip_prob=.5, brightness=.4, contrast=.4,
         saturation=.4, hue=.1, jitter_prob=.8, grayscale_prob=.2, **crops),
    dict(type='PackViews')])
dataset.full_init()

class OneAtATime(Dataset):
    def __len__(self):
        return len(dataset)
    def __getitem__(self, key):
        return dataset[key]

loader = DataLoader(
    OneAtATime() if is_single else dataset,
    batch_size=256 if in_memory else 64, drop_last=True,
    sampler=KeyedSampler(dataset, shuffle=True, seed=0),
    collate_fn=collate_views)
print('ready', flush=True)
for _ in sys.stdin:
    num = sum(len(batch['inputs'][0]) for batch in loader)
    print(num, flush=True)
"""


class Arm:
    """A process that cuts all images of a folder whenever it is asked to."""

    def __init__(
        self, tree: Path, folder: Path, in_memory: bool, is_single: bool
    ) -> None:
        flags = [str(int(flag)) for flag in (in_memory, is_single)]
        self._process = subprocess.Popen(
            [sys.executable, '-c', WORKER, str(folder), *flags],
            env={**os.environ, 'PYTHONPATH': str(tree)},
            cwd=tree,  # Python looks there first, before PYTHONPATH.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin and self._process.stdout
        self._asks, self._answers = self._process.stdin, self._process.stdout
        while self._answers.readline() != 'ready\n':
            assert self._process.poll() is None
        self.num_images = 0

    def __call__(self) -> None:
        self._asks.write('\n')
        self._asks.flush()
        self.num_images = int(self._answers.readline())


def write_images(photos: list[str], folder: Path) -> None:
    """Write squares of photographs as PNG files of 32 px, and copies."""
    for number in range(NUM_SMALL):
        with Image.open(photos[number % len(photos)]) as photo:
            rgb = photo.convert('RGB')
        left = number // len(photos) * 8 % max(1, rgb.width - 96)
        square = rgb.crop((left, 0, left + 96, 96)).resize((32, 32))
        square.save(folder / f'{number}.png')


def main() -> None:
    """Measure in turns, print, and write a record."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--data', required=True, help='a folder of JPEG files')
    parser.add_argument('--before', type=Path, help='checkout of a version')
    parser.add_argument('--rounds', type=int, default=10)
    args = parser.parse_args()
    photos = find_photos(args.data, NUM_PHOTOS)
    with TemporaryDirectory() as folder:
        small, large = Path(folder, 'small'), Path(folder, 'large')
        small.mkdir()
        large.mkdir()
        write_images(photos, small)
        for number, photo in enumerate(photos):
            (large / f'{number}.jpg').write_bytes(Path(photo).read_bytes())
        arms = {
            'small, a batch at a time': Arm(ROOT, small, True, False),
            'small, one at a time': Arm(ROOT, small, True, True),
            'photographs': Arm(ROOT, large, False, False),
            'photographs, one at a time': Arm(ROOT, large, False, True),
        }
        if args.before:
            arms |= {
                'small, before': Arm(args.before, small, True, False),
                'photographs, before': Arm(args.before, large, False, False),
            }
        times = interleave(dict(arms), args.rounds)
    rows: list[dict[str, Any]] = []
    for name, arm in arms.items():
        rates = [1e3 * arm.num_images / ms for ms in times[name]]
        middle, least, most = (
            round(number) for number in (median(rates), min(rates), max(rates))
        )
        row = dict(name=name, images_per_s=middle, range=[least, most])
        before = times.get(f'{name.partition(",")[0]}, before')
        if before and not name.endswith('before'):
            ratios = [b / own for b, own in zip(before, times[name])]
            row['speedup'] = round(median(ratios), 3)
            row['speedup_range'] = [
                round(each, 3) for each in (min(ratios), max(ratios))
            ]
        rows.append(row)
        print(row)
    record = dict(hardware=hardware(['mmpretrain']), rows=rows)
    if args.before:
        record['before'] = subprocess.run(
            ['git', '-C', args.before, 'describe', '--always'],
            capture_output=True,
            text=True,
        ).stdout.strip()
    print(write_json('batches_cpu', record))


if __name__ == '__main__':
    main()
