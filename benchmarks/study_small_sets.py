"""What helps SwAV on small sets: colors, K, epsilon and the queue.

    python benchmarks/study_small_sets.py --imagenette FOLDER --work-dir DIR

Trains small networks on two small sets, once for each variant and seed, and
measures kNN on the validation images after the last epoch:

- digits: scikit-learn's 1,797 digits at 32 px, every other one for validation;
- imagenette: the first 200 training and 100 validation images of each class at
  64 px, ResNet-18 at a quarter of its width.

It measures kNN ten times in each run, beside what HealthHook knows without
labels, and tells how well its stopping score picks the epoch of the best kNN.
Untrained networks of the same seeds are measured, too: a run that is no better
has learned nothing.

FOLDER has train/<class>/ and val/<class>/. A study that is stopped goes on
with the run that it was at. A record is written after the last one.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from common import ROOT, hardware, write_json
from report import points_lost

from swav_plugin.engine.config import load_config
from swav_plugin.engine.runner import CommandRunner

CONFIG = """
_base_ = ['{root}/configs/selfsup/_base_/models/swav_resnet18.py',
          '{root}/configs/selfsup/_base_/schedules/adam_coslr_bs256.py',
          '{root}/configs/selfsup/_base_/default_runtime.py']
model = dict(
    backbone=dict({backbone}),
    neck=dict(in_channels={channels}, hid_channels=256, out_channels=64),
    head=dict(num_prototypes={num_prototypes}, epsilon={epsilon},
              queue_length={queue_length}))
train_dataloader = dict(
    batch_size=128, num_workers=0, drop_last=True,
    sampler=dict(type='KeyedSampler', shuffle=True),
    collate_fn=dict(type='collate_views'),
    dataset=dict(
        type='ImageFolder', data_root='{data}/train', in_memory=True,
        pipeline=[
            dict(type='LoadImage'),
            dict(type='MultiCrop', num_views=[2, 2], sizes={sizes},
                 crop_ratio_ranges={crops}, flip_prob={flip_prob},
                 brightness={color}, contrast={color}, saturation={color},
                 hue={color} / 4, jitter_prob=.8, grayscale_prob=.2,
                 sigma_range=(.1, 2.), blur_prob={blur_prob}),
            dict(type='PackViews')]))
def images(split):
    return dict(
        batch_size=256, num_workers=0,
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='ImageFolder', data_root='{data}/' + split, test_mode=True,
            pipeline=[
                dict(type='LoadImage'),
                dict(type='ResizeEdge', scale={edge}, edge='short',
                     backend='pillow'),
                dict(type='CenterCrop', crop_size={size}),
                dict(type='PackViews')]))
val_dataloader = images('val')
val_evaluator = [dict(type='KNN', k=[20], temperature=0.1)]
val_cfg = dict(type='FeatureEvalLoop', bank_dataloader=images('train'),
               features=['avgpool'])
