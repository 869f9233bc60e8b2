"""Look at what a training needs of this machine."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from swav_plugin.checkpoints.catalog import zoo_models
from swav_plugin.compat import jit
from swav_plugin.datasets.survey import survey_images
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.planner.costs import BACKBONES, images_per_s
from swav_plugin.engine.processes import count_cores
from swav_plugin.engine.screen import quiet_dependencies
from swav_plugin.engine.shared_memory import (
    WHAT_TO_DO,
    free_bytes,
    lost_workers_in_one_line,
)
from swav_plugin.shipped import find_config

from .loader import (
    RECIPE,
    build_dataset,
    draw_photos,
    recipe_loader,
    time_loader,
    views_of,
)
from .packages import Fact

_DEVICES = 'swav_plugin.commands.doctor.devices'
_PATIENCE_S = 120  # for the first touch of many GPUs
_OPEN_FILES = 4096  # mmengine raises the limit to this where it may
_ON_GPU = '--cfg-options train_dataloader.dataset.pipeline.1.on_device=True'


def look_at_machine(
    data: str | None, work_dir: str, seconds: float
) -> Iterator[Fact]:
    """Yield a fact for each thing.

    Args:
        data: Folder of images, or None.
        work_dir: Where checkpoints will go.
        seconds: How long to time the loader.
    """
    # What is logged while a dataset is built is no fact of the table.
    MMLogger.get_current_instance().setLevel('ERROR')
    yield from _devices()
    yield _operators()
    yield _loops()
    yield _compiler()
    yield _open_files()
    yield _disk(work_dir)
    memory_gb = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9
    yield Fact(
        'OK', 'cores', f'{count_cores()}, with {memory_gb:.1f} GB of memory'
    )
    with (
        quiet_dependencies(),
        warnings.catch_warnings(),
        TemporaryDirectory() as drawn,
    ):
        # Its samples have no keys: they never end.
        warnings.filterwarnings('ignore', 'Random transforms got samples')
        if data is None:
            draw_photos(Path(drawn))
        else:
            images = _images(data)
            yield images
            if images.stops:
                return
        loader = recipe_loader(data or drawn)
        shared = _shared_memory(loader)
        yield shared
        if seconds and not shared.stops:
            yield from _time_loader(loader, seconds)


def _devices() -> Iterator[Fact]:
    """Yield what computes, and how it was tried."""
    if not torch.cuda.is_available():
        remedy = 'For a GPU install a CUDA build of torch, see pytorch.org'
        if torch.version.cuda:
            remedy = 'For a GPU install its driver; nvidia-smi shows it'
        text = 'none that torch can use: training runs on the CPU'
        yield Fact('WARN', 'GPU', text, remedy)
    else:
        yield Fact('OK', 'driver', _driver())
    try:
        done = subprocess.run(
            [sys.executable, '-m', _DEVICES],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
        )
        printed, code = done.stdout, done.returncode
        said = done.stderr.strip().splitlines()[-1:]
    except subprocess.TimeoutExpired as error:
        printed, code = str(error.stdout or b'', 'utf-8'), 1
        said = [f'no answer in {_PATIENCE_S} s']
    for line in printed.splitlines():
        yield Fact('OK', **json.loads(line))
    if code:
        reason = said[0] if said else f'ended with {code}'
        yield Fact(
            'FAILED',
            'devices',
            f'computing with torch: {reason}',
            'Look at nvidia-smi and at the versions of driver and torch',
            stops=True,
        )


def _driver() -> str:
    """Return the versions of the driver and of CUDA."""
    found = f'CUDA {torch.version.cuda} of torch'
    program = shutil.which('nvidia-smi')
    if program is None:
        return found
    query = ['--query-gpu=driver_version', '--format=csv,noheader']
    done = subprocess.run([program, *query], capture_output=True, text=True)
    version = (done.stdout.split() or ['unknown'])[0]
    return f'{version}, {found}'


def _operators() -> Fact:
    """Say where mmcv's operators come from."""
    spec = find_spec('mmcv._ext')
    is_ours = spec is not None and str(spec.origin).endswith('mmcv_ops.py')
    text = (
        "torchvision's, in place of compiled ones" if is_ours else 'compiled'
    )
    return Fact('OK', 'mmcv operators', text)


def _loops() -> Fact:
    """Say whether views are cut by compiled loops."""
    if jit.NO_NUMBA is not None:
        text = f'views are cut without numba, slowly: {jit.NO_NUMBA}'
        return Fact('WARN', 'views', text, 'pip install numba')
    return Fact('OK', 'views', 'are cut by loops that numba compiles')


