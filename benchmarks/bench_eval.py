"""Evaluation against the way mmselfsup does it: kNN, features of ranks, SVM.

    python benchmarks/bench_eval.py knn gather svm

knn: 2,000 queries against a bank of ImageNet's size on disk (5.2 GB of free
space), on the GPU if there is one, and how much of the time is inside matrix
products. gather: features of
two ranks through Python lists, as mmselfsup's collect does, and through files
as `FeatureEvalLoop` does. svm: the full VOC07 protocol of one feature, 1,520
SVMs, against LIBLINEAR one after the other; of the latter only `--fits` are
run, drawn over all classes, costs and folds, and their mean is taken 1,520
times.
"""

import argparse
import itertools
import random
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from common import device_name, hardware, write_json
from sklearn.svm import LinearSVC
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from swav_plugin.evaluation.feature_store import (
    ShardWriter,
    open_rows,
    write_meta,
)
from swav_plugin.evaluation.knn import nearest_neighbors
from swav_plugin.evaluation.svm import COSTS, svm_map
from swav_plugin.evaluation.svm_samples import stratified_folds

BATCH = 256  # images in a batch of features


def features(seed: int, num: int, width: int) -> Tensor:
    """As after a ReLU and average pooling: (num, width), >= 0."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, width, generator=generator).relu_()


def bench_knn(args: argparse.Namespace, folder: Path) -> dict:
    """Time the search for 200 neighbors in a bank on disk."""
    part = features(0, 2**14, args.width)
    writer = ShardWriter(folder, args.bank, 'float16')
    for start in range(0, args.bank, len(part)):
        rows = part[: args.bank - start].roll(start // len(part), dims=1)
        writer.write(rows)
    write_meta(folder, args.bank, writer.close(), {})
    bank = open_rows(folder)
    queries = features(1, args.queries, args.width).to(args.device)
    activities = [ProfilerActivity.CPU]
    if args.device == 'cuda':
        activities.append(ProfilerActivity.CUDA)
        torch.cuda.reset_peak_memory_stats()
    with profile(activities=activities) as events:
        start_s = time.perf_counter()
        cosines, _ = nearest_neighbors(bank, queries, 200)
        cosines.cpu()  # waits for the GPU
        seconds = time.perf_counter() - start_s
    inside = (
        sum(
            event.self_device_time_total
            if args.device == 'cuda'
            else event.self_cpu_time_total
            for event in events.key_averages()
            if event.key == 'aten::mm'
        )
        / 1e6
    )
    # Pages of the file that are mapped count as well.
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f'kNN, {args.queries} queries, bank {args.bank} x {args.width} '
        f'float16 on disk: {seconds:.1f} s, {inside / seconds:.1%} of it in '
        f'matrix products, peak memory {peak_gib:.1f} GiB'
    )
    result = dict(
        bank=args.bank,
        queries=args.queries,
        seconds=round(seconds, 2),
        share_in_products=round(inside / seconds, 3),
        peak_gib=round(peak_gib, 2),
    )
    if args.device == 'cuda':
        result['memory_gib'] = round(
            torch.cuda.max_memory_allocated() / 2**30, 2
        )
    return result


def bench_gather(args: argparse.Namespace, folder: Path) -> dict:
    """Time how features of two ranks come together."""
    context = torch.multiprocessing.get_context('spawn')
    results = context.SimpleQueue()
    torch.multiprocessing.spawn(
        _gather_rank, (args.rows, args.width, folder, results), 2
    )
    through_lists, through_files = results.get()
    print(
        f'features of 2 ranks, {args.rows} x {args.width}: '
        f'{through_lists:.2f} s through lists, {through_files:.2f} s '
        f'through files, {through_lists / through_files:.1f}x'
    )
    return dict(
        rows=args.rows,
        through_lists_s=round(through_lists, 3),
        through_files_s=round(through_files, 3),
        speedup=round(through_lists / through_files, 1),
    )


def _gather_rank(
    rank: int, num_rows: int, width: int, folder: Path, results: Any
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    batches = features(rank, num_rows // 2, width).split(BATCH)
    times = []
    for gather in (_through_lists, _through_files):
        dist.barrier()
        start = time.perf_counter()
        gathered = gather(batches, folder)
        dist.barrier()
        times.append(time.perf_counter() - start)
        if rank == 0:
            expected = features(1, num_rows // 2, width)[-1]
            torch.testing.assert_close(gathered[-1], expected)
    if rank == 0:
        results.put(times)
    dist.destroy_process_group()


def _through_lists(batches: tuple[Tensor, ...], folder: Path) -> Tensor:
    """Rows as lists of numbers, the lists of all ranks, one tensor."""
    rows = []
    for batch in batches:
        rows.extend(batch.tolist())
    everyone: list[Any] = [None, None]
    dist.all_gather_object(everyone, rows)
    return torch.tensor(everyone[0] + everyone[1])


def _through_files(batches: tuple[Tensor, ...], folder: Path) -> Tensor:
    """Each rank writes its rows; all map the files, and here read them."""
    rank = dist.get_rank()
    writer = ShardWriter(folder, sum(map(len, batches)), 'float32')
    for batch in batches:
        writer.write(batch)
    checksums: list = [None, None]
    dist.all_gather_object(checksums, writer.close())
    if rank == 0:
        num_rows = 2 * sum(map(len, batches))
        write_meta(folder, num_rows, checksums[0] | checksums[1], {})
    dist.barrier()
    return open_rows(folder)[:]


def bench_svm(args: argparse.Namespace, folder: Path) -> dict:
    """Time the full protocol, and fits of the one-at-a-time procedure."""
    rng = np.random.default_rng(0)
    num = args.train_images + args.test_images
    marks = (rng.random((num, 20)) < 0.07).astype(np.int8)
    signal = marks @ rng.normal(size=(20, args.svm_width))
    noise = rng.normal(size=(num, args.svm_width))
    x = torch.tensor(np.maximum(signal + 3 * noise + 1, 0)).float()
    y = torch.tensor(marks)
    train_x, test_x = x.split([args.train_images, args.test_images])
    train_y, test_y = y.split([args.train_images, args.test_images])
    start = time.perf_counter()
    result = svm_map(train_x, train_y, test_x, test_y)
    own = time.perf_counter() - start
    one = _time_liblinear(train_x, train_y, args.fits)
    num_fits = 20 * len(COSTS) * 4
    print(
        f'SVM, {num_fits} fits of {args.train_images} x {args.svm_width}: '
        f'{own:.1f} s (mAP {result.map_cv:.1f}); LIBLINEAR {one:.3f} s a '
        f'fit, mean of {args.fits}: {num_fits * one:.0f} s in all, '
        f'{num_fits * one / own:.0f}x'
    )
    return dict(
        train_images=args.train_images,
        width=args.svm_width,
        seconds=round(own, 2),
        liblinear_s_per_fit=round(one, 4),
        liblinear_fits_timed=args.fits,
        speedup=round(num_fits * one / own, 1),
    )


def _time_liblinear(train_x: Tensor, train_y: Tensor, num_fits: int) -> float:
    """Mean seconds of a fit, with the reference's settings."""
    x = F.normalize(train_x.double(), dim=1).numpy()
    jobs = list(itertools.product(range(20), COSTS, range(4)))
    seconds = 0.0
    for label, cost, fold in random.Random(0).sample(jobs, num_fits):
        positive = train_y[:, label] == 1
        kept = (stratified_folds(positive, 3) != fold).numpy()  # 3: all
        target = np.where(positive, 1, -1)
        svm = LinearSVC(
            C=cost, class_weight={1: 2, -1: 1}, dual=True, max_iter=2000
        )
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # it did not converge
            svm.fit(x[kept], target[kept])
        seconds += time.perf_counter() - start
    return seconds / num_fits


