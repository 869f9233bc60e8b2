"""The parts that train: recipes of small sets, in as many epochs as fit.

A recipe runs as `tools/train.py` runs it, in a process of its own. A short
warm-up tells how long an epoch and a kNN take; then `max_epochs` is what fits
into the time, and the cosine ends there. A stopped training goes on from its
last checkpoint.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import mmpretrain.datasets
import numpy as np
from common import ROOT
from mmengine.config import Config
from PIL import Image
from records import Call, Record, print_to

from swav_plugin.checkpoints.newest import list_saved
from swav_plugin.commands import train

CONFIGS = ROOT / 'configs/selfsup/swav'
_LOADERS = ('train_dataloader', 'val_dataloader', 'val_cfg.bank_dataloader')
# Epochs, and after how many of them kNN is measured.
_WARM_UP = 4, 2
# Share of the time left that is used; the rest is for what varies.
_USED = 0.93
# Seconds for a trial of torch.compile, and of how much time left it may come.
_TRIAL_S = 90
_MUCH_S = 4 * _TRIAL_S


class Recipe(NamedTuple):
    """A training.

    Args:
        config: File below configs/selfsup/swav.
        folder: Where its images are below --data.
        splits: Folders of training and test images in it; None if the set
            knows them itself.
        published: kNN in % that others report, and after how many epochs.
    """

    config: str
    folder: str
    splits: tuple[str, str] | None
    published: str


IMAGENETTE = {
    'R18, 2x128 + 6x64': Recipe(
        'swav_resnet18_1xb256-mcrop-2-6-coslr-200e_imagenette-128-64.py',
        'imagenette160',
        ('train', 'val'),
        'lightly: kNN-200 86.1 after 200 epochs',
    )
}
CIFAR10 = {
    'R18, 2x32': Recipe(
        'swav_resnet18_1xb512-mcrop-2-coslr-200e_cifar10-32.py',
        'cifar10',
        None,
        'lightly: kNN-200 84.2 after 200 epochs',
    ),
    'R18, 2x32 + 4x18': Recipe(
        'swav_resnet18_1xb256-mcrop-2-4-coslr-200e_cifar10-32-18.py',
        'cifar10',
        None,
        'none with small views',
    ),
}


def options(recipes: dict[str, Recipe], call: Call) -> dict[str, Any]:
    """Return what decides the numbers of training runs."""
    first = next(iter(recipes.values()))
    data = None if call.is_dry else call.find(first.folder)
    # The validation set may be a part of the published one.
    num_images = {
        split: len(list((data / split).glob('*/*')))
        for split in (first.splits if data and first.splits else ())
    }
    return dict(
        configs=[recipe.config for recipe in recipes.values()],
        num_images=num_images,
    )


def measure(recipes: dict[str, Recipe], record: Record, call: Call) -> None:
    """Train each recipe for its share of the time."""
    runs = record.content.setdefault('runs', {})
    missing: dict[str, str] = {}
    waiting = [name for name in recipes if not _is_done(runs.get(name))]
    for number, name in enumerate(waiting):
        run = runs.setdefault(name, dict(published=recipes[name].published))
        share_s = call.left_s() / (len(waiting) - number)
        training = _Training(recipes[name], run, record, call)
        reason = training.fit(time.monotonic() + share_s)
        if reason is not None:
            missing[name] = reason
        record.save(missing=missing)
    record.save(finished=not missing)


def _is_done(run: dict[str, Any] | None) -> bool:
    return run is not None and run.get('finished', False)


class _Training:
    """One recipe: its work dirs, its processes and its part of the record."""

    def __init__(
        self, recipe: Recipe, run: dict[str, Any], record: Record, call: Call
    ):
        self.recipe, self.run, self.record, self.call = (
            recipe,
            run,
            record,
            call,
        )
        stem = Path(recipe.config).stem
        self.work_dir = call.out / 'work_dirs' / record.path.stem / stem
        self.log = record.path.with_name(f'{record.path.stem}.log')

    def fit(self, end: float) -> str | None:
        """Train until the end of the time; say what went wrong, if so."""
        is_resumed = bool(list_saved(self.work_dir))
        if not is_resumed:
            if 'warm_up' not in self.run and (reason := self._warm_up(end)):
                return reason
            if 'compiled' not in self.run:
                self._try_compile(end)
            self._choose_epochs(end)
            if self.run['max_epochs'] < 1:
                return 'not one epoch fits'
        is_over = self._train(
            self.work_dir,
            self.run['max_epochs'],
            self.run['val_interval'],
            end,
            self._keep_scalars,
            resume=is_resumed,
        )
        if is_over:
            self.run['finished'] = True
            return None
        return (
            f'stopped after {_last_epoch(self.run)} of '
            f'{self.run["max_epochs"]} epochs'
        )

    def _warm_up(self, end: float) -> str | None:
        """Measure start, epoch and validation; say if that did not end."""
        folder = self.work_dir.with_name(f'{self.work_dir.name}-warm-up')
        shutil.rmtree(folder, ignore_errors=True)
        start = time.monotonic()
        seen: dict[tuple[bool, int], float] = {}

        def note(lines: list[dict]) -> None:
            for line in lines:
                key = 'loss' in line, line['step']
                seen.setdefault(key, time.monotonic() - start)

        num, every = (1, 1) if self.call.is_dry else _WARM_UP
        if not self._train(folder, num, every, end, note):
            return 'no time left in the warm-up'
        shutil.rmtree(folder)
        (_, start_s), *others = seen.items()
        took: dict[bool, list[float]] = {True: [], False: []}
        before_s = start_s
        for (is_epoch, _), at_s in others:
            took[is_epoch].append(at_s - before_s)
            before_s = at_s
        # The first epoch chooses kernels, the first kNN starts workers.
        epoch_s = max(0.01, mean(took[True] or [start_s]))
        self.run['warm_up'] = dict(
            start_s=round(max(0, start_s - epoch_s), 2),
            epoch_s=round(epoch_s, 3),
            knn_s=round(took[False][-1], 2),
        )
        self.record.save()
        return None

    def _try_compile(self, end: float) -> None:
        """Measure images/s with torch.compile, if minutes allow."""
        left_s = end - time.monotonic()
        if self.call.hardware['gpu'] is None or left_s < _MUCH_S:
            return
        folder = self.work_dir.with_name(f'{self.work_dir.name}-compiled')
        shutil.rmtree(folder, ignore_errors=True)
        speeds: list[float] = []

        def note(lines: list[dict]) -> bool:
            speeds[:] = [ln['images_per_s'] for ln in lines if 'loss' in ln]
            return len(speeds) > 2

        # So many epochs that no kNN comes before it is stopped.
        num = 1000
        self.run['compiled'] = dict(reason=f'no epochs within {_TRIAL_S} s')
        try:
            self._train(
                folder,
                num,
                num,
                time.monotonic() + _TRIAL_S,
                note,
                more=['model.compile.mode=default'],
            )
        except RuntimeError as error:
            self.run['compiled'] = dict(reason=str(error))
        if speeds[1:]:  # the first epoch compiles
            speed = round(median(speeds[1:]), 3)
            self.run['compiled'] = dict(images_per_s=speed)
        shutil.rmtree(folder, ignore_errors=True)
        self.record.save()

    def _choose_epochs(self, end: float) -> None:
        """Choose how many epochs, and kNN how often, fit into the time."""
        asked = Config.fromfile(CONFIGS / self.recipe.config).train_cfg
        took = self.run['warm_up']
        left_s = _USED * (end - time.monotonic()) - took['start_s']
        every = asked.val_interval
        # A curve has five points at least.
        while True:
            fit = int(left_s / (took['epoch_s'] + took['knn_s'] / every))
            if fit >= 5 * every or every == 1:
                break
            every -= 1
        limit = 2 if self.call.is_dry else asked.max_epochs
        self.run.update(
            max_epochs=min(fit, limit),
            val_interval=1 if self.call.is_dry else every,
            epochs_of_recipe=asked.max_epochs,
        )
        self.record.save()

    def _keep_scalars(self, lines: list[dict]) -> None:
        """Put loss, speed and kNN of each epoch into the record."""
        losses = [line for line in lines if 'loss' in line]
        self.run['loss'] = [
            dict(epoch=line['epoch'], loss=round(line['loss'], 4))
            for line in losses
        ]
        self.run['knn'] = [
            {
                'epoch' if key == 'step' else key: value
                for key, value in line.items()
                if key == 'step' or 'knn' in key
            }
            for line in lines
            if 'loss' not in line
        ]
        for key in ('images_per_s', 'data_wait', 'memory'):
            values = [line[key] for line in losses[1:] or losses]
            if values:
                self.run[key] = round(median(values), 3)
        self.record.save()

    def _train(
        self,
        work_dir: Path,
        max_epochs: int,
        val_interval: int,
        end: float,
        take: Callable[[list[dict]], bool | None],
        resume: bool = False,
        more: Sequence[str] = (),
    ) -> bool:
        """Train and hand on the scalars; True if it ended well.

        It is stopped when its time is over, or when `take` has enough.

        Raises:
            RuntimeError: It failed.
        """
        argv = [str(CONFIGS / self.recipe.config)]
        argv += ['--work-dir', str(work_dir)]
        if resume:
            argv.append('--resume')
        options = self._cfg_options()
        if self.call.hardware['gpu'] is not None:
            argv.append('--amp')
            options.append('optim_wrapper.dtype=bfloat16')
        argv += ['--cfg-options', *options]
        argv += [
            f'train_cfg.max_epochs={max_epochs}',
            f'train_cfg.val_interval={val_interval}',
            f'default_hooks.checkpoint.interval={val_interval}',
            *more,
        ]
        process = self.call.start_process(
            _run_training, argv, self.log, self.call.is_dry
        )
        num_lines = 0
        has_enough: bool | None = False
        while True:
            is_over = not process.is_alive()
            lines = read_scalars(work_dir)
            if len(lines) != num_lines:
                num_lines = len(lines)
                has_enough = take(lines)
            if is_over:
                break
            if has_enough or time.monotonic() > end:
                _stop(process)
                take(read_scalars(work_dir))
                return False
            process.join(0.1)
        if process.exitcode:
            raise RuntimeError(
                f'the training ended with {process.exitcode}; see '
                f'{self.log.name}'
            )
        return True

    def _cfg_options(self) -> list[str]:
        """Return where the images are, workers, and precision."""
        cores = self.call.hardware['cores']
        recipe = self.recipe
        if self.call.is_dry:
            data = _dry_images(self.call.out / 'dry_images')
        else:
            found = self.call.find(recipe.folder)
            assert found is not None  # run.py checks
            data = found
        chosen = {
            'default_hooks.checkpoint.max_keep_ckpts': 1,
            'default_hooks.report': None,
            'train_dataloader.num_workers': max(1, cores - 2),
        }
        for loader in _LOADERS:
            is_train = loader != 'val_dataloader'
            root = data
            if recipe.splits is not None:
                root = data / recipe.splits[0 if is_train else 1]
            chosen[f'{loader}.dataset.data_root'] = root
        if recipe.splits is not None:
            for loader in _LOADERS[1:]:
                chosen[f'{loader}.num_workers'] = max(1, cores // 2)
        if self.call.is_dry:
            chosen |= _DRY
        return [f'{key}={value}' for key, value in chosen.items()]


# A narrow network on few images, without workers.
_DRY = {
    'model.backbone.base_channels': 8,
    'model.backbone.stem_channels': 8,
    'model.neck.in_channels': 64,
    'model.neck.hid_channels': 16,
    'model.head.num_prototypes': 8,
    'train_dataloader.prefetch_factor': None,
    'val_evaluator.0.k': [2, 3],
    'default_hooks.logger.interval': 1,
    **{
        f'{loader}.{key}': value
        for loader in _LOADERS
        for key, value in dict(
            batch_size=8, num_workers=0, persistent_workers=False
        ).items()
    },
}


def _dry_images(folder: Path) -> Path:
    """Make a few pictures of two classes, once."""
    rng = np.random.default_rng(0)
    for split, num in (('train', 8), ('val', 2)):
        for label in ('one', 'two'):
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            for i in range(num):
                noise = rng.integers(256, size=(48, 64, 3), dtype=np.uint8)
                Image.fromarray(noise).save(
                    folder / split / label / f'{i}.jpg'
                )
    return folder


def _dry_cifar(self: Any) -> list[dict]:
    """Return noise in place of CIFAR-10's images."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(16, 32, 32, 3), dtype=np.uint8)
    return [dict(img=img, gt_label=i % 2) for i, img in enumerate(images)]