def _compiler() -> Fact:
    """Say whether torch.compile could work."""
    only = 'needed only for torch.compile, model.compile in a config'
    names = [os.environ.get('CXX', ''), 'c++', 'g++', 'clang++']
    found = next(filter(None, map(shutil.which, filter(None, names))), None)
    if found is None:
        return Fact('MISSING', 'compiler', only, 'apt-get install g++')
    return Fact('OK', 'compiler', f'{found}, {only}')


def _open_files() -> Fact:
    """Say how many files may be open; workers hand tensors over in them."""
    try:
        import resource  # not on Windows
    except ImportError:
        return Fact('OK', 'open files', 'no limit')
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    text = 'no limit' if hard < 0 else f'up to {hard:,}'
    if 0 <= hard < _OPEN_FILES:
        remedy = f'ulimit -n {_OPEN_FILES}, or fewer workers'
        return Fact('WARN', 'open files', text, remedy)
    return Fact('OK', 'open files', text)


def _disk(work_dir: str) -> Fact:
    """Compare the free disk with what a run saves."""
    folder = Path(work_dir).expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        text = f'{folder} cannot be written to'
        return Fact('FAILED', 'disk', text, 'Give --work-dir', stops=True)
    parameters = zoo_models()[RECIPE].metadata['Parameters']
    one_gb = 2 * 4 * parameters / 1e9  # with the momentum, in float32
    kept = Config.fromfile(
        find_config(RECIPE)
    ).default_hooks.checkpoint.max_keep_ckpts
    free_gb = shutil.disk_usage(folder).free / 1e9
    text = (
        f'{free_gb:.1f} GB free for {work_dir}; a run of ResNet-50 keeps '
        f'{kept + 1} checkpoints of {one_gb:.2f} GB'
    )
    if free_gb < one_gb:
        return Fact('FAILED', 'disk', text, 'Make room', stops=True)
    status = 'OK' if free_gb > (kept + 2) * one_gb else 'WARN'
    return Fact(status, 'disk', text)


def _images(data: str) -> Fact:
    """Say what the images are."""
    try:
        found = survey_images(os.path.expanduser(data))
    except (OSError, ValueError) as error:
        return Fact('FAILED', 'images', str(error), stops=True)
    text = (
        f'{found.num_images:,} in {data}, most {found.short_edge} px or more '
        'along the shorter edge'
    )
    if found.num_unreadable:
        text += (
            f'; {found.num_unreadable} of {found.num_opened} tried cannot be '
            'read'
        )
    return Fact('WARN' if found.num_unreadable else 'OK', 'images', text)


def _shared_memory(loader: Config) -> Fact:
    """Compare the free shared memory with the batches of the recipe."""
    free = free_bytes()
    num_workers = loader.num_workers * max(1, torch.cuda.device_count())
    one_batch = loader.batch_size * 3 * views_of(loader).pixels
    needed = num_workers * one_batch
    text = (
        f'{free / 1e9:.1f} GB free; {num_workers} workers of the ImageNet '
        f'recipe need {needed / 1e9:.1f}, better {2 * needed / 1e9:.1f}'
    )
    status = 'OK' if free >= 2 * needed else 'WARN'
    stops = free < one_batch
    return Fact(
        'FAILED' if stops else status,
        'shared memory',
        text,
        '' if status == 'OK' else WHAT_TO_DO,
        stops,
    )


def _time_loader(loader: Config, seconds: float) -> Iterator[Fact]:
    """Time one worker and one for each core; compare with a step."""
    dataset = build_dataset(loader)
    cores = count_cores()
    rate = 0.0
    for num_workers in sorted({1, cores}):
        try:
            with lost_workers_in_one_line():
                rate = time_loader(
                    loader, dataset, num_workers, seconds / len({1, cores})
                )
        except UsageError as error:
            yield Fact('FAILED', 'loader', str(error), stops=True)
            return
        plural = 's' * (num_workers > 1)
        text = f'{rate:.0f} images/s with {num_workers} worker{plural}'
        yield Fact('OK', 'loader', text)
    gpus = torch.cuda.device_count()
    memory_gb = 0.0
    if gpus:
        memory_gb = torch.cuda.get_device_properties(0).total_memory / 1e9
    needed, source = images_per_s(
        'large',
        BACKBONES['ResNet-50'],
        views_of(loader),
        gpus,
        memory_gb,
        cores,
    )
    text = (
        f'take {needed:.3g} images/s of the ImageNet recipe here, by a '
        f'measurement on {source}'
    )
    if rate >= needed:
        yield Fact('OK', 'steps', text)
    else:
        remedy = f'The GPU will wait: let it cut the views, {_ON_GPU}'
        yield Fact('WARN', 'steps', text, remedy)
