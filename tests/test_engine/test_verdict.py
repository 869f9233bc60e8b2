"""Verdicts on statistics that were recorded from runs, good and bad."""

import importlib
import math
from pathlib import Path

import pytest

from swav_plugin.engine.verdict import (
    COLLAPSED,
    OK,
    RULES,
    TOO_EARLY,
    WARN,
    judge,
)

FOLDER = Path(__file__).resolve().parents[2] / 'benchmarks'

NAMES = (
    'loss_share',
    'code_entropy_share',
    'information',
    'effective_share',
    'rank_me_share',
    'embedding_cosine',
    'prototype_cosine_mean',
    'view_distance',
    'view_distance_gray',
)
# Digits: `benchmarks/study_collapses.py`, iterations 85 to 112.
STUDY = {
    'healthy': (0.82, 0.60, 0.73, 1.00, 0.30, 0.44, 0.00, 0.42, 0.40),
    'rate too high': (2.00, 0.76, 1.34, 0.98, 0.08, 0.87, -0.01, 0.42, 0.40),
    'rate too low': (1.26, 0.56, 0.79, 0.62, 0.67, 0.31, 0.00, 0.42, 0.40),
    'identical': (1.00, 1.00, 0.00, 1.00, 0.09, 0.87, 0.00, 1.00, 1.01),
    'batch of 2': (1.00, 0.96, 0.03, 1.00, 0.14, 0.85, 0.00, 0.33, 0.32),
    'not frozen': (0.92, 0.75, 0.49, 0.93, 0.11, 0.92, 0.08, 0.42, 0.40),
    'early queue': (1.54, 0.32, 1.68, 0.47, 0.23, 0.69, 0.01, 0.42, 0.40),
}
# swav_demo_digits.py by epochs of 28 iterations: a run that learns, from its
# worst moment on, and the same with epsilon .05, which is about to get stuck.
DEMO = {
    28: (1.000, 0.915, 0.037, 0.98, 0.28, 0.92, 0.006, 0.4, 0.4),
    56: (0.972, 0.878, 0.085, 1.00, 0.25, 0.90, 0.006, 0.4, 0.4),
    84: (0.898, 0.752, 0.358, 0.99, 0.23, 0.76, 0.005, 0.4, 0.4),
    112: (0.822, 0.640, 0.674, 0.98, 0.22, 0.62, 0.004, 0.4, 0.4),
    644: (0.441, 0.258, 2.250, 0.93, 0.37, 0.03, -0.002, 0.4, 0.4),
}


def facts(row: tuple[float, ...], **more: float) -> dict[str, float]:
    """Give a row its names, and settings that are beside the point."""
    return dict(
        dict.fromkeys(
            (
                'agreement',
                'rank_me',
                'effective_prototypes',
                'stopping_score',
                'dead_prototypes',
                'dead_share',
            ),
            0.0,
        ),
        **dict(zip(NAMES, row)),
        **dict(dict(iteration=112, epsilon=0.03, images_per_norm=16), **more),
    )


@pytest.mark.parametrize(
    'row, more, state, text',
    [
        (STUDY['healthy'], {}, OK, 'loss 0.820 ln K'),
        (STUDY['rate too high'], {}, COLLAPSED, 'lower optim_wrapper'),
        (STUDY['rate too low'], {}, WARN, 'raise optim_wrapper'),
        (STUDY['identical'], {}, COLLAPSED, 'copies among the images'),
        (
            STUDY['batch of 2'],
            dict(images_per_norm=2),
            WARN,
            'train_dataloader.batch_size',
        ),
        (STUDY['not frozen'], {}, WARN, 'freeze_prototypes_iters'),
        (
            STUDY['early queue'],
            dict(queue_overlap=0.59),
            WARN,
            'queue_begin_epoch',
        ),
        *((row, dict(iteration=n), OK, 'loss') for n, row in DEMO.items()),
    ],
)
def test_recorded_runs(
    row: tuple[float, ...], more: dict, state: str, text: str
) -> None:
    verdict = judge(facts(row, **more))
    assert verdict.state == state and text in verdict.text, verdict


@pytest.mark.parametrize(
    'more, text',
    [
        (dict(view_distance=0.9, view_distance_gray=0.8), 'larger crops'),
        (dict(view_distance=0.75, view_distance_gray=0.5), 'weaken the colo'),
        (dict(images_per_norm=2), 'SyncBN'),
        (dict(epsilon=0.05), 'set model.head.epsilon=0.03'),
        ({}, 'lower optim_wrapper.optimizer.lr'),
        (dict(epsilon=0.5), 'set model.head.epsilon=0.05, or 0.03'),
    ],
)
def test_a_run_at_ln_k_is_told_its_cause(more: dict, text: str) -> None:
    stuck = facts((1.0, 0.997, 0.001, 1.0, 0.1, 0.82, 0.0, 0.4, 0.4)) | more
    verdict = judge(stuck)
    assert verdict.state == COLLAPSED and text in verdict.text, verdict
    # With the number that made it.
    assert 'loss_share 1' in verdict.text or 'entropy_share' in verdict.text


