"""Trace some training steps: the largest kernels, and when none runs."""

import gzip
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

_ON_GPU = ('kernel', 'gpu_memcpy', 'gpu_memset')
NUM_LARGEST = 10


def profile_steps(
    step: Callable[[dict], object],
    batches: Iterator[dict],
    num_steps: int,
    warmup: int,
    trace: Path,
) -> dict[str, Any]:
    """Trace steps and write the trace, for chrome://tracing, to a file.

    Returns:
        Time of a step, the kernels (on a CPU: the operators) with the largest
        time of their own, and the share of the time in which the GPU has
        nothing to do. A traced step is slower than others.
    """
    has_gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU]
    if has_gpu:
        activities.append(ProfilerActivity.CUDA)
    for _ in range(warmup):
        step(next(batches))
    if has_gpu:
        torch.cuda.synchronize()
    with profile(activities=activities) as profiled:
        start = time.perf_counter()
        for _ in range(num_steps):
            step(next(batches))
        if has_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    profiled.export_chrome_trace(str(trace))
    result: dict[str, Any] = dict(
        trace=trace.name,
        num_steps=num_steps,
        step_ms=round(1e3 * seconds / num_steps, 2),
    )
    if has_gpu:
        with gzip.open(trace, 'rt', encoding='utf-8') as file:
            events = json.load(file)['traceEvents']
        return result | summarize(events, num_steps)
    times = {
        event.key: (event.self_cpu_time_total, event.count)
        for event in profiled.key_averages()
    }
    return result | dict(
        largest=_largest(times, num_steps),
        idle_share=None,
        longest_gaps_ms=[],
    )


def summarize(events: Sequence[dict], num_steps: int) -> dict[str, Any]:
    """Find the largest kernels and the gaps in the events of a trace.

    Args:
        events: In Chrome's format; times are in microseconds.
        num_steps: Steps that were traced.
    """
    on_gpu = [event for event in events if event.get('cat') in _ON_GPU]
    if not on_gpu:
        raise RuntimeError(
            'the trace has no GPU kernels; torch needs CUPTI to see them'
        )
    total_us: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in on_gpu:
        total_us[event['name']] += event['dur']
        calls[event['name']] += 1
    gaps = []
    # Kernels of several streams overlap.
    intervals = sorted((e['ts'], e['ts'] + e['dur']) for e in on_gpu)
    busy_until = intervals[0][0]
    for begin, end in intervals:
        if begin > busy_until:
            gaps.append(begin - busy_until)
        busy_until = max(busy_until, end)
    span = busy_until - intervals[0][0]
    return dict(
        largest=_largest(
            {name: (total_us[name], calls[name]) for name in total_us},
            num_steps,
        ),
        idle_share=round(sum(gaps) / span, 4),
        longest_gaps_ms=[
            round(gap / 1e3, 3) for gap in sorted(gaps, reverse=True)[:3]
        ],
    )


def _largest(
    times: dict[str, tuple[float, int]], num_steps: int
) -> list[dict[str, Any]]:
    """Return those with the most microseconds, with their share of all."""
    total = sum(us for us, _ in times.values())
    ranked = sorted(times.items(), key=lambda item: -item[1][0])
    return [
        dict(
            name=name,
            ms=round(us / 1e3 / num_steps, 3),
            calls=round(count / num_steps, 1),
            share=round(us / total, 4),
        )
        for name, (us, count) in ranked[:NUM_LARGEST]
    ]