PARTS: dict[str, Callable[[argparse.Namespace, Path], dict]] = dict(
    knn=bench_knn, gather=bench_gather, svm=bench_svm
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('parts', nargs='+', choices=PARTS)
    parser.add_argument('--width', type=int, default=2048)
    parser.add_argument('--bank', type=int, default=1_281_167)
    parser.add_argument('--queries', type=int, default=2000)
    parser.add_argument('--rows', type=int, default=20_000)
    parser.add_argument('--train-images', type=int, default=5011)
    parser.add_argument('--test-images', type=int, default=4952)
    parser.add_argument('--svm-width', type=int, default=8192)
    parser.add_argument('--fits', type=int, default=20)
    parser.add_argument('--folder', help='for files, on a disk with space')
    args = parser.parse_args(argv)
    args.device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return args


def main() -> None:
    """Print a line for each part and write them to results/."""
    args = parse_args()
    results = {}
    where = hardware(['scikit-learn'])
    for part in args.parts:
        with TemporaryDirectory(dir=args.folder) as folder:
            results[part] = PARTS[part](args, Path(folder))
        sys.stdout.flush()
        path = write_json(
            f'eval_{device_name(where)}', dict(hardware=where, results=results)
        )
    print(f'written to {path.name}')


if __name__ == '__main__':
    main()
