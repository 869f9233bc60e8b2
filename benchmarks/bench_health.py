"""What watching a run costs: training steps with and without HealthHook.

    python benchmarks/bench_health.py [--epochs 10]

Trains the network of `swav_demo_digits.py` on noise, epochs of 28 steps with
and without statistics in turn, read and judged as often as in its recipe.
Prints processor seconds, which a busy machine changes least.
"""

import argparse
import time
from statistics import median

import torch
from common import ROOT
from mmengine.config import Config
from mmengine.registry import init_default_scope

from swav_plugin.engine.verdict import judge
from swav_plugin.models import SwAV
from swav_plugin.models.health import stopping_score, summarize
from swav_plugin.registry import MODELS

STEPS, INTERVAL = 28, 10


def run_epoch(
    model: SwAV, optimizer: torch.optim.Optimizer, is_watched: bool
) -> float:
    """Train for an epoch; return the processor seconds it took."""
    views = [torch.randn(64, 3, size, size) for size in (32, 32, 16, 16)]
    head = model.head
    start = time.process_time()
    statistics = head.start_statistics() if is_watched else None
    head.statistics = statistics
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        model(views, mode='loss')['loss'].backward()
        is_due = step % INTERVAL == 0 or step == STEPS
        if statistics is not None and is_due:
            found = [each.grad for each in model.parameters()]
            statistics.add_gradients([g for g in found if g is not None])
        optimizer.step()
        if statistics is not None and is_due:
            head.collect_statistics()
            facts = summarize(statistics.window)
            statistics.end_window()
    if statistics is not None:
        facts = summarize(statistics.recent) | head.prototype_cosines()
        facts['stopping_score'] = stopping_score(facts)
        judge(facts | dict(iteration=STEPS, epsilon=0.03))
    return time.process_time() - start


def main() -> None:
    """Print the median of the ratios of epochs with and without."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--epochs', type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    init_default_scope('swav_plugin')
    config = ROOT / 'configs/selfsup/swav/swav_demo_digits.py'
    model = MODELS.build(Config.fromfile(str(config)).model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    run_epoch(model, optimizer, is_watched=True)  # allocates
    pairs = []
    for number in range(args.epochs):
        # In turn first and second.
        order = (True, False) if number % 2 else (False, True)
        took = {each: run_epoch(model, optimizer, each) for each in order}
        pairs.append((took[True], took[False]))
    ratios = [watched / alone for watched, alone in pairs]
    print(
        f'a step: {1e3 / STEPS * median(a for _, a in pairs):.1f} ms, watched '
        f'{1e3 / STEPS * median(w for w, _ in pairs):.1f} ms; ratio '
        f'{median(ratios):.4f} [{min(ratios):.4f}-{max(ratios):.4f}] over '
        f'{args.epochs} pairs of epochs'
    )


if __name__ == '__main__':
    main()