train_cfg = dict(max_epochs={epochs}, val_interval={epochs} // 10)
randomness = dict(seed={seed})
default_hooks = dict(logger=dict(interval=5),
                     checkpoint=dict(interval={epochs}),
                     swav=dict(queue_begin_epoch={epochs} // 5),
                     report=None)
"""

SETS: dict[str, dict[str, Any]] = dict(
    digits=dict(
        # As swav_demo_digits: three stages, 4x4 before the pooling.
        backbone="_delete_=True, type='ResNet_CIFAR', depth=18, num_stages=3, "
        'out_indices=(2,), strides=(2, 2, 2), dilations=(1, 1, 1), '
        "stem_channels=16, base_channels=16, norm_cfg=dict(type='BN'), "
        'zero_init_residual=False',
        channels=64,
        sizes=[32, 16],
        crops=[(0.6, 1.0), (0.3, 0.6)],
        flip_prob=0.0,  # a mirrored digit is another character
        blur_prob=0.0,
        edge=32,
        size=32,
        epochs=40,
    ),
    imagenette=dict(
        backbone='stem_channels=16, base_channels=16',
        channels=128,
        sizes=[64, 32],
        crops=[(0.14, 1.0), (0.05, 0.14)],
        flip_prob=0.5,
        blur_prob=0.5,
        edge=72,
        size=64,
        epochs=20,
    ),
)
# lightly's, but for K, which is in the middle.
BASE = dict(color=0.4, num_prototypes=300, epsilon=0.05, queue_length=0)
VARIANTS: dict[str, dict[str, Any]] = {
    'K 300, epsilon .05, half-strength colors': {},
    'full-strength colors': dict(color=0.8),
    'K 100': dict(num_prototypes=100),
    'K 3000': dict(num_prototypes=3000),
    'epsilon .03': dict(epsilon=0.03),
    'K 100, epsilon .03': dict(num_prototypes=100, epsilon=0.03),
    'queue of 512': dict(queue_length=512),
    'K 3000, queue of 512': dict(num_prototypes=3000, queue_length=512),
}


UNTRAINED = 'untrained'


def write_digits(folder: Path) -> None:
    """Write scikit-learn's digits in class folders, half for validation."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images, digits.target)):
        path = folder / ('train', 'val')[i % 2] / str(label) / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels * (255 / 16)).astype('uint8'))
        image.resize((32, 32), Image.Resampling.BICUBIC).save(path)


def link_subset(source: Path, folder: Path) -> None:
    """Link the first images of each class of Imagenette."""
    for split, count in (('train', 200), ('val', 100)):
        for kind in sorted((source / split).iterdir()):
            target = folder / split / kind.name
            target.mkdir(parents=True, exist_ok=True)
            for path in sorted(kind.iterdir())[:count]:
                link = target / path.name
                if not link.is_symlink():
                    link.symlink_to(path.resolve())


