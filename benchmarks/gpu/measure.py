"""The parts that measure speed: step, loader, eval and profile.

Each takes a record and the call, and saves what it measures at once.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bench_eval
import bench_step
import numpy as np
from common import build_loader, find_photos
from kernels import profile_steps
from PIL import Image
from records import Call, Record

# Options of one training step, tiny for a dry run.
_DRY_STEP = (
    '--depth 18 --stages 1 --batch-size 2 --views 2 2 --sizes 32 16 '
    '--num-prototypes 4 --queue-length 4 --steps 1 --rounds 2 --e2e-steps 2'
).split()
_DRY_EVAL = (
    '--width 32 --bank 3000 --queries 200 --train-images 150 '
    '--test-images 60 --svm-width 16 --fits 2'
).split()
NUM_PHOTOS = 48


def step_args(call: Call) -> argparse.Namespace:
    """Return the arguments of bench_step."""
    argv = ['--compile', '--dtype', 'bfloat16', 'float16']
    argv += ['--workers', '4', '8', '16', '--path', 'cpu', 'device', 'decode']
    if call.is_dry and call.hardware['gpu'] is not None:
        argv += [*_DRY_STEP, '--workers', '1']
    elif call.is_dry:  # half precision takes minutes on some processors
        argv = [*_DRY_STEP, '--compile', '--workers', '1']
        argv += ['--path', 'cpu', 'device']
    args = bench_step.parse_args(argv)
    bench_step.prepare(args)
    return args


def step_options(call: Call) -> dict[str, Any]:
    """Return what decides the numbers of step, loader and profile."""
    args = bench_step.parse_args(_DRY_STEP if call.is_dry else [])
    return {name: getattr(args, name) for name in bench_step.OPTIONS}


def measure_steps(record: Record, call: Call) -> None:
    """Time training steps, ours and mmpretrain's, and LARS alone."""
    args = step_args(call)
    rows, missing = bench_step.compare_steps(
        args,
        record.content.get('steps', ()),
        lambda rows: record.save(steps=rows),
        call.left_s,
    )
    record.save(steps=rows, missing=missing)
    if 'optimizers' not in record.content:
        record.save(optimizers=bench_step.compare_optimizers(args))
    record.save(finished=not missing)


