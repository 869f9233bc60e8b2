"""What every benchmark shares: interleaved timing, and a record of where."""
import datetime
import json
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

RESULTS = Path(__file__).parent / 'results'


def interleave(
    steps: dict[str, Callable[[], object]], rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Time every step once a round, so that a busy machine hurts all alike.

    Returns:
        Milliseconds of each round.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(warmup + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_number >= warmup:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


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
                speedup_range=[round(min(ratios), 2),
                               round(max(ratios), 2)]))
    return rows


def hardware() -> dict[str, object]:
    """Processor, versions, date and commit."""
    cpu = platform.processor()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.exists():
        cpu = next((line.split(':')[1].strip()
                    for line in cpuinfo.read_text().splitlines()
                    if line.startswith('model name')), cpu)
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'],
                            capture_output=True,
                            text=True,
                            cwd=RESULTS.parent).stdout.strip()
    return dict(
        cpu=cpu,
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
        date=datetime.date.today().isoformat(),
        commit=commit)


def write_json(name: str, content: dict) -> Path:
    """Save to results/<name>_<date>.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f'{name}_{datetime.date.today().isoformat()}.json'
    path.write_text(json.dumps(content, indent=2) + '\n')
    return path