def write_config(
    name: str, variant: str, seed: int, work_dir: Path, folder: Path
) -> Path:
    """Write the config of a run into its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    values = SETS[name] | BASE | VARIANTS.get(variant, {})
    config = folder / 'config.py'
    config.write_text(
        CONFIG.format(root=ROOT, data=work_dir / name, seed=seed, **values)
    )
    return config


def measure_untrained(name: str, seed: int, work_dir: Path) -> dict[str, Any]:
    """Return kNN in % of a network as a run of this seed begins."""
    folder = work_dir / f'{name}_{UNTRAINED}_{seed}'
    config = write_config(name, UNTRAINED, seed, work_dir, folder)
    begin = time.monotonic()
    cfg = load_config(str(config))
    cfg.work_dir = str(folder)
    for key in ('dataloader', 'cfg', 'evaluator'):
        cfg[f'test_{key}'] = cfg.pop(f'val_{key}')
    runner = CommandRunner.from_cfg(cfg)
    runner.model.init_weights()
    (knn,) = (v for k, v in runner.test().items() if k.endswith('top1'))
    return dict(knn=knn, loss=None, seconds=time.monotonic() - begin)


def run(name: str, variant: str, seed: int, work_dir: Path) -> dict[str, Any]:
    """Train once; return the last loss, kNN in % and seconds."""
    if variant == UNTRAINED:
        return measure_untrained(name, seed, work_dir)
    folder = work_dir / f'{name}_{[*VARIANTS].index(variant)}_{seed}'
    config = write_config(name, variant, seed, work_dir, folder)
    begin = time.monotonic()
    subprocess.run(
        [
            sys.executable, '-m', 'swav_plugin.commands.train', str(config),
            '--work-dir', str(folder), '--overwrite',
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'),
    )  # fmt: skip
    logs = max(folder.glob('*/vis_data'))
    rows = read_lines(logs / 'scalars.json')
    losses = [row['loss'] for row in rows if 'loss' in row]
    curve = [
        value
        for row in rows
        for key, value in row.items()
        if key.endswith('top1')
    ]
    health = read_lines(logs / 'health.json')
    every = len(health) // len(curve)
    return dict(
        knn=curve[-1],
        loss=mean(losses[-5:]),
        seconds=time.monotonic() - begin,
        curve=[
            dict(row, knn=accuracy)
            for row, accuracy in zip(health[every - 1 :: every], curve)
        ],
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def print_table(name: str, results: dict[str, dict[str, Any]]) -> None:
    """Print mean and spread of the variants of a set."""
    print(f'\n{name}: kNN top-1 in %, k 20, T .1, after the last epoch')
    for variant in (UNTRAINED, *VARIANTS):
        found = [
            result
            for key, result in results.items()
            if key.startswith(f'{name}|{variant}|')
        ]
        if not found:
            continue
        accuracies = [result['knn'] for result in found]
        spread = stdev(accuracies) if len(found) > 1 else float('nan')
        loss = mean(result['loss'] or math.nan for result in found)
        print(
            f'{variant:44} {mean(accuracies):5.1f} +- {spread:3.1f}  loss '
            f'{loss:5.2f}  {len(found)} seeds'
        )


def print_picks(name: str, results: dict[str, dict[str, Any]]) -> None:
    """Print how far the epoch that needs no labels is from the best."""
    curves = {
        key: result['curve']
        for key, result in results.items()
        if key.startswith(f'{name}|') and 'curve' in result
    }
    if not curves:
        return
    print(f'\n{name}: points of kNN below the best epoch of a run')
    for what, lost in points_lost([*curves.values()]).items():
        near = sum(points <= 1 for points in lost)
        print(
            f'{what:16} mean {mean(lost):4.1f}  worst {max(lost):4.1f}  '
            f'within 1 point in {near} of {len(lost)} runs'
        )


def write_record(results: dict[str, dict[str, Any]]) -> Path:
    """Write what each run reached, and of its curve what is judged."""
    kept = ('epoch', 'knn', 'state', 'loss_share', 'rank_me', 'information')
    runs = []
    for key, result in results.items():
        name, variant, seed = key.split('|')
        curve = [
            {each: row[each] for each in (*kept, 'stopping_score')}
            for row in result.get('curve', ())
        ]
        numbers = dict(knn=round(result['knn'], 2))
        if result['loss'] is not None:
            ln_k = math.log((BASE | VARIANTS[variant])['num_prototypes'])
            numbers |= dict(
                loss=round(result['loss'], 2),
                loss_share=round(result['loss'] / ln_k, 3),
            )
        runs.append(
            dict(set=name, variant=variant, seed=int(seed), **numbers)
            | dict(minutes=round(result['seconds'] / 60, 1), curve=curve)
        )
    record = dict(hardware=hardware(['mmengine']), runs=runs)
    return write_json('small_sets_cpu', record)


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--imagenette', type=Path, required=True)
    parser.add_argument('--work-dir', type=Path, required=True)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--sets', nargs='+', choices=SETS, default=[*SETS])
    args = parser.parse_args()
    work_dir = args.work_dir.resolve()
    if not (work_dir / 'digits').exists():
        write_digits(work_dir / 'digits')
    link_subset(args.imagenette, work_dir / 'imagenette')
    path = work_dir / 'results.json'
    results = json.loads(path.read_text()) if path.exists() else {}
    for seed in range(args.seeds):
        for name in args.sets:
            for variant in (UNTRAINED, *VARIANTS):
                key = f'{name}|{variant}|{seed}'
                if key not in results:
                    results[key] = run(name, variant, seed, work_dir)
                    path.write_text(json.dumps(results, indent=1))
                    row = dict(results[key])
                    row.pop('curve', None)
                    print(key, row, flush=True)
    for name in args.sets:
        print_table(name, results)
        print_picks(name, results)
    print(write_record(results))


if __name__ == '__main__':
    main()