def step_lines(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a line for each step."""
    return [
        (
            row['name'],
            f'{row["median_ms"]:8.1f} ms {row["images_per_s"]:8.1f} images/s '
            f'{_percent(row.get("share_of_bf16_peak"))} of bf16 peak '
            f'{_number(row["host_syncs"])} host syncs '
            f'{_number(row["memory_gib"])} GiB  {row["speedup"]:.2f}x '
            f'({len(row["rounds_ms"])} rounds)',
        )
        for row in content.get('steps', ())
    ] + [
        (
            f'LARS alone, {row["name"]}',
            f'{row["median_ms"]:8.2f} ms {row["speedup"]:.2f}x',
        )
        for row in content.get('optimizers', ())
    ]


def _percent(share: float | None) -> str:
    return '-' if share is None else f'{share:.1%}'


def _number(value: float | None) -> str:
    return '-' if value is None else f'{value:g}'


def find_images(call: Call, folder: Path) -> tuple[list[str], str]:
    """Return JPEG files, and what they are; make some if there are none."""
    num = 4 if call.is_dry else NUM_PHOTOS
    photos = call.find('photos')
    if photos is not None:
        return find_photos(str(photos), num), f'{num} photographs'
    rng = np.random.default_rng(0)
    for i in range(num):
        # Smooth noise: as large as a photograph when compressed.
        noise = rng.integers(256, size=(125, 167, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((500, 375)).save(folder / f'{i}.jpg')
    return [str(path) for path in sorted(folder.glob('*.jpg'))], (
        f'{num} SYNTHETIC pictures of 500x375 px: no photos in --data'
    )


def loader_options(call: Call) -> dict[str, Any]:
    """Return what decides the numbers of the loader."""
    return step_options(call) | dict(photos=call.find('photos') is not None)


def measure_loader(record: Record, call: Call) -> None:
    """Train from JPEG files with each path and number of workers."""
    args = step_args(call)
    args.compile = False
    with TemporaryDirectory() as folder:
        files, what = find_images(call, Path(folder))
        record.save(files=what)
        rows, missing = bench_step.end_to_end(
            args,
            files,
            record.content.get('end_to_end', ()),
            lambda rows: record.save(end_to_end=rows),
            call.left_s,
        )
    record.save(end_to_end=rows, missing=missing, finished=not missing)


def loader_lines(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a line for each way to load."""
    return [
        (
            f'{row["path"]} path, {row["num_workers"]} workers',
            f'{row["images_per_s"]:8.1f} images/s, data wait '
            f'{row["data_wait"]:.1%}, {_number(row["memory_gib"])} GiB'
            f' ({content["files"]})',
        )
        for row in content.get('end_to_end', ())
    ]


def eval_args(call: Call) -> argparse.Namespace:
    """Return the arguments of bench_eval."""
    argv = ['knn', 'svm', '--queries', '50000']
    return bench_eval.parse_args(argv + (_DRY_EVAL if call.is_dry else []))


def eval_options(call: Call) -> dict[str, Any]:
    """Return what decides the numbers of the evaluation."""
    names = 'bank queries width train_images test_images svm_width fits'
    args = eval_args(call)
    return {name: getattr(args, name) for name in names.split()}


def measure_eval(record: Record, call: Call) -> None:
    """Time kNN against a bank of ImageNet's size, and VOC07's SVMs."""
    args = eval_args(call)
    results = record.content.setdefault('results', {})
    missing = {}
    for name in args.parts:
        if name in results:
            continue
        needs_s = 0 if call.is_dry else 60
        if call.left_s() < needs_s:
            missing[name] = f'needs about {needs_s} s'
            continue
        with TemporaryDirectory() as folder:
            results[name] = bench_eval.PARTS[name](args, Path(folder))
        record.save()
    record.save(missing=missing, finished=not missing)


def eval_lines(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a line for kNN and one for the SVMs."""
    results = content.get('results', {})
    lines = []
    if knn := results.get('knn'):
        lines.append(
            (
                f'kNN, {knn["queries"]:,} queries against {knn["bank"]:,} x '
                f'{content["options"]["width"]:,}',
                f'{knn["seconds"]:8.1f} s, {knn["share_in_products"]:.0%} in '
                f'matrix products, {_number(knn.get("memory_gib"))} GiB',
            )
        )
    if svm := results.get('svm'):
        lines.append(
            (
                f'1,520 SVMs, {svm["train_images"]:,} x {svm["width"]:,}',
                f'{svm["seconds"]:8.1f} s, {svm["speedup"]:.0f}x LIBLINEAR',
            )
        )
    return lines


def measure_profile(record: Record, call: Call) -> None:
    """Trace 20 training steps, fed from the device and by our loader."""
    args = step_args(call)
    num_workers = 1 if call.is_dry else call.hardware['cores']
    feeds: dict[str, str | None] = {'views on the device': None}
    for path in ('cpu',) if call.is_dry else ('cpu', 'device'):
        feeds[f'{path} path, {num_workers} workers'] = path
    traces = record.content.setdefault('traces', {})
    model = bench_step.our_model(args)
    step = bench_step.training_step(
        model, bench_step.our_lars(model), args.dtypes[0], args.device
    )
    with TemporaryDirectory() as folder:
        files, what = find_images(call, Path(folder))
        record.save(files=what)
        for name, path in feeds.items():
            if name in traces:
                continue
            suffix = '' if path is None else f'_{path}'
            traces[name] = profile_steps(
                step,
                _feed(args, files, path, num_workers),
                num_steps=2 if call.is_dry else 20,
                warmup=1 if call.is_dry else 2 * num_workers + 5,
                trace=call.out / f'{record.path.stem}{suffix}.trace.json.gz',
            )
            record.save()
    record.save(finished=True)


def _feed(
    args: argparse.Namespace,
    files: list[str],
    path: str | None,
    num_workers: int,
) -> Iterator[dict]:
    """Return batches from files, or one on the device again and again."""
    if path is None:
        return itertools.repeat(bench_step.synthetic_views(args))
    return iter(
        build_loader(
            files, args.batch_size, num_workers, path, args.views, args.sizes
        )
    )


def profile_lines(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the gaps of each trace, and the kernels of the first."""
    lines = []
    for name, trace in content.get('traces', {}).items():
        lines.append(
            (
                name,
                f'{trace["step_ms"]:8.1f} ms a step, no kernel runs for '
                f'{_percent(trace["idle_share"])}, longest gaps '
                f'{trace["longest_gaps_ms"] or "-"} ms',
            )
        )
    for trace in list(content.get('traces', {}).values())[:1]:
        for row in trace['largest']:
            lines.append(
                (
                    f'{row["calls"]:g} x {row["name"][:60]}',
                    f'{row["ms"]:8.2f} ms a step, {row["share"]:.1%}',
                )
            )
    return lines
