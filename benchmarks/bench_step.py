"""One training step, and how long it waits for its images.

1. Images/s of forward, backward and optimizer, for our SwAV and mmpretrain's,
   on views that are on the device; share of the device's peak; how often the
   host waits for the device; ours with each key switched. All take turns in
   one run.
2. The same step fed by our loader from JPEG files: images/s and the share of
   the time that it waits for data, for each number of workers and each path
   (the loader cuts the views, the device does, or it also decodes the files).

What is measured is written at once. `gpu/run.sh` fits this into the minutes of
a GPU that are there, and goes on where it was stopped.

    python benchmarks/bench_step.py --data PHOTOS --batch-size 64 \
--compile --workers 4 8 16 --path cpu device decode

A dry run on a CPU:

    python benchmarks/bench_step.py --data PHOTOS --depth 18 --batch-size 4 \
--views 2 2 --sizes 64 32 --num-prototypes 30 --queue-length 8 --steps 2
"""

import argparse
import gc
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import cv2
import torch
from common import (
    ROOT,
    build_loader,
    device_name,
    find_photos,
    hardware,
    interleave,
    summary,
    timed_rounds,
    write_json,
)
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import init_default_scope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from swav_plugin.engine import LARS
from swav_plugin.registry import MODELS

PACKAGES = (
    'torchvision',
    'numba',
    'onedl-mmengine',
    'mmengine',
    'onedl-mmpretrain',
    'mmpretrain',
)
PEER = 'mmpretrain'
BASELINE = f'{PEER} float32'
Step = Callable[[dict], Any]
Save = Callable[[list[dict]], object]
# What a GPU needs for torch.compile of ResNet-50; its other steps are ready
# within a few times the longest so far.
COMPILE_S = 150


def our_model(args: argparse.Namespace, **changes: Any) -> nn.Module:
    """As configs/selfsup/_base_/models has it."""
    cfg = Config.fromfile(
        ROOT / 'configs/selfsup/_base_/models/swav_resnet50.py'
    )
    cfg.merge_from_dict(
        {
            **{
                f'model.backbone.{key}': value
                for key, value in _network(args).items()
            },
            'model.neck.in_channels': channels(args),
            'model.head.num_prototypes': args.num_prototypes,
            'model.head.queue_length': args.queue_length,
        }
    )
    model = MODELS.build({**cfg.model, **changes}).to(args.device)
    if args.queue_length:
        model.head.queue.push(full_queue(args))
    return model


def their_model(args: argparse.Namespace) -> nn.Module:
    """As mmpretrain's swav_resnet50_8xb32-mcrop-coslr-200e_in1k has it."""
    from mmpretrain.registry import MODELS as theirs

    init_default_scope('mmpretrain')
    model = theirs.build(
        dict(
            type='SwAV',
            data_preprocessor=dict(
                type='SelfSupDataPreprocessor',
                mean=(123.675, 116.28, 103.53),
                std=(58.395, 57.12, 57.375),
                to_rgb=True,
            ),
            backbone=dict(
                type='ResNet',
                **_network(args),
                norm_cfg=dict(type='BN'),
                zero_init_residual=True,
            ),
            neck=dict(
                type='SwAVNeck',
                in_channels=channels(args),
                hid_channels=2048,
                out_channels=128,
                norm_cfg=dict(type='BN1d'),
                with_avg_pool=True,
            ),
            head=dict(
                type='SwAVHead',
                loss=dict(
                    type='SwAVLoss',
                    feat_dim=128,
                    epsilon=0.05,
                    temperature=0.1,
                    num_crops=args.views,
                    num_prototypes=args.num_prototypes,
                ),
            ),
        )
    )
    init_default_scope('swav_plugin')
    model.to(args.device)
    if args.queue_length:  # as its hook does
        model.head.loss_module.queue = full_queue(args)
    return model


def full_queue(args: argparse.Namespace) -> torch.Tensor:
    """Embeddings (2, L, 128): after some steps every queue is full."""
    noise = torch.randn(2, args.queue_length, 128, device=args.device)
    return nn.functional.normalize(noise, dim=-1)


def channels(args: argparse.Namespace) -> int:
    """Return the number of channels of the backbone's output."""
    return (512 if args.depth < 50 else 2048) >> (4 - args.stages)


