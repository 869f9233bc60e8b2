"""VOC07SVM: its numbers, their protocols, and ranks that share the work."""

import pytest
import torch

from swav_plugin.evaluation import VOC07SVM, FeatureSet, Labels, svm_map
from swav_plugin.evaluation.feature_store import ShardedRows
from tests.distributed import run_on_ranks
from tests.test_evaluation.voc import make_voc


def make_sets() -> tuple[FeatureSet, FeatureSet]:
    train_x, train_y, test_x, test_y = make_voc()
    noise = torch.Generator().manual_seed(0)
    return tuple(
        FeatureSet(
            Labels(name, y, root='data/VOC2007'),
            dict(
                feature4=ShardedRows(
                    [torch.randn(len(x), 5, generator=noise)]
                ),
                feature5=ShardedRows([x]),
            ),
        )
        for name, x, y in (
            ('bank', train_x, train_y),
            ('test', test_x, test_y),
        )
    )


def _evaluate(rank: int) -> list:
    return VOC07SVM([1.0, 0.1], low_shot_k=[2, 5]).evaluate(*make_sets())


def test_every_number_is_named_with_its_protocol() -> None:
    results = _evaluate(0)
    x, test = make_sets()
    full = svm_map(
        x.features['feature5'][:],
        x.labels.values,
        test.features['feature5'][:],
        test.labels.values,
        [1.0, 0.1],
    )
    values = {result.name: result.value for result in results}
    assert list(values) == [
        'feature4/svm_map',
        'feature5/svm_map',
        'svm_map_best_by_test',
        'svm_map_best_by_cv',
        'feature5/svm_k2_map_by_test',
        'feature5/svm_k2_map_by_cv',
        'feature5/svm_k5_map_by_test',
        'feature5/svm_k5_map_by_cv',
    ]
    assert values['feature5/svm_map'] == full.map_cv
    assert values['feature5/svm_map'] > values['feature4/svm_map'] + 5
    sizes = '2 costs, all-point AP, 90 training and 70 test images'
    full_labels = (
        'SVM on all labels, cost of each class by 3-fold cross-validation as '
        f'in mmselfsup, {sizes}'
    )
    by_name = {result.name: result.protocol for result in results}
    assert str(by_name['feature4/svm_map']) == f'feature4, {full_labels}'
    assert str(by_name['svm_map_best_by_cv']) == (
        'feature5, the best feature chosen by cross-validation, ' + full_labels
    )
    assert str(by_name['svm_map_best_by_test']).startswith(
        'feature5, the best feature chosen on the test set as in mmselfsup, '
    )
    low_shot = by_name['feature5/svm_k2_map_by_test']
    assert str(low_shot) == (
        'feature5, SVM on 2 positive images of each class, mean of 5 samples '
        f'(seed 0; {low_shot.lowest:.2f} to {low_shot.highest:.2f}, std '
        f'{low_shot.std:.2f}), cost chosen on the test set as in mmselfsup, '
        + sizes
    )
    mean = values['feature5/svm_k2_map_by_test']
    assert low_shot.lowest < mean < low_shot.highest
    assert 0 < low_shot.std < low_shot.highest - low_shot.lowest
    assert 'on training images of the other samples' in str(
        by_name['feature5/svm_k5_map_by_cv']
    )


def test_protocols_have_fields() -> None:
    results = _evaluate(0)
    rows = {result.name: result.to_dict()['fields'] for result in results}
    sets = dict(
        train_set='data/VOC2007',
        test_set='data/VOC2007',
        num_train_images=90,
        num_test_images=70,
        num_train_unreadable=0,
        num_test_unreadable=0,
        num_costs=2,
    )
    assert rows['feature4/svm_map'] == dict(
        feature='feature4', cost_rule='cv', feature_rule=None, **sets
    )
    for rule in ('test', 'cv'):
        assert rows[f'svm_map_best_by_{rule}'] == dict(
            feature='feature5', cost_rule='cv', feature_rule=rule, **sets
        )
        for k in (2, 5):
            fields = rows[f'feature5/svm_k{k}_map_by_{rule}']
            spread = {
                key: fields.pop(key) for key in ('lowest', 'highest', 'std')
            }
            assert all(value > 0 for value in spread.values())
            assert fields == dict(
                feature='feature5',
                k=k,
                num_samples=5,
                seed=0,
                cost_rule=rule,
                **sets,
            )


def test_one_image_is_not_several() -> None:
    (result,) = [
        result
        for result in VOC07SVM([1.0], low_shot_k=[1]).evaluate(*make_sets())
        if result.name == 'feature5/svm_k1_map_by_cv'
    ]
    assert 'SVM on 1 positive image of each class' in str(result.protocol)


def test_ranks_share_the_work() -> None:
    for of_rank in run_on_ranks(_evaluate, 2):
        assert of_rank == _evaluate(0)


def test_sets_are_checked_before_features_are_made() -> None:
    _, labels, _, _ = make_voc()
    marks, single = Labels('bank set', labels), Labels('s', torch.arange(3))
    evaluator = VOC07SVM(low_shot_k=[2])
    evaluator.check(marks, marks)
    with pytest.raises(ValueError, match='images of s have one class each'):
        evaluator.check(marks, single)
    other = Labels('bank set', labels.clone().fill_diagonal_(7))
    with pytest.raises(ValueError, match=r'bank set are \[-1, 0, 1, 7\]'):
        evaluator.check(other, marks)
    with pytest.raises(ValueError, match='bank set has 3 classes and t 2'):
        evaluator.check(marks, Labels('t', labels[:, :2]))
    with pytest.raises(
        ValueError,
        match='k=40 needs 40 positive images of each class but class 1 has 15',
    ):
        VOC07SVM(low_shot_k=[2, 40]).check(marks, marks)
    few = labels.clone()
    few[2:, 1] = 0
    with pytest.raises(ValueError, match='3 folds need 3 positive images'):
        evaluator.check(Labels('bank set', few), marks)
    with pytest.raises(ValueError, match='num_samples=1; it needs at least 2'):
        VOC07SVM(num_samples=1)
