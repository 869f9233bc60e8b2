"""VOC07SVM: the evaluator that measures features with linear SVMs."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.logging import print_log
from torch import Tensor

from swav_plugin.engine.results import Result
from swav_plugin.registry import METRICS

from .feature_store import FeatureProtocol, FeatureSet, Labels
from .svm import (
    COSTS,
    FullResult,
    LowShotResult,
    gram_matrices,
    low_shot_map_of_grams,
    svm_map,
)
from .svm_samples import PRESENT, check_counts, draw_samples


@dataclass(frozen=True)
class SVMProtocol(FeatureProtocol):
    """Protocol of the mAP of SVMs on all labels.

    Args:
        num_costs: How many there were to choose from.
        cost_rule: 'cv': by 3-fold cross-validation, for each class.
        feature_rule: How `feature` was chosen from several, on the 'test' set
            or by 'cv'; None if it was not.
    """

    num_costs: int
    cost_rule: str = 'cv'
    feature_rule: str | None = None

    def __str__(self) -> str:
        feature = self.feature
        if self.feature_rule is not None:
            how = dict(
                test='chosen on the test set as in mmselfsup',
                cv='chosen by cross-validation',
            )[self.feature_rule]
            feature += f', the best feature {how}'
        return (
            f'{feature}, SVM on all labels, cost of each class by 3-fold '
            f'cross-validation as in mmselfsup, {self.num_costs} costs, '
            f'all-point AP, {self.num_train_images} training and '
            f'{self.num_test_images} test images{self.unreadable}'
        )


@dataclass(frozen=True)
class LowShotProtocol(FeatureProtocol):
    """Protocol of the mAP of SVMs on a few labels, a mean of samples.

    Args:
        k: Positive images of each class.
        num_samples: Drawn independently.
        seed: Seed of the samples.
        lowest: mAP of the worst sample in %.
        highest: mAP of the best sample in %.
        std: Standard deviation over the samples, in %.
        num_costs: Number of candidate costs.
        cost_rule: 'test': the cost that is best on the test set; 'cv': on
            training images of the other samples.
    """

    k: int
    num_samples: int
    seed: int
    lowest: float
    highest: float
    std: float
    num_costs: int
    cost_rule: str

    def __str__(self) -> str:
        how = dict(
            test='cost chosen on the test set as in mmselfsup',
            cv='cost chosen on training images of the other samples',
        )[self.cost_rule]
        return (
            f'{self.feature}, SVM on {self.k} positive '
            f'image{"s" * (self.k > 1)} of each class, mean of '
            f'{self.num_samples} samples (seed {self.seed}; '
            f'{self.lowest:.2f} to {self.highest:.2f}, std {self.std:.2f}), '
            f'{how}, {self.num_costs} costs, all-point AP, '
            f'{self.num_train_images} training and {self.num_test_images} '
            f'test images{self.unreadable}'
        )


@METRICS.register_module()
class VOC07SVM:
    """Compute the mAP of linear SVMs with all labels of VOC07, and with few.

    Every feature is measured with all labels; low-shot SVMs only use the
    feature that is best in cross-validation. Ranks share the work.

    Args:
        costs: Candidate costs of the SVMs.
        low_shot_k: Positive images of each class; empty for none.
        num_samples: Low-shot samples for each k, >= 2.
        seed: Seed of the samples.
        features: Which of the loop's features; None for all.

    Source: see `svm_map` and `low_shot_map`.
    """

    def __init__(
        self,
        costs: Sequence[float] = COSTS,
        low_shot_k: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 96),
        num_samples: int = 5,
        seed: int = 0,
        features: Sequence[str] | None = None,
    ) -> None:
        if num_samples < 2:
            raise ValueError(
                f'VOC07SVM got num_samples={num_samples}; it needs at least '
                '2, since the cost for one is chosen on the others.'
            )
        self.costs = costs
        self.low_shot_k = low_shot_k
        self.num_samples = num_samples
        self.seed = seed
        self.features = features

    def check(self, bank: Labels, test: Labels) -> None:
        """Refuse sets that can't be evaluated, before features are made.

        Raises:
            ValueError: Labels are not marks for each class, or a class has
                too few images.
        """
        for labels in (bank, test):
            labels.check_several()
        if bank.num_classes != test.num_classes:
            raise ValueError(
                f'{bank.name} has {bank.num_classes} classes and {test.name} '
                f'{test.num_classes}; both need the same.'
            )
        check_counts((bank.values == PRESENT).sum(0), 3, '3 folds need')
        check_counts((test.values == PRESENT).sum(0), 1, 'the test needs')
        for k in self.low_shot_k:
            draw_samples(bank.values, k, 1, self.seed)

    def evaluate(self, bank: FeatureSet, test: FeatureSet) -> list[Result]:
        """Return mAP in %, for each feature and then for each k."""
        full = self._full_maps(bank, test)

        def protocol(feature: str, rule: str | None = None) -> SVMProtocol:
            return SVMProtocol.of(
                feature,
                bank,
                test,
                num_costs=len(self.costs),
                feature_rule=rule,
            )

        results = [
            Result(f'{feature}/svm_map', result.map_cv, protocol(feature))
            for feature, result in full.items()
        ]
        by_cv = max(full, key=lambda feature: full[feature].map_of_folds)
        if len(full) > 1:
            by_test = max(full, key=lambda feature: full[feature].map_cv)
            results += [
                Result(
                    f'svm_map_best_by_{rule}',
                    full[feature].map_cv,
                    protocol(feature, rule),
                )
                for rule, feature in (('test', by_test), ('cv', by_cv))
            ]
        return results + self._low_shot_results(bank, test, by_cv)

    def _full_maps(
        self, bank: FeatureSet, test: FeatureSet
    ) -> dict[str, FullResult]:
        """Measure each feature with all labels."""

        def measure(feature: str) -> FullResult:
            return svm_map(
                bank.features[feature][:],
                bank.labels.values,
                test.features[feature][:],
                test.labels.values,
                self.costs,
            )

        features = list(self.features or test.features)
        return dict(zip(features, _shared_by_ranks(measure, features)))

    def _low_shot_results(
        self, bank: FeatureSet, test: FeatureSet, feature: str
    ) -> list[Result]:
        """Measure one feature with few labels, for each k."""

        @functools.cache  # a rank without a k needs none
        def matrices() -> tuple[Tensor, Tensor]:
            return gram_matrices(
                bank.features[feature][:], test.features[feature][:]
            )

        def measure(k: int) -> LowShotResult:
            return low_shot_map_of_grams(
                *matrices(),
                bank.labels.values,
                test.labels.values,
                k,
                self.costs,
                self.num_samples,
                self.seed,
            )

        measured = _shared_by_ranks(measure, self.low_shot_k)
        return [
            self._low_shot_result(bank, test, feature, k, rule, maps)
            for k, result in zip(self.low_shot_k, measured)
            for rule, maps in (
                ('test', result.maps_by_test),
                ('cv', result.maps_by_cv),
            )
        ]

    def _low_shot_result(
        self,
        bank: FeatureSet,
        test: FeatureSet,
        feature: str,
        k: int,
        rule: str,
        maps: Tensor,
    ) -> Result:
        """Name the mean of the maps of all samples, (number of samples,)."""
        protocol = LowShotProtocol.of(
            feature,
            bank,
            test,
            k=k,
            num_samples=self.num_samples,
            seed=self.seed,
            lowest=float(maps.min()),
            highest=float(maps.max()),
            std=float(maps.std()),
            num_costs=len(self.costs),
            cost_rule=rule,
        )
        name = f'{feature}/svm_k{k}_map_by_{rule}'
        return Result(name, float(maps.mean()), protocol)


def _shared_by_ranks(
    work: Callable[[Any], Any], items: Sequence[Any]
) -> list[Any]:
    """Return the results of all items, in order; each is one rank's work."""
    own = []
    for i in range(get_rank(), len(items), get_world_size()):
        begin = time.monotonic()
        own.append((i, work(items[i])))
        print_log(
            f'SVMs for {items[i]}: {time.monotonic() - begin:.0f} s', 'current'
        )
    everything = [pair for part in all_gather_object(own) for pair in part]
    return [result for _, result in sorted(everything, key=lambda p: p[0])]
