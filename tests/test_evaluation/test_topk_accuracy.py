"""Accuracies against scikit-learn's, on any number of ranks."""

from unittest import mock

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample
from sklearn.metrics import top_k_accuracy_score
from torch import Tensor

from swav_plugin.evaluation import TopKAccuracy, topk_accuracy
from swav_plugin.evaluation.topk_accuracy import count_ahead
from tests.distributed import run_on_ranks

PROBES = ['feature1/lr0.1', 'feature1/lr1', 'feature5/lr0.1', 'feature5/lr1']


def made_up(num_images: int = 23) -> tuple[Tensor, Tensor]:
    """Scores (N, 4, 9), better from probe to probe, and labels (N,)."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(num_images, 4, 9, generator=generator)
    labels = torch.randint(9, (num_images,), generator=generator)
    for probe in range(4):
        scores[torch.arange(num_images), probe, labels] += probe * 0.7
    return scores, labels


def samples(
    scores: Tensor, labels: Tensor, probes: list[str]
) -> list[DataSample]:
    """Make predictions in the form of a `LinearProbe`."""
    made = []
    for of_image, label in zip(scores, labels):
        sample = DataSample().set_gt_label(label)
        sample.set_field(of_image, 'scores')
        sample.set_field(probes, 'probes', field_type='metainfo')
        made.append(sample)
    return made


def evaluate(rank: int, shares: list[list[int]], size: int) -> dict:
    """The metrics of one rank, whose images are those of its share."""
    metric = Evaluator([TopKAccuracy()])
    every = samples(*made_up(), PROBES)
    own = [every[i] for i in shares[rank]]
    for start in range(0, len(own), 4):
        metric.process(own[start : start + 4])
    return metric.evaluate(size)


def test_accuracies_are_those_of_scikit_learn() -> None:
    scores, labels = made_up()
    found = evaluate(0, [[*range(23)]], 23)
    for place, probe in enumerate(PROBES):
        for top in (1, 5):
            expected = top_k_accuracy_score(
                labels, scores[:, place], k=top, labels=range(9)
            )
            assert found[f'{probe}/top{top}'] == pytest.approx(100 * expected)
    assert len(set(found.values())) > 4
    for feature in ('feature1', 'feature5'):
        ones = {
            rate: found[f'{feature}/{rate}/top1'] for rate in ('lr0.1', 'lr1')
        }
        best = max(ones, key=lambda rate: ones[rate])
        for top in (1, 5):
            assert (
                found[f'{feature}/top{top}_best_by_val']
                == (found[f'{feature}/{best}/top{top}'])
            )
    assert len(found) == 8 + 4


def test_ranks_give_the_accuracies_of_one() -> None:
    """Give ranks unequal shares; the last one has no image."""
    shares = [[*range(0, 23, 2)], [*range(1, 23, 2)], []]
    expected = evaluate(0, [[*range(23)]], 23)
    assert run_on_ranks(evaluate, 3, shares, 23) == [expected] * 3


def test_an_image_counted_twice_is_an_error() -> None:
    with pytest.raises(
        ValueError,
        match='24 images were counted, but the set has 23.*round_up=False',
    ):
        evaluate(0, [[*range(23), 0]], 23)


def test_one_rate_needs_no_best() -> None:
    metric = Evaluator([TopKAccuracy()])
    scores, labels = made_up()
    metric.process(samples(scores[:, :2], labels, ['feature1', 'avgpool']))
    found = metric.evaluate(23)
    assert [*found] == [
        'feature1/top1',
        'feature1/top5',
        'avgpool/top1',
        'avgpool/top5',
    ]
    # A metric is used again after the next epoch.
    metric.process(samples(scores[:, :2], labels, ['feature1', 'avgpool']))
    assert metric.evaluate(23) == found


def test_classifiers_of_mmpretrain() -> None:
    metric = Evaluator([TopKAccuracy()])
    scores, labels = made_up()
    metric.process(
        [
            DataSample().set_gt_label(label).set_pred_score(of_image[3])
            for of_image, label in zip(scores, labels)
        ]
    )
    expected = evaluate(0, [[*range(23)]], 23)
    assert metric.evaluate(23) == {
        f'accuracy/top{top}': expected[f'feature5/lr1/top{top}']
        for top in (1, 5)
    }


def test_ties_and_what_is_no_number() -> None:
    nan, inf = float('nan'), float('inf')
    rows = [
        ([2.0, 2.0, 1.0], 0, 0),
        ([2.0, 2.0, 1.0], 1, 1),
        ([2.0, 2.0, 1.0], 2, 2),
        ([nan, 2.0, 1.0], 1, 1),
        ([nan, 2.0, 1.0], 0, 3),
        ([nan] * 3, 2, 3),
        ([inf, -inf, 0.0], 0, 0),
        ([-inf, -inf, 0.0], 1, 2),
    ]
    scores = torch.tensor([[row] for row, _, _ in rows])
    labels = torch.tensor([label for _, label, _ in rows])
    assert count_ahead(scores, labels)[:, 0].tolist() == [
        ahead for *_, ahead in rows
    ]


def test_the_table() -> None:
    with mock.patch.object(topk_accuracy, 'print_log') as log:
        found = evaluate(0, [[*range(23)]], 23)
    cells = '{:.2f} / {:.2f}'.format(
        found['feature5/lr1/top1'], found['feature5/lr1/top5']
    )
    title, rates, *rows = log.call_args.args[0].split('\n')
    assert 'Top-1 / top-5 in % on 23 images' in title
    assert rates.split() == ['lr0.1', 'lr1']
    assert rows[1].startswith('feature5')
    assert rows[1].endswith(f'{cells} *') and rows[1].count('*') == 1
    assert len(rows) == 2 and len(rows[0]) == len(rows[1])
