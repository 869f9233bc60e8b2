"""Top-1 and top-5 accuracy of one classifier or of many.

N images, P classifiers (probes), Y classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.logging import print_log
from torch import Tensor

from swav_plugin.registry import METRICS

TOPS = (1, 5)


def count_ahead(scores: Tensor, labels: Tensor) -> Tensor:
    """Count the classes that each probe ranks before the true one.

    If classes have equal scores, the lower number comes first. NaN comes
    before any number.

    Args:
        scores: (N, P, Y).
        labels: (N,).

    Returns:
        (N, P) int64, 0 to Y.

    >>> scores = torch.tensor([[[.1, .7, .7], [.2, .5, .3]]])
    >>> count_ahead(scores, torch.tensor([2]))
    tensor([[1, 1]])
    """
    own = scores.gather(
        2, labels[:, None, None].expand(-1, scores.shape[1], 1)
    )
    lower = (
        torch.arange(scores.shape[2], device=scores.device)
        < labels[:, None, None]
    )
    return (~(scores <= own) | ((scores == own) & lower)).sum(2)


@METRICS.register_module()
class TopKAccuracy:
    """Top-1 and top-5 accuracy in %: of a classifier, or of each probe.

    The names are 'accuracy/top1' for mmpretrain's classifiers and
    'feature5/top1' for a `LinearProbe`, or 'feature5/lr0.01/top1' if it has
    several learning rates. Then 'feature5/top1_best_by_val' and
    'feature5/top5_best_by_val' are those of the rate with the highest top-1
    on this very set: the field's convention, and a little too high.

    Hits are counted on each rank and added, so any number of ranks gives the
    same accuracy. The dataloader must give each image once:
    `sampler=dict(type='DefaultSampler', shuffle=False, round_up=False)`.
    """

    # mmengine's Evaluator sets it.
    dataset_meta: dict | None = None

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        """Forget what was counted."""
        self._hits: dict[str, Any] = {}
        self._num_images = 0

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the hits of one batch of predictions."""
        names = data_samples[0].get('probes', ['accuracy'])
        scores = torch.stack(
            [
                sample['scores']
                if 'scores' in sample
                else sample['pred_score'][None]
                for sample in data_samples
            ]
        )
        labels = torch.cat([sample['gt_label'] for sample in data_samples])
        ahead = count_ahead(scores, labels.to(scores.device))
        hits = torch.stack([(ahead < top).sum(0) for top in TOPS], dim=1)
        for probe, of_probe in zip(names, hits):
            self._hits[probe] = self._hits.get(probe, 0) + of_probe
        self._num_images += len(data_samples)

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the accuracies of all probes over all ranks.

        Args:
            size: Number of images in the set.

        Raises:
            ValueError: Images were counted twice, or not at all.
        """
        own = {
            probe: of_probe.tolist() for probe, of_probe in self._hits.items()
        }
        ranks = all_gather_object((self._num_images, own))
        self._reset()
        num_images = sum(number for number, _ in ranks)
        if num_images != size:
            raise ValueError(
                f'{num_images} images were counted, but the set has {size}: '
                'some were given to two ranks. Set sampler=dict(type='
                "'DefaultSampler', shuffle=False, round_up=False) in the "
                'dataloader.'
            )
        total: dict[str, list[int]] = {}
        for _, hits in ranks:
            for probe, of_probe in hits.items():
                before = total.get(probe, [0] * len(TOPS))
                total[probe] = [a + b for a, b in zip(before, of_probe)]
        accuracies = {
            probe: tuple(100 * count / size for count in hits)
            for probe, hits in total.items()
        }
        best = best_by_feature(accuracies)
        print_log(
            f'Top-1 / top-5 in % on {size} images, by learning rate:\n'
            + format_table(accuracies, best),
            logger='current',
        )
        metrics = {
            f'{probe}/top{top}': value
            for probe, values in accuracies.items()
            for top, value in zip(TOPS, values)
        }
        for feature, probe in best.items():
            if probe != feature:
                for top, value in zip(TOPS, accuracies[probe]):
                    metrics[f'{feature}/top{top}_best_by_val'] = value
        return metrics


def best_by_feature(accuracies: dict[str, tuple]) -> dict[str, str]:
    """Find the probe with the highest top-1 of each feature.

    The first one, if several are equally good.

    >>> best_by_feature({'feature5/lr0.1': (60., 80.),
    ...                  'feature5/lr1': (61., 79.)})
    {'feature5': 'feature5/lr1'}
    """
    best: dict[str, str] = {}
    for probe in accuracies:
        feature = probe.partition('/')[0]
        champion = best.setdefault(feature, probe)
        if accuracies[probe][0] > accuracies[champion][0]:
            best[feature] = probe
    return best


def format_table(accuracies: dict[str, tuple], best: dict[str, str]) -> str:
    """Lay accuracies out: a row for each feature, a column for each rate.

    >>> print(format_table({'feature5/lr0.1': (60., 80.),
    ...                     'feature5/lr1': (61., 79.)},
    ...                    {'feature5': 'feature5/lr1'}))
                        lr0.1               lr1
    feature5    60.00 / 80.00     61.00 / 79.00 *
    """
    rates = list(
        dict.fromkeys(probe.partition('/')[2] for probe in accuracies)
    )
    lines = [' ' * 9 + ''.join(f'{rate:>16}  ' for rate in rates)]
    for feature, champion in best.items():
        line = f'{feature:<9}'
        for rate in rates:
            probe = f'{feature}/{rate}' if rate else feature
            cell = '{:.2f} / {:.2f}'.format(*accuracies[probe])
            is_best = probe == champion and len(rates) > 1
            line += f'{cell:>16}' + (' *' if is_best else '  ')
        lines.append(line)
    return '\n'.join(line.rstrip() for line in lines if line.strip())
