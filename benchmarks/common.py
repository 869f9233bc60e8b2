"""Time steps in turns, and record where and with what they were timed."""

import datetime
import hashlib
import json
import multiprocessing
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader

import swav_plugin  # noqa: F401  makes mmengine find our classes
from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.engine.processes import count_cores

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / 'results'


def interleave(
    steps: dict[str, Callable[[], object]], rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Time every step once a round, so that a busy machine hurts all alike.

    Returns:
        Milliseconds of each round.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number, elapsed in enumerate(timed_rounds(steps, warmup + rounds)):
        if number >= warmup:
            for name, ms in elapsed.items():
                times[name].append(ms)
    return times


def timed_rounds(
    steps: dict[str, Callable[[], object]], rounds: int
) -> Iterator[dict[str, float]]:
    """Do every step once a round; yield the milliseconds of each round."""
    for _ in range(rounds):
        elapsed = {}
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            elapsed[name] = 1e3 * (time.perf_counter() - start)
        yield elapsed


def interleave_processes(
    makers: dict[str, Callable[[], Callable[[], object]]],
    rounds: int,
    warmup: int = 2,
) -> dict[str, list[float]]:
    """Time as `interleave`, every step in a process of its own.

    What a step frees decides how the next allocation of its process is
    served, so in one process steps help and hinder each other.

    Args:
        makers: Functions that give the steps, called in their processes.
        rounds: How often each is timed.
        warmup: How often each runs before.

    Returns:
        Milliseconds of each round.
    """
    context = multiprocessing.get_context('fork')
    times: dict[str, list[float]] = {name: [] for name in makers}
    pipes, processes = {}, []
    for name, make in makers.items():
        pipes[name], end = context.Pipe()
        processes.append(
            context.Process(target=_time_steps, args=(make, end), daemon=True)
        )
        processes[-1].start()
    for round_number in range(warmup + rounds):
        for name, pipe in pipes.items():
            pipe.send(True)
            elapsed = pipe.recv()
            if round_number >= warmup:
                times[name].append(elapsed)
    for pipe in pipes.values():
        pipe.send(False)
    for process in processes:
        process.join()
    return times


def _time_steps(make: Callable[[], Callable[[], object]], pipe: Any) -> None:
    """Make a step, then do it as often as asked and send the milliseconds."""
    step = make()
    while pipe.recv():
        start = time.perf_counter()
        step()
        pipe.send(1e3 * (time.perf_counter() - start))


def summary(times: dict[str, list[float]], baseline: str) -> list[dict]:
    """Median and range of each, and the median of the per-round ratios."""
    rows = []
    for name, own in times.items():
        ratios = [b / t for b, t in zip(times[baseline], own)]
        rows.append(
            dict(
                name=name,
                median_ms=round(median(own), 2),
                min_ms=round(min(own), 2),
                max_ms=round(max(own), 2),
                speedup=round(median(ratios), 2),
                speedup_range=[round(min(ratios), 2), round(max(ratios), 2)],
            )
        )
    return rows


def hardware(packages: Sequence[str] = ()) -> dict[str, object]:
    """Processor, GPU, versions, also of `packages`, date and commit."""
    cpu = platform.processor()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.exists():
        cpu = next(
            (
                line.split(':')[1].strip()
                for line in cpuinfo.read_text().splitlines()
                if line.startswith('model name')
            ),
            cpu,
        )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return dict(
        cpu=cpu,
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        gpu=gpu,
        cores=count_cores(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
        **{name: version(name) for name in packages},
        date=datetime.date.today().isoformat(),
        commit=find_commit(),
    )


def find_commit() -> str:
    """Name the code that runs, also where it is a copy without git.

    Returns:
        SWAV_COMMIT of the environment, or the commit of the checkout; after a
        plus, or alone, a digest of the files if they are not those of a
        commit.
    """
    if given := os.environ.get('SWAV_COMMIT'):
        return given
    described = ''
    with suppress(OSError):  # git is not installed
        described = subprocess.run(
            ['git', 'describe', '--always', '--dirty=+', '--exclude=*'],
            capture_output=True,
            text=True,
            cwd=ROOT,
        ).stdout.strip()
    if described and not described.endswith('+'):
        return described
    digest = hashlib.sha256()
    for folder in ('benchmarks', 'configs', 'swav_plugin', 'tests', 'tools'):
        for path in sorted(ROOT.joinpath(folder).rglob('*.py')):
            digest.update(path.read_bytes())
    return f'{described}files-{digest.hexdigest()[:10]}'


def device_name(hardware: dict) -> str:
    """Name the hardware in the name of a record: the GPU, or 'cpu'."""
    return (hardware['gpu'] or 'cpu').replace(' ', '-')


def version(*names: str) -> str:
    """Version of the first of these packages that is installed."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return 'not installed'


def find_photos(folder: str, num: int, pixels: int = 500 * 375) -> list[str]:
    """Give the paths of those `num` JPEG files that are nearest to a size."""
    distances = {}
    for path in sorted(Path(folder).rglob('*')):
        if path.suffix.lower() in ('.jpg', '.jpeg'):
            with Image.open(path) as img:
                distances[str(path)] = abs(img.width * img.height - pixels)
    if len(distances) < num:
        raise SystemExit(
            f'--data {folder}: found {len(distances)} JPEG files, {num} are '
            'needed; give a folder of photographs, such as those of '
            'github.com/EliSchwartz/imagenet-sample-images'
        )
    return sorted(sorted(distances, key=distances.__getitem__)[:num])


def build_loader(
    files: Sequence[str],
    batch_size: int,
    num_workers: int,
    path: str = 'cpu',
    num_views: Sequence[int] = (2, 6),
    sizes: Sequence[int] = (224, 96),
) -> DataLoader:
    """Our ImageNet loader with other files, each many times in an epoch.

    Args:
        files: Images.
        batch_size: Images in a batch.
        num_workers: Processes that load.
        path: The work left to the device: 'cpu' nothing, 'device' cut the
            views, 'decode' also decode JPEG.
        num_views: Number of views in each of the two groups.
        sizes: Side of the views of each group.
    """
    loader = Config.fromfile(
        ROOT / 'configs/selfsup/_base_/datasets/imagenet_mcrop-2-6.py'
    ).train_dataloader
    loader.update(batch_size=batch_size, num_workers=num_workers)
    load_image, multi_crop, _ = loader.dataset.pipeline
    load_image.update(decode_on_device=path == 'decode')
    multi_crop.update(
        num_views=num_views, sizes=sizes, on_device=path != 'cpu'
    )
    with TemporaryDirectory() as folder:
        file_list = Path(folder, 'files.txt')
        file_list.write_text('\n'.join(files))
        loader.dataset.update(data_root='/', ann_file=str(file_list))
        loader.dataset = dict(
            type='RepeatDataset',
            times=100_000 // len(files),
            dataset=loader.dataset,
        )
        return Runner.build_dataloader(loader, seed=0)


def write_json(name: str, content: dict) -> Path:
    """Save to results/<name>_<date>.json, whole or not at all."""
    path = RESULTS / f'{name}_{datetime.date.today().isoformat()}.json'
    write_atomic(path, json.dumps(content, indent=2) + '\n')
    return path
