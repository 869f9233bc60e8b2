"""What watching and saving cost: their share of the time of a run.

    python benchmarks/bench_health.py

Trains on one core, with the Runner and all hooks: `swav_demo_digits.py` on
scikit-learn's digits for some epochs, and ResNet-50's default recipe, with a
small batch, for some iterations. Adds up the processor time inside HealthHook
and the statistics of the head, and the time of one save, fsync included.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from common import ROOT, hardware, write_json
from mmengine.config import Config
from PIL import Image
from study_small_sets import write_digits

from swav_plugin.engine.hooks import CheckpointHook, HealthHook
from swav_plugin.engine.loops import EpochBasedTrainLoop
from swav_plugin.engine.runner import CommandRunner
from swav_plugin.models.head_statistics import HeadStatistics

WATCHED: list[tuple[type, str]] = [
    (HealthHook, 'after_train_iter'),
    (HealthHook, 'gather_state'),
    *(
        (HeadStatistics, name)
        for name in vars(HeadStatistics)
        if 'add_' in name
    ),
]
SAVING = (CheckpointHook, '_save_checkpoint_with_step')
TRAINING = (EpochBasedTrainLoop, 'run_iter')
INTERVAL_MIN = 30  # CheckpointHook's, between saves within an epoch


class Clock:
    """Adds up the time in methods; one within another counts once."""

    def __init__(self) -> None:
        self.cpu: Counter[str] = Counter()
        self.wall: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._inside: set[str] = set()

    def watch(self, what: str, kind: type, name: str) -> None:
        """Count the time in a method of a class as that of `what`."""
        method: Callable[..., Any] = getattr(kind, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            if what in self._inside:
                return method(*args, **kwargs)
            self._inside.add(what)
            cpu, wall = time.process_time(), time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.cpu[what] += time.process_time() - cpu
                self.wall[what] += time.perf_counter() - wall
                self.calls[what] += 1
                self._inside.remove(what)

        setattr(kind, name, timed)

    def clear(self) -> None:
        """Forget what was measured."""
        for each in (self.cpu, self.wall, self.calls):
            each.clear()


def draw_photos(folder: Path, num: int) -> None:
    """Draw JPEG files of 320 x 256 px in one class folder."""
    (folder / 'one').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(num):
        coarse = rng.integers(256, size=(8, 10, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((320, 256))
        picture.save(folder / 'one' / f'{number}.jpg')


def train(config: str, folder: Path, changes: dict[str, Any]) -> Path:
    """Train with a shipped recipe; return its newest checkpoint."""
    cfg = Config.fromfile(str(ROOT / 'configs/selfsup/swav' / config))
    cfg.work_dir = str(folder / 'work_dir')
    cfg.merge_from_dict(
        {
            'train_dataloader.num_workers': 0,
            'train_dataloader.prefetch_factor': None,
            'train_dataloader.persistent_workers': False,
            'randomness.seed': 0,
            **changes,
        }
    )
    del cfg.default_hooks['report']
    CommandRunner.from_cfg(cfg).train()
    return max(Path(cfg.work_dir).glob('*.pth'))


def describe(
    what: str, clock: Clock, checkpoint: Path, per_epoch: bool
) -> dict[str, Any]:
    """Print and return what a run spent on what."""
    steps = clock.calls['step']
    step_ms = 1e3 * clock.cpu['step'] / steps
    watching_ms = 1e3 * clock.cpu['watching'] / steps
    save_s = clock.wall['saving'] / clock.calls['saving']
    row = dict(
        what=what,
        steps=steps,
        step_ms=round(step_ms, 2),
        watching_ms=round(watching_ms, 2),
        watching_percent=round(100 * watching_ms / step_ms, 3),
        checkpoint_mb=round(checkpoint.stat().st_size / 1e6, 1),
        save_s=round(save_s, 2),
        # Once an epoch, or once in half an hour of training.
        saving_percent=round(
            100 * save_s * clock.calls['saving'] / clock.wall['step']
            if per_epoch
            else 100 * save_s / (60 * INTERVAL_MIN),
            3,
        ),
    )
    print(row)
    return row


def main() -> None:
    """Measure, print, and write a record."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--epochs', type=int, default=6, help='of digits')
    parser.add_argument('--iters', type=int, default=4, help='of ResNet-50')
    args = parser.parse_args()
    torch.set_num_threads(1)
    clock = Clock()
    for kind, name in WATCHED:
        clock.watch('watching', kind, name)
    clock.watch('saving', *SAVING)
    clock.watch('step', *TRAINING)
    rows = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_digits(folder / 'digits')
        changes = {
            'train_dataloader.dataset.data_root': str(folder / 'digits/train'),
            'train_cfg.max_epochs': args.epochs,
            'default_hooks.checkpoint.interval': 1,
            'param_scheduler.0.end': args.epochs,
        }
        checkpoint = train('swav_demo_digits.py', folder / 'small', changes)
        rows.append(
            describe('digits, saved each epoch', clock, checkpoint, True)
        )
        clock.clear()
        draw_photos(folder / 'photos', 8 * args.iters)
        changes = {
            'train_dataloader.dataset.data_root': str(folder / 'photos'),
            'train_dataloader.batch_size': 8,
            'train_cfg.max_epochs': 1,
            'default_hooks.swav.queue_begin_epoch': 0,
        }
        checkpoint = train(
            'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py',
            folder / 'large',
            changes,
        )
        rows.append(describe('ResNet-50, batch 8', clock, checkpoint, False))
    record = dict(hardware=hardware(['mmpretrain']), rows=rows)
    print(write_json('health_cpu', record))


if __name__ == '__main__':
    main()
