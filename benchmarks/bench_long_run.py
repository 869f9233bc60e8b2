"""Memory, open files and threads of a run of many iterations.

    python benchmarks/bench_long_run.py --iters 20000

Trains a tiny network on drawn images, with a data worker, a queue,
accumulation, kNN every 250 epochs and checkpoints, and looks at its processes
from outside. Prints how much each of these numbers grows in 1,000 iterations
after the first tenth of the run, and writes a record.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from common import ROOT, hardware, write_json
from PIL import Image

NUM_IMAGES, BATCH_SIZE = 64, 8
POLL_S = 2.0

CONFIG = """
_base_ = ['{root}/configs/selfsup/_base_/models/swav_resnet18.py',
          '{root}/configs/selfsup/_base_/schedules/lars_coslr_bs256.py',
          '{root}/configs/selfsup/_base_/default_runtime.py']
model = dict(
    backbone=dict(
        _delete_=True, type='ResNet_CIFAR', depth=18, num_stages=1,
        out_indices=(0,), strides=(2,), dilations=(1,), stem_channels=8,
        base_channels=8, norm_cfg=dict(type='BN')),
    neck=dict(in_channels=8, hid_channels=32, out_channels=16),
    head=dict(num_prototypes=20, queue_length=32))
optim_wrapper = dict(accumulative_counts=2)
train_dataloader = dict(
    batch_size={batch_size}, num_workers=1, persistent_workers=True,
    drop_last=True, sampler=dict(type='KeyedSampler', shuffle=True),
    collate_fn=dict(type='collate_views'),
    dataset=dict(
        type='ImageFolder', data_root='{images}', in_memory=True,
        pipeline=[
            dict(type='LoadImage'),
            dict(type='MultiCrop', num_views=[2, 2], sizes=[32, 16],
                 crop_ratio_ranges=[(.3, 1.), (.1, .5)]),
            dict(type='PackViews')]))
def images(split):
    return dict(
        batch_size=32, num_workers=0,
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='ImageFolder', data_root='{images}', test_mode=True,
            pipeline=[dict(type='LoadImage'), dict(type='PackViews')]))
val_dataloader = images('val')
val_evaluator = [dict(type='KNN', k=[3])]
val_cfg = dict(type='FeatureEvalLoop', bank_dataloader=images('train'),
               features=['avgpool'])
train_cfg = dict(max_epochs={epochs}, val_interval=250)
default_hooks = dict(checkpoint=dict(interval=100, interval_iters=300),
                     report=None)
"""


def draw_images(folder: Path) -> None:
    """Draw 32x32 pictures of two classes."""
    for number in range(NUM_IMAGES):
        rng = np.random.default_rng(number)
        coarse = rng.integers(256, size=(4, 4, 3), dtype=np.uint8)
        path = folder / f'{number % 2}/{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((32, 32)).save(path)


def look_at(pid: int) -> dict[str, float]:
    """Return MB, open files and threads of a process and its children."""
    task = Path(f'/proc/{pid}/task/{pid}/children').read_text()
    seen: dict[str, float] = {}
    for who, each in (('main', [pid]), ('workers', map(int, task.split()))):
        status = [Path(f'/proc/{p}/status').read_text() for p in each]
        fields = [
            dict(line.split(':', 1) for line in text.splitlines())
            for text in status
        ]
        seen[f'{who}_mb'] = (
            sum(int(field['VmRSS'].split()[0]) for field in fields) / 1024
        )
        seen[f'{who}_threads'] = sum(int(field['Threads']) for field in fields)
    seen['main_files'] = len(os.listdir(f'/proc/{pid}/fd'))
    return seen


def last_iteration(work_dir: Path) -> int:
    """Return the last iteration that a run has logged, or 0."""
    for path in work_dir.glob('*/vis_data/scalars.json'):
        lines = path.read_text().splitlines()
        logged = [json.loads(line) for line in lines[-20:]]
        steps = [each['iter'] for each in logged if 'loss' in each]
        return max(steps, default=0)
    return 0


def growth(samples: list[dict], name: str) -> float:
    """Return how much a number grows in 1,000 iterations, by least squares."""
    begin = samples[-1]['iter'] / 10
    used = [sample for sample in samples if sample['iter'] >= begin]
    steps = np.array([sample['iter'] for sample in used]) / 1000
    values = np.array([sample[name] for sample in used], float)
    steps = steps - steps.mean()
    return float(steps @ (values - values.mean()) / max(steps @ steps, 1e-9))


def watch(work_dir: Path, num_iters: int) -> list[dict]:
    """Train; return a sample for each new line of the log."""
    images = work_dir / 'images'
    draw_images(images)
    config = work_dir / 'config.py'
    epochs = num_iters * BATCH_SIZE // NUM_IMAGES
    config.write_text(
        CONFIG.format(
            root=ROOT, images=images, batch_size=BATCH_SIZE, epochs=epochs
        )
    )
    command = [sys.executable, str(ROOT / 'tools/train.py'), str(config)]
    samples: list[dict] = []
    with open(work_dir / 'output.txt', 'w') as output:
        process = subprocess.Popen(
            [*command, '--work-dir', str(work_dir)],
            env={**os.environ, 'PYTHONPATH': str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        while process.poll() is None:
            time.sleep(POLL_S)
            step = last_iteration(work_dir)
            if step and (not samples or step > samples[-1]['iter']):
                with suppress(OSError, KeyError):  # it has just ended
                    seen = dict(iter=step, **look_at(process.pid))
                    if seen['workers_mb']:  # they end first
                        samples.append(seen)
        if process.wait():
            raise SystemExit((work_dir / 'output.txt').read_text()[-3000:])
    return samples


def main() -> None:
    """Measure and print; write a record of a run that is long enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--iters', type=int, default=20_000)
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        samples = watch(Path(folder), args.iters)
    grows = {
        name: round(growth(samples, name), 4)
        for name in samples[-1]
        if name != 'iter'
    }
    print(f'{"":16} first    last  in 1,000 iterations')
    for name, value in grows.items():
        first, last = samples[0][name], samples[-1][name]
        print(f'{name:16} {first:7.1f} {last:7.1f}  {value:+.3f}')
    record = dict(
        hardware=hardware(['mmengine']),
        iters=samples[-1]['iter'],
        growth_per_1000_iters=grows,
        samples=samples[:: max(1, len(samples) // 100)],
    )
    if args.iters >= 20_000:
        print(write_json('long_run_cpu', record))


if __name__ == '__main__':
    main()
