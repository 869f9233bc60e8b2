"""One training step, and how long it waits for its images.

1. Images/s of forward, backward and optimizer, for our SwAV and mmpretrain's,
   on views that are on the device; share of the device's peak; ours with each
   key switched. All take turns in one run.
2. The same step fed by our loader from JPEG files: images/s and the share of
   the time that it waits for data, for each number of workers and each path
   (the loader cuts the views, the device does, or it also decodes the files).

    python benchmarks/bench_step.py --data PHOTOS --batch-size 64 \
--compile --workers 4 8 16 --path cpu device decode

A dry run on a CPU:

    python benchmarks/bench_step.py --data PHOTOS --depth 18 --batch-size 4 \
--views 2 2 --sizes 64 32 --num-prototypes 30 --queue-length 8 --steps 2
"""

import argparse
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median
from typing import Any

import cv2
import torch
from common import (
    ROOT,
    build_loader,
    find_photos,
    hardware,
    interleave,
    summary,
    write_json,
)
from mmengine.config import Config
from mmengine.optim import OptimWrapper
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
Step = Callable[[dict], Any]


def our_model(args: argparse.Namespace, **changes: Any) -> nn.Module:
    """As configs/selfsup/_base_/models has it."""
    cfg = Config.fromfile(
        ROOT / 'configs/selfsup/_base_/models/swav_resnet50.py'
    )
    cfg.merge_from_dict(
        {
            'model.backbone.depth': args.depth,
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
                depth=args.depth,
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
    return 512 if args.depth < 50 else 2048


class Autocast(OptimWrapper):
    """mmengine's wrapper with a dtype, on any device; scales no loss."""

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
    """All of an iteration but the loader and the hooks."""
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


def make_steps(
    args: argparse.Namespace, data: dict
) -> tuple[dict[str, Step], dict[str, float]]:
    """All that are compared, warm, and the GiB that each takes on a GPU.

    The name says which key differs.
    """
    short = str(args.dtype).removeprefix('torch.')
    steps, memory = {}, {}

    def add(
        name: str,
        build: Any,
        lars: Any,
        dtype: torch.dtype = args.dtype,
        **changes: Any,
    ) -> None:
        held = start_of_memory(args)
        model = build(args, **changes)
        steps[name] = training_step(model, lars(model), dtype, args.device)
        for _ in range(3):  # compiles and chooses kernels
            steps[name](data)
        start_of_memory(args)
        steps[name](data)
        memory[name] = peak_memory_gib(args, held)

    add(f'{PEER} float32', their_model, their_lars, torch.float32)
    add('swav_plugin float32', our_model, our_lars, torch.float32)
    if args.dtype != torch.float32:
        add(f'{PEER} {short}', their_model, their_lars)
        add(f'swav_plugin {short}', our_model, our_lars)
    if args.device == 'cuda':  # it has no effect on a CPU
        add(
            f'swav_plugin {short}, channels_last=False',
            our_model,
            our_lars,
            channels_last=False,
        )
    add(f'swav_plugin {short}, LARS of mmpretrain', our_model, their_lars)
    if args.compile:
        add(f'swav_plugin {short}, compile', our_model, our_lars, compile={})
    return steps, memory


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


def compare_steps(args: argparse.Namespace) -> list[dict]:
    """Time all steps in turn; images/s, share of peak and memory."""
    data = synthetic_views(args)
    steps, memory = make_steps(args, data)
    runs = {}
    for name, step in steps.items():

        def run(step: Step = step) -> None:
            for _ in range(args.steps):
                step(data)
            wait_for_device(args)

        runs[name] = run
    times = {
        name: [ms / args.steps for ms in rounds]
        for name, rounds in interleave(runs, args.rounds, warmup=1).items()
    }
    flops = count_flops(steps['swav_plugin float32'], data)
    peaks = {
        dtype: measure_peak(args, dtype)
        for dtype in {torch.float32, args.dtype}
    }
    rows = summary(times, baseline=f'{PEER} float32')
    for row in rows:
        name = row['name']
        dtype = torch.float32 if 'float32' in name else args.dtype
        per_s = 1000 / median(times[name])
        row.update(
            images_per_s=round(args.batch_size * per_s, 2),
            tflops=round(flops * per_s / 1e12, 2),
            peak_tflops=round(peaks[dtype] / 1e12, 2),
            share_of_peak=round(flops * per_s / peaks[dtype], 3),
            gflop_per_image=round(flops / args.batch_size / 1e9, 2),
            memory_gib=memory[name],
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


def end_to_end(args: argparse.Namespace, files: list[str]) -> list[dict]:
    """Train from files with each path and number of workers."""
    model = our_model(args, **({'compile': {}} if args.compile else {}))
    step = training_step(model, our_lars(model), args.dtype, args.device)
    rows = []
    for path in args.path:
        for num_workers in args.workers:
            batches = iter(
                build_loader(
                    files,
                    args.batch_size,
                    num_workers,
                    path,
                    args.views,
                    args.sizes,
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
            rows.append(
                dict(
                    path=path,
                    num_workers=num_workers,
                    images_per_s=round(
                        args.batch_size * args.e2e_steps / seconds, 2
                    ),
                    data_wait=round(waited / seconds, 4),
                    memory_gib=peak_memory_gib(args, held=0),
                )
            )
            print_end_to_end(rows[-1])
            del batches  # ends its workers
    return rows


def print_steps(rows: list[dict]) -> None:
    """One line for each."""
    print(
        f'{"step":<42} {"ms":>9} {"images/s":>9} {"of peak":>7} '
        f'{"GiB":>6} {"ratio [range]":>18}'
    )
    for row in rows:
        low, high = row['speedup_range']
        ratio = f'{row["speedup"]:.2f} [{low:.2f}-{high:.2f}]'
        memory = '-' if row['memory_gib'] is None else row['memory_gib']
        print(
            f'{row["name"]:<42} {row["median_ms"]:9.1f} '
            f'{row["images_per_s"]:9.2f} {row["share_of_peak"]:7.1%} '
            f'{memory:>6} {ratio:>18}'
        )


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


def parse_args() -> argparse.Namespace:
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
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument(
        '--dtype',
        choices=('float32', 'bfloat16', 'float16'),
        help='default: bfloat16, on a CPU float32',
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
    args = parser.parse_args()
    args.device = 'cuda' if torch.cuda.is_available() else 'cpu'
    args.dtype = getattr(
        torch,
        args.dtype or ('float32' if args.device == 'cpu' else 'bfloat16'),
    )
    if args.queue_length % args.batch_size:
        parser.error(
            f'--queue-length {args.queue_length} is not a multiple of '
            f'--batch-size {args.batch_size}'
        )
    if args.data is None and args.only == 'end-to-end':
        parser.error('--only end-to-end needs --data')
    return args


def main() -> None:
    """Print tables and write them to results/."""
    args = parse_args()
    warnings.filterwarnings('ignore')
    cv2.setNumThreads(0)
    torch.backends.cudnn.benchmark = True
    if args.device == 'cpu':
        torch.set_num_threads(
            args.threads or max(1, torch.get_num_threads() - 1)
        )
    init_default_scope('swav_plugin')
    options = {
        name: getattr(args, name)
        for name in (
            'depth',
            'batch_size',
            'views',
            'sizes',
            'num_prototypes',
            'queue_length',
            'steps',
            'e2e_steps',
        )
    }
    content: dict[str, object] = dict(
        hardware=hardware(PACKAGES), options=options
    )
    if args.only != 'end-to-end':
        content['steps'] = compare_steps(args)
        print_steps(content['steps'])
        content['optimizers'] = compare_optimizers(args)
        theirs, ours = content['optimizers']
        print(
            f'LARS alone: {PEER} {theirs["median_ms"]:.2f} ms, swav_plugin '
            f'{ours["median_ms"]:.2f} ms'
        )
    if args.data and args.only != 'step':
        files = find_photos(args.data, args.num_files)
        content['end_to_end'] = end_to_end(args, files)
    gpu = content['hardware']['gpu']
    where = 'cpu' if gpu is None else gpu.replace(' ', '-')
    path = write_json(f'step_{where}', content)
    print(f'written to {path.name}')


if __name__ == '__main__':
    main()