def test_the_first_iterations_are_not_judged() -> None:
    stuck = facts(STUDY['identical'], iteration=10)
    assert str(judge(stuck)).startswith(
        'OK, after 10 iterations too early to tell: loss 1.000 ln K'
    )


def test_what_may_pass_is_not_called_ok() -> None:
    """A loss above ln K in the warm-up, before that rule speaks."""
    early = facts(STUDY['rate too low'], iteration=60)
    assert TOO_EARLY in judge(early).text and judge(early).state == OK
    assert judge(early | dict(iteration=100)).state == WARN


def test_a_loss_near_zero_is_no_good_sign_alone() -> None:
    given_away = facts((0.001, 0.01, 0.02, 0.01, 0.02, 1.0, 0.0, 0.4, 0.4))
    verdict = judge(given_away)
    assert verdict.state == WARN and 'copies, borders' in verdict.text


@pytest.mark.parametrize('rank', [0.2499, 0.25, 0.2501])
def test_a_loss_far_above_chance_is_never_ok(rank: float) -> None:
    wrong = facts(STUDY['rate too high']) | dict(rank_me_share=rank)
    assert judge(wrong).state != OK


def test_numbers_that_are_not_there_hold_no_condition() -> None:
    without = facts(STUDY['identical'])
    del without['view_distance_gray']
    assert 'copies' not in judge(without).text
    assert judge(without).state == COLLAPSED


def test_many_prototypes_are_told_without_alarm() -> None:
    many = facts(STUDY['healthy']) | dict(
        dead_prototypes=2515.0, dead_share=0.84
    )
    verdict = judge(many)
    assert verdict.state == OK
    assert '2515 prototypes are nearest to no image' in verdict.text


def test_copies_are_told_before_the_loss_is_stuck() -> None:
    """One photo 600 times, in its third epoch."""
    copies = facts((0.998, 0.98, 0.02, 0.4, 0.2, 0.8, 0.0, 0.98, 0.98))
    verdict = judge(copies | dict(dead_prototypes=60.0, dead_share=0.6))
    assert verdict.state == WARN and 'look for copies' in verdict.text
    assert 'view_distance_gray 0.98' in verdict.text
    # With a worse thing to say, that comes first.
    stuck = copies | dict(loss_share=1.0, information=0.001)
    assert judge(stuck).state == COLLAPSED
    wrong = facts(STUDY['rate too high']) | dict(view_distance_gray=0.98)
    assert judge(wrong).state == COLLAPSED
    assert all(row[8] < 0.95 for k, row in STUDY.items() if k != 'identical')


def test_a_loss_at_chance_is_ok_and_told() -> None:
    """So are healthy runs with 3,000 prototypes after their first epoch."""
    told = 'the loss is still at ln K, which is chance: if it stays there, '
    unused = dict(dead_prototypes=2515.0, dead_share=0.84)
    for share in (0.991, 0.998, 1.0, 1.05):
        verdict = judge(facts(DEMO[28]) | unused | dict(loss_share=share))
        assert verdict.state == OK
        assert f'{told}set model.head.epsilon=0.03' in verdict.text
        assert 'fewer would do' not in verdict.text
    early = facts(STUDY['rate too low'], iteration=60) | unused
    for text in (judge(early).text, judge(facts(DEMO[56])).text):
        assert told not in text and 'fewer would do' not in text


def test_rules_name_statistics_and_keys() -> None:
    known = {*facts(STUDY['healthy']), 'queue_overlap'}
    for rule in RULES:
        assert rule.state in (WARN, COLLAPSED)
        assert {name for name, _, _ in rule.when} <= known
        assert all(sign in '<>' for _, sign, _ in rule.when)
        assert all(math.isfinite(limit) for _, _, limit in rule.when)


def test_a_provoked_collapse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    study = importlib.import_module('study_collapses')
    _, _, verdict = study.train('epsilon too large', num_iters=28)
    assert verdict.state == COLLAPSED and 'epsilon' in verdict.text
    _, found, verdict = study.train('healthy', num_iters=28)
    assert verdict.state == OK, verdict
    # What a cause is told by.
    assert found['view_distance'] < 0.55 and found['view_distance_gray'] < 0.55