def _network(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of the ResNet."""
    return dict(
        depth=args.depth,
        num_stages=args.stages,
        out_indices=(args.stages - 1,),
        strides=(1, 2, 2, 2)[: args.stages],
        dilations=(1,) * args.stages,
    )


class Autocast(OptimWrapper):
    """mmengine's wrapper with a dtype, on a CPU too; scales no loss."""

    def __init__(self, optimizer: Any, dtype: torch.dtype, device: str):
        super().__init__(optimizer)
        self.dtype, self.device = dtype, device

    def optim_context(self, model: nn.Module) -> Any:
        """Cast as mixed precision does; float32 casts nothing."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device, self.dtype)


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    dtype: torch.dtype,
    device: str,
) -> Step:
    """All of an iteration but the loader and the hooks.

    float16 on a GPU scales the loss, as `--amp` does here and in mmpretrain.
    """
    if device == 'cuda' and dtype == torch.float16:
        wrapper: OptimWrapper = AmpOptimWrapper(
            optimizer=optimizer, dtype='float16', loss_scale='dynamic'
        )
    else:
        wrapper = Autocast(optimizer, dtype, device)
    model.train()
    return lambda data: model.train_step(data, wrapper)


def their_lars(model: nn.Module) -> torch.optim.Optimizer:
    """As in mmpretrain's config."""
    from mmpretrain.engine.optimizers import LARS as TheirLARS

    return TheirLARS(
        model.parameters(), lr=0.6, momentum=0.9, weight_decay=1e-6
    )


def our_lars(model: nn.Module) -> torch.optim.Optimizer:
    """As in configs/selfsup/_base_/schedules."""
    return LARS(model.parameters(), lr=0.6, momentum=0.9, weight_decay=1e-6)


class Variant(NamedTuple):
    """A training step to measure.

    Args:
        build: Makes the model.
        lars: Makes its optimizer.
        dtype: The precision.
        changes: Arguments of our model that differ.
    """

    build: Callable[..., nn.Module]
    lars: Callable[[nn.Module], torch.optim.Optimizer]
    dtype: torch.dtype
    changes: dict[str, Any] = {}


def list_variants(args: argparse.Namespace) -> dict[str, Variant]:
    """All that are compared; the name says which key differs."""
    variants = {}
    for dtype in dict.fromkeys([torch.float32, *args.dtypes]):
        name = short(dtype)
        variants[f'{PEER} {name}'] = Variant(their_model, their_lars, dtype)
        variants[f'swav_plugin {name}'] = Variant(our_model, our_lars, dtype)
    dtype = args.dtypes[0]
    ours = f'swav_plugin {short(dtype)}'
    if args.device == 'cuda':  # it has no effect on a CPU
        variants[f'{ours}, channels_last=False'] = Variant(
            our_model, our_lars, dtype, dict(channels_last=False)
        )
    variants[f'{ours}, LARS of mmpretrain'] = Variant(
        our_model, their_lars, dtype
    )
    if args.compile:
        variants[f'{ours}, compile'] = Variant(
            our_model, our_lars, dtype, dict(compile={})
        )
    if args.compile and args.device == 'cuda':  # a CPU has no CUDA graphs
        variants[f'{ours}, compile reduce-overhead'] = Variant(
            our_model,
            our_lars,
            dtype,
            dict(compile=dict(mode='reduce-overhead')),
        )
    return variants


def short(dtype: torch.dtype) -> str:
    """Return the name of a dtype without torch's."""
    return str(dtype).removeprefix('torch.')


def synthetic_views(args: argparse.Namespace) -> dict:
    """A batch of uint8 views on the device, as both preprocessors take it."""
    inputs = [
        torch.randint(
            256, (args.batch_size, 3, size, size), dtype=torch.uint8
        ).to(args.device)
        for num, size in zip(args.views, args.sizes)
        for _ in range(num)
    ]
    return dict(inputs=inputs, data_samples=None)


def wait_for_device(args: argparse.Namespace) -> None:
    """Let the device finish what it was given."""
    if args.device == 'cuda':
        torch.cuda.synchronize()


def start_of_memory(args: argparse.Namespace) -> int:
    """Bytes that tensors take on the GPU; from here on their peak counts."""
    if args.device == 'cpu':
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def peak_memory_gib(args: argparse.Namespace, held: int) -> float | None:
    """Most that was taken beyond `held` bytes; None on a CPU."""
    if args.device == 'cpu':
        return None
    return round((torch.cuda.max_memory_allocated() - held) / 2**30, 2)


def compare_steps(
    args: argparse.Namespace,
    rows: Sequence[dict] = (),
    save: Save = lambda rows: None,
    left_s: Callable[[], float] = lambda: math.inf,
) -> tuple[list[dict], dict[str, str]]:
    """Time all steps in turn; images/s, share of peak, waits and memory.

    The first round of a step is timed when it is built, the others in turns.

    Args:
        args: The arguments of the command line.
        rows: What an earlier, stopped call measured. It is not measured again.
        save: Called with all rows whenever there is more in them.
        left_s: Seconds that are left; what does not fit is not measured.

    Returns:
        A row for each step, and why others could not be measured.
    """
    variants = list_variants(args)
    found = {row['name']: dict(row) for row in rows if row['name'] in variants}
    missing: dict[str, str] = {}
    wanted = {
        name: args.rounds - len(found.get(name, {}).get('rounds_ms', ()))
        for name in variants
    }
    if not any(num > 0 for num in wanted.values()):
        return _finish(args, found, variants), missing
    data = synthetic_views(args)
    dtypes = {variant.dtype for variant in variants.values()}
    if args.device == 'cuda':
        dtypes.add(torch.bfloat16)  # one measure for all
    peaks = {dtype: measure_peak(args, dtype) for dtype in dtypes}
    runs = {}
    longest_s = 0.0
    for name, variant in variants.items():
        if wanted[name] <= 0:
            continue
        is_slow = args.device == 'cuda' and 'compile' in variant.changes
        needs_s = max(2 * longest_s, COMPILE_S if is_slow else 0)
        if left_s() < needs_s:
            missing[name] = (
                f'needs about {needs_s:.0f} s, {left_s():.0f} s left'
            )
            continue
        start = time.perf_counter()
        try:
            run, row = _build_step(args, variant, data)
        # One that cannot run here, such as compile without a compiler, does
        # not keep the others from being measured.
        except Exception as error:
            missing[name] = one_line(error)
            gc.collect()
            continue
        ready_s = time.perf_counter() - start
        longest_s = max(longest_s, ready_s)
        runs[name] = run
        row.update(
            name=name,
            ready_s=round(ready_s, 1),
            peak_tflops=_tera(peaks[variant.dtype]),
            bf16_peak_tflops=_tera(peaks.get(torch.bfloat16)),
        )
        found[name] = {'rounds_ms': [], **found.get(name, {}), **row}
        if not found[name]['rounds_ms']:
            _add_round(args, found, {name: run})
        save(_finish(args, found, variants))
        print(
            f'{name}: ready after {ready_s:.1f} s, '
            f'{found[name]["median_ms"]:.1f} ms',
            flush=True,
        )
    missing |= _take_turns(
        args, found, runs, left_s, lambda: save(_finish(args, found, variants))
    )
    return _finish(args, found, variants), missing


def _tera(per_s: float | None) -> float | None:
    return None if per_s is None else float(f'{per_s / 1e12:.4g}')


def _take_turns(
    args: argparse.Namespace,
    found: dict[str, dict],
    runs: dict[str, Callable[[], None]],
    left_s: Callable[[], float],
    save: Callable[[], None],
) -> dict[str, str]:
    """Time the rounds that are still missing; tell those that do not fit."""
    round_s = 0.0
    while due := {
        name: run
        for name, run in runs.items()
        if len(found[name]['rounds_ms']) < args.rounds
    }:
        if left_s() < round_s:
            return {
                name: f'{len(found[name]["rounds_ms"])} of {args.rounds} '
                'rounds, no time left'
                for name in due
            }
        start = time.perf_counter()
        _add_round(args, found, due)
        round_s = time.perf_counter() - start
        save()
    return {}


def one_line(error: Exception) -> str:
    """Return what an error says, at most 200 characters."""
    text = ' '.join(f'{type(error).__name__}: {error}'.split())
    return text if len(text) <= 200 else f'{text[:197]}...'


def _build_step(
    args: argparse.Namespace, variant: Variant, data: dict
) -> tuple[Callable[[], None], dict]:
    """Make a step and warm it up; return a round of it, and its memory."""
    held = start_of_memory(args)
    model = variant.build(args, **variant.changes)
    step = training_step(
        model, variant.lars(model), variant.dtype, args.device
    )
    for _ in range(3):  # compiles and chooses kernels
        step(data)
    start_of_memory(args)
    step(data)
    row: dict[str, Any] = dict(memory_gib=peak_memory_gib(args, held))
    row['host_syncs'], row['host_syncs_in'] = count_syncs(
        lambda: step(data), args.device
    )
    if variant.build is our_model and not variant.changes:
        row['gflop'] = count_flops(step, data) / 1e9

    def run() -> None:
        for _ in range(args.steps):
            step(data)
        wait_for_device(args)

    return run, row


def count_syncs(
    step: Callable[[], object], device: str
) -> tuple[int | None, dict[str, int]]:
    """Count how often a step makes the host wait for the GPU.

    Returns:
        The number, None on a CPU, and the lines of code with most of them.
    """
    if device == 'cpu':
        return None, {}
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode('default')
    lines = Counter(
        f'{"/".join(warning.filename.split("/")[-2:])}:{warning.lineno}'
        for warning in caught
        if 'synchronizing' in str(warning.message)
    )
    return lines.total(), dict(lines.most_common(5))


def _add_round(
    args: argparse.Namespace,
    found: dict[str, dict],
    runs: dict[str, Callable[[], object]],
) -> None:
    """Time each once; add milliseconds a step."""
    for elapsed in timed_rounds(runs, 1):
        for name, ms in elapsed.items():
            found[name]['rounds_ms'].append(round(ms / args.steps, 3))


def _finish(
    args: argparse.Namespace,
    found: dict[str, dict],
    variants: dict[str, Variant],
) -> list[dict]:
    """Fill in what follows from the rounds; rows in the order of variants."""
    rows = [found[name] for name in variants if name in found]
    times = {row['name']: row['rounds_ms'] for row in rows}
    if not times:
        return []
    baseline = BASELINE if BASELINE in times else next(iter(times))
    for row, derived in zip(rows, summary(times, baseline)):
        row.update(derived)
        per_s = 1000 / row['median_ms']
        row['images_per_s'] = round(args.batch_size * per_s, 2)
    # Counted in our model; the others compute the same.
    gflop = next((row['gflop'] for row in rows if 'gflop' in row), None)
    for row in rows if gflop is not None else ():
        tflops = gflop / row['median_ms']
        row.update(
            tflops=round(tflops, 2),
            share_of_peak=round(tflops / row['peak_tflops'], 3),
            share_of_bf16_peak=row['bf16_peak_tflops']
            and round(tflops / row['bf16_peak_tflops'], 3),
            gflop_per_image=round(gflop / args.batch_size, 2),
        )
    return rows


def count_flops(step: Step, data: dict) -> int:
    """Count, with torch, the FLOPs of convolutions and matrix products.

    The backward pass is included.
    """
    with FlopCounterMode(display=False) as counter:
        step(data)
    return counter.get_total_flops()


def measure_peak(args: argparse.Namespace, dtype: torch.dtype) -> float:
    """Operations a second of a large product of matrices.

    In float32 on CUDA with TF32, as convolutions have it by default.
    """
    side, num_products = (8192, 20) if args.device == 'cuda' else (2048, 1)
    if args.device == 'cpu' and dtype != torch.float32:
        side = 256  # a processor without such products takes minutes
    torch.backends.cuda.matmul.allow_tf32 = True
    a, b = (
        torch.randn(side, side, device=args.device).to(dtype) for _ in range(2)
    )
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(num_products):
            torch.mm(a, b)
        wait_for_device(args)
        seconds.append(time.perf_counter() - start)
    torch.backends.cuda.matmul.allow_tf32 = False
    return num_products * 2 * side**3 / min(seconds)


def compare_optimizers(args: argparse.Namespace) -> list[dict]:
    """Time LARS alone on gradients of noise."""
    steps = {}
    for name, lars in ((PEER, their_lars), ('swav_plugin', our_lars)):
        model = our_model(args)
        for param in model.parameters():
            param.grad = torch.randn_like(param)
        optimizer = lars(model)

        def run(optimizer: torch.optim.Optimizer = optimizer) -> None:
            for _ in range(args.steps):
                optimizer.step()
            wait_for_device(args)

        steps[name] = run
    times = {
        name: [ms / args.steps for ms in rounds]
        for name, rounds in interleave(steps, args.rounds).items()
    }
    return summary(times, baseline=PEER)


def end_to_end(
    args: argparse.Namespace,
    files: list[str],
    rows: Sequence[dict] = (),
    save: Save = lambda rows: None,
    left_s: Callable[[], float] = lambda: math.inf,
) -> tuple[list[dict], dict[str, str]]:
    """Train from files with each path and number of workers.

    Args and result are those of `compare_steps`.
    """
    done = {(row['path'], row['num_workers']): row for row in rows}
    missing: dict[str, str] = {}
    step = None
    longest_s = 0.0
    for path in args.path:
        for num_workers in args.workers:
            if (path, num_workers) in done:
                continue
            name = f'{path} path, {num_workers} workers'
            if left_s() < 1.5 * longest_s:
                missing[name] = (
                    f'needs about {1.5 * longest_s:.0f} s, '
                    f'{left_s():.0f} s left'
                )
                continue
            start = time.perf_counter()
            if step is None:
                compiled = {'compile': {}} if args.compile else {}
                model = our_model(args, **compiled)
                step = training_step(
                    model, our_lars(model), args.dtypes[0], args.device
                )
            try:
                row = _train_from_files(args, step, files, path, num_workers)
            except Exception as error:  # nvJPEG may be missing
                missing[name] = one_line(error)
                continue
            longest_s = max(longest_s, time.perf_counter() - start)
            done[path, num_workers] = row
            print_end_to_end(row)
            save(list(done.values()))
    return list(done.values()), missing


def _train_from_files(
    args: argparse.Namespace,
    step: Step,
    files: list[str],
    path: str,
    num_workers: int,
) -> dict:
    """Time steps and the wait for their images."""
    batches = iter(
        build_loader(
            files, args.batch_size, num_workers, path, args.views, args.sizes
        )
    )
    # Those made while the workers started, and the first steps.
    for _ in range(2 * num_workers + 2):
        step(next(batches))
    wait_for_device(args)
    start_of_memory(args)
    waited, start = 0.0, time.perf_counter()
    for _ in range(args.e2e_steps):
        asked = time.perf_counter()
        data = next(batches)
        waited += time.perf_counter() - asked
        step(data)
    wait_for_device(args)
    seconds = time.perf_counter() - start
    return dict(
        path=path,
        num_workers=num_workers,
        images_per_s=round(args.batch_size * args.e2e_steps / seconds, 2),
        data_wait=round(waited / seconds, 4),
        memory_gib=peak_memory_gib(args, held=0),
    )


def print_steps(rows: list[dict], missing: dict[str, str]) -> None:
    """One line for each."""
    print(
        f'{"step":<42} {"ms":>9} {"images/s":>9} {"of peak":>7} '
        f'{"waits":>5} {"GiB":>6} {"ratio [range]":>18}'
    )
    for row in rows:
        low, high = row['speedup_range']
        ratio = f'{row["speedup"]:.2f} [{low:.2f}-{high:.2f}]'
        memory = '-' if row['memory_gib'] is None else row['memory_gib']
        waits = '-' if row['host_syncs'] is None else row['host_syncs']
        print(
            f'{row["name"]:<42} {row["median_ms"]:9.1f} '
            f'{row["images_per_s"]:9.2f} {row["share_of_peak"]:7.1%} '
            f'{waits:>5} {memory:>6} {ratio:>18}'
        )
    print_missing(missing)


def print_missing(missing: dict[str, str]) -> None:
    """Say what could not be measured, and why."""
    for name, reason in missing.items():
        print(f'{name}: not measured: {reason}')


def print_end_to_end(row: dict) -> None:
    """Speed and wait of one way to load."""
    memory = (
        '' if row['memory_gib'] is None else (f', {row["memory_gib"]:.1f} GiB')
    )
    print(
        f'{row["path"]:>6} path, {row["num_workers"]:2} workers: '
        f'{row["images_per_s"]:8.2f} images/s, data wait '
        f'{row["data_wait"]:.1%}{memory}',
        flush=True,
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--data',
        help='folder of JPEG photographs; without '
        'it only the step is measured',
    )
    parser.add_argument('--num-files', type=int, default=48)
    parser.add_argument('--depth', type=int, default=50, choices=(18, 34, 50))
    parser.add_argument(
        '--stages',
        type=int,
        default=4,
        choices=(1, 2, 3, 4),
        help='of the ResNet; fewer are compiled sooner, for a dry run',
    )
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument(
        '--dtype',
        nargs='+',
        choices=('float32', 'bfloat16', 'float16'),
        help='measured besides float32; the first is that of the rows with '
        'one key switched and of training from files; default: bfloat16, on '
        'a CPU float32',
    )
    parser.add_argument('--views', type=int, nargs=2, default=[2, 6])
    parser.add_argument('--sizes', type=int, nargs=2, default=[224, 96])
    parser.add_argument('--num-prototypes', type=int, default=3000)
    parser.add_argument('--queue-length', type=int, default=3840)
    parser.add_argument(
        '--compile',
        action='store_true',
        help='also measure torch.compile, and train with it',
    )
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--steps', type=int, default=5, help='in a round')
    parser.add_argument('--e2e-steps', type=int, default=40)
    parser.add_argument('--workers', type=int, nargs='+', default=[1])
    parser.add_argument(
        '--path',
        nargs='+',
        default=['cpu', 'device'],
        choices=('cpu', 'device', 'decode'),
        help='the loader cuts the views; or the device does; '
        'or it also decodes the files',
    )
    parser.add_argument('--only', choices=('step', 'end-to-end'))
    parser.add_argument(
        '--threads',
        type=int,
        help='of torch on a CPU; default: all cores but one',
    )
    args = parser.parse_args(argv)
    args.device = 'cuda' if torch.cuda.is_available() else 'cpu'
    default = 'float32' if args.device == 'cpu' else 'bfloat16'
    args.dtypes = [getattr(torch, name) for name in args.dtype or [default]]
    if args.queue_length % args.batch_size:
        parser.error(
            f'--queue-length {args.queue_length} is not a multiple of '
            f'--batch-size {args.batch_size}'
        )
    if args.data is None and args.only == 'end-to-end':
        parser.error('--only end-to-end needs --data')
    return args


# The arguments that decide what a step is.
OPTIONS = (
    'depth',
    'stages',
    'batch_size',
    'views',
    'sizes',
    'num_prototypes',
    'queue_length',
    'steps',
    'e2e_steps',
)


def prepare(args: argparse.Namespace) -> dict[str, Any]:
    """Set up torch for these measurements; return the options to record."""
    warnings.filterwarnings('ignore')
    cv2.setNumThreads(0)
    torch.backends.cudnn.benchmark = True
    if args.device == 'cpu':
        torch.set_num_threads(
            args.threads or max(1, torch.get_num_threads() - 1)
        )
    init_default_scope('swav_plugin')
    return {name: getattr(args, name) for name in OPTIONS}


def main() -> None:
    """Print tables and write them to results/."""
    args = parse_args()
    options = prepare(args)
    content: dict[str, Any] = dict(
        hardware=hardware(PACKAGES), options=options
    )
    name = f'step_{device_name(content["hardware"])}'

    def save(**changes: Any) -> None:
        content.update(changes)
        write_json(name, content)

    if args.only != 'end-to-end':
        rows, missing = compare_steps(args, save=lambda rows: save(steps=rows))
        print_steps(rows, missing)
        save(optimizers=compare_optimizers(args))
        theirs, ours = content['optimizers']
        print(
            f'LARS alone: {PEER} {theirs["median_ms"]:.2f} ms, swav_plugin '
            f'{ours["median_ms"]:.2f} ms'
        )
    if args.data and args.only != 'step':
        files = find_photos(args.data, args.num_files)
        rows, missing = end_to_end(
            args, files, save=lambda rows: save(end_to_end=rows)
        )
        save(end_to_end=rows)
        print_missing(missing)
    print(f'written to results/{name}_{content["hardware"]["date"]}.json')


if __name__ == '__main__':
    main()