def _run_training(argv: list[str], log: Path, is_dry: bool) -> None:
    """Train as tools/train.py does; all output goes to a file."""
    print_to(log)
    if is_dry:
        mmpretrain.datasets.CIFAR10.load_data_list = _dry_cifar
    sys.argv = ['train.py', *argv]
    train.main()


def _stop(process: BaseProcess) -> None:
    """End a training run; its checkpoints are whole at any time."""
    process.terminate()
    process.join(10)
    process.kill()
    process.join()


def read_scalars(work_dir: Path) -> list[dict]:
    """Return the lines of all runs in a work dir; of an epoch the last."""
    lines: dict[tuple[bool, int], dict] = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for text in path.read_text(encoding='utf-8').splitlines():
            try:
                line = json.loads(text)
            except ValueError:  # being written, or cut when it was killed
                continue
            if any(key.startswith('health/') for key in line):
                continue
            is_train = 'loss' in line
            lines[is_train, line['epoch' if is_train else 'step']] = line
    return list(lines.values())


def _last_epoch(run: dict[str, Any]) -> int:
    return max((row['epoch'] for row in run.get('loss', ())), default=0)


def _compiled(run: dict[str, Any]) -> str:
    """Return what the trial of torch.compile says, if there was one."""
    result = run.get('compiled', {})
    if 'images_per_s' in result:
        return f' (compiled: {result["images_per_s"]:.0f})'
    return f' (compiled: {result["reason"]})' if result else ''


def lines(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a line for each training."""
    rows = []
    for name, run in content.get('runs', {}).items():
        if 'loss' not in run:
            continue
        result = (
            f'epoch {_last_epoch(run)} of {run["max_epochs"]} '
            f'(recipe: {run["epochs_of_recipe"]}), '
            f'{run["images_per_s"]:.0f} images/s{_compiled(run)}, data wait '
            f'{run["data_wait"]:.1%}'
        )
        if run['knn']:
            numbers = ', '.join(
                f'{key.removesuffix("_top1")} {value:.1f} (best '
                f'{max(row[key] for row in run["knn"]):.1f})'
                for key, value in run['knn'][-1].items()
                if key.endswith('_top1')
            )
            result += f'; {numbers} at epoch {run["knn"][-1]["epoch"]}'
        rows.append((name, f'{result}; {run["published"]}'))
    return rows


measure_imagenette = partial(measure, IMAGENETTE)
measure_cifar10 = partial(measure, CIFAR10)
imagenette_options = partial(options, IMAGENETTE)
cifar10_options = partial(options, CIFAR10)
