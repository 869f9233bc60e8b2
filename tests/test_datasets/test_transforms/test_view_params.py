"""The draws have torchvision's distributions, and depend on nothing else."""

import importlib.util
import math
from collections import Counter
from itertools import permutations
from types import ModuleType

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from scipy import stats

from swav_plugin.compat import jit
from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.transforms import (
    ColorJitter,
    GaussianBlur,
    MultiCrop,
    RandomResizedCrop,
    view_params,
)
from swav_plugin.datasets.transforms.view_params import (
    ADJUSTMENTS,
    AMOUNT,
    BRIGHTNESS,
    CONTRAST,
    FLIP,
    GRAYSCALE,
    HEIGHT,
    HUE,
    LEFT,
    NOTHING,
    NUM_PARAMS,
    ORDER,
    SATURATION,
    SIGMA,
    SIZE,
    TOP,
    WIDTH,
    Recipe,
    draw_view_params,
)

NUM_DRAWS = 100_000
KEY = SampleKey(5, epoch=0, seed=0)
# Fixed seeds: a test below either always passes or never. If it was changed
# to other numbers from the right distribution, it fails once in 1,000 times.
MIN_P = 1e-3


def recipe(
    num_views: int,
    size: int = 96,
    ratios: tuple[float, float] = (0.05, 0.14),
    **arguments: object,
) -> Recipe:
    """SwAV's recipe for views of one size."""
    return MultiCrop(
        [num_views], [size], [ratios], on_device=True, **arguments
    ).recipe  # type: ignore[arg-type]


# So large that all boxes fit and rounding to whole pixels does not show.
HUGE = 300_000, 400_000


def draws(
    height: int = HUGE[0], width: int = HUGE[1], **arguments: object
) -> np.ndarray:
    """(NUM_DRAWS, NUM_PARAMS) rows, all in one call."""
    return draw_view_params(KEY, height, width, recipe(NUM_DRAWS, **arguments))  # type: ignore[arg-type]


@pytest.fixture(scope='module')
def rows() -> np.ndarray:
    """Rows of the small views."""
    return draws()


def check_uniform(values: np.ndarray, low: float, high: float) -> None:
    """Kolmogorov-Smirnov test against U(low, high)."""
    rounding = 1e-4 * (high - low)
    assert low - rounding <= values.min() and values.max() <= high + rounding
    uniform = stats.uniform(low, high - low)
    assert stats.kstest(values, uniform.cdf).pvalue > MIN_P


def check_share(is_done: np.ndarray, prob: float) -> None:
    """Two-sided binomial test."""
    num = int(np.sum(is_done))
    assert stats.binomtest(num, len(is_done), prob).pvalue > MIN_P


def test_area_and_aspect(rows: np.ndarray) -> None:
    height, width = rows[:, HEIGHT], rows[:, WIDTH]
    check_uniform(height * width / math.prod(HUGE), 0.05, 0.14)
    check_uniform(np.log(width / height), math.log(3 / 4), math.log(4 / 3))


def test_position(rows: np.ndarray) -> None:
    # Uniform over the whole positions that fit, both ends included.
    for start, side, whole in ((TOP, HEIGHT, HUGE[0]), (LEFT, WIDTH, HUGE[1])):
        num_positions = whole - rows[:, side] + 1
        assert rows[:, start].min() >= 0
        assert (rows[:, start] < num_positions).all()
        check_uniform((rows[:, start] + 0.5) / num_positions, 0, 1)


def test_all_positions_are_equally_likely() -> None:
    boxes = draws(7, 9, ratios=(0.5, 0.5), aspect_ratio_range=(1.0, 1.0))
    assert (boxes[:, [HEIGHT, WIDTH]] == 6).all()  # sqrt(31.5) rounded
    positions = Counter(map(tuple, boxes[:, [TOP, LEFT]]))
    assert len(positions) == 2 * 4
    assert stats.chisquare(list(positions.values())).pvalue > MIN_P


@pytest.mark.parametrize(
    'height, width, ratios',
    [
        (375, 500, (0.14, 1.0)),
        (375, 500, (0.05, 0.14)),
        (500, 333, (0.08, 1.0)),
        (160, 160, (0.14, 1.0)),
        (120, 1000, (0.14, 1.0)),
        (5, 7, (0.14, 1.0)),
        (1000, 90, (0.5, 1.0)),
    ],
)
def test_boxes_are_distributed_as_torchvisions(
    height: int, width: int, ratios: tuple[float, float]
) -> None:
    ours = draws(height, width, ratios=ratios)[:, TOP : WIDTH + 1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        canvas = torch.empty(3, height, width)
        theirs = np.array(
            [
                T.RandomResizedCrop.get_params(
                    canvas, list(ratios), [3 / 4, 4 / 3]
                )
                for _ in range(5000)
            ]
        )
    for one, other in zip(box_statistics(ours), box_statistics(theirs)):
        assert stats.ks_2samp(one, other, method='asymp').pvalue > MIN_P


def box_statistics(boxes: np.ndarray) -> list[np.ndarray]:
    """Area, aspect, position and center of (N, 4) boxes."""
    top, left, height, width = boxes.T
    return [
        height * width,
        width / height,
        top,
        left,
        top + height / 2,
        left + width / 2,
    ]


@pytest.mark.parametrize(
    'height, width',
    [(10, 1000), (1000, 10), (1, 50), (50, 1), (1, 1), (90, 121)],
)
def test_box_that_never_fits_is_the_central_one(
    height: int, width: int
) -> None:
    # More than the whole area: torchvision then falls back, too.
    expected = T.RandomResizedCrop.get_params(
        torch.empty(3, height, width), [4.0, 4.0], [3 / 4, 4 / 3]
    )
    too_large = recipe(1)._replace(crop_ratio_ranges=np.full((1, 2), 4.0))
    (row,) = draw_view_params(KEY, height, width, too_large)
    assert tuple(row[TOP : WIDTH + 1]) == expected


def test_thin_image_has_at_least_one_pixel() -> None:
    (row,) = draw_view_params(
        KEY,
        300,
        1,
        recipe(1, ratios=(0.5, 1.0), aspect_ratio_range=(3.0, 4.0)),
    )
    assert tuple(row[TOP : WIDTH + 1]) == (149, 0, 1, 1)


@pytest.mark.parametrize(
    'height, width', [(1, 1), (1, 12000), (12000, 1), (2, 3), (9000, 12000)]
)
def test_boxes_lie_within_the_image(height: int, width: int) -> None:
    boxes = draws(
        height, width, ratios=(0.01, 1.0), aspect_ratio_range=(0.1, 10.0)
    )[:, TOP : WIDTH + 1]
    assert (boxes == boxes.round()).all()
    top, left, box_height, box_width = boxes.T
    assert min(top.min(), left.min()) >= 0
    assert min(box_height.min(), box_width.min()) >= 1
    assert (top + box_height).max() <= height
    assert (left + box_width).max() <= width


def test_amounts_are_uniform(rows: np.ndarray) -> None:
    for adjustment, low, high in (
        (BRIGHTNESS, 0.2, 1.8),
        (CONTRAST, 0.2, 1.8),
        (SATURATION, 0.2, 1.8),
        (HUE, -0.2, 0.2),
    ):
        check_uniform(rows[:, AMOUNT + adjustment], low, high)


def test_strengths_above_one_end_at_zero() -> None:
    amounts = draws(brightness=1.5, hue=0.5)[:, AMOUNT : AMOUNT + 4]
    check_uniform(amounts[:, BRIGHTNESS], 0, 2.5)
    check_uniform(amounts[:, HUE], -0.5, 0.5)


def test_all_orders_are_equally_likely(rows: np.ndarray) -> None:
    order = rows[:, ORDER : ORDER + 4]
    is_jittered = order[:, 0] != NOTHING
    assert (order[~is_jittered] == NOTHING).all()
    counts = Counter(map(tuple, order[is_jittered]))
    assert set(counts) == set(permutations(range(4)))
    assert stats.chisquare(list(counts.values())).pvalue > MIN_P


def test_adjustments_of_strength_zero_are_left_out() -> None:
    order = draws(contrast=0.0, hue=0.0)[:, ORDER : ORDER + 4]
    counts = Counter(map(tuple, order[order[:, 0] != NOTHING]))
    assert set(counts) == {
        (BRIGHTNESS, SATURATION, NOTHING, NOTHING),
        (SATURATION, BRIGHTNESS, NOTHING, NOTHING),
    }
    assert stats.chisquare(list(counts.values())).pvalue > MIN_P


def test_probabilities(rows: np.ndarray) -> None:
    check_share(rows[:, FLIP], 0.5)
    check_share(rows[:, ORDER] != NOTHING, 0.8)
    check_share(rows[:, GRAYSCALE], 0.2)
    check_share(rows[:, SIGMA] > 0, 0.5)
    others = draws(
        flip_prob=0.3, jitter_prob=0.6, grayscale_prob=0.9, blur_prob=0.1
    )
    check_share(others[:, FLIP], 0.3)
    check_share(others[:, ORDER] != NOTHING, 0.6)
    check_share(others[:, GRAYSCALE], 0.9)
    check_share(others[:, SIGMA] > 0, 0.1)


def test_sigma_is_uniform(rows: np.ndarray) -> None:
    sigmas = rows[:, SIGMA]
    check_uniform(sigmas[sigmas > 0], 0.1, 2.0)


def parts(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return what each random number of (N, NUM_PARAMS) rows decides.

    Amounts are drawn whether they are used or not.
    """
    height, width = rows[:, HEIGHT], rows[:, WIDTH]
    return dict(
        area=height * width,
        aspect=width / height,
        top=rows[:, TOP] / (HUGE[0] - height),
        left=rows[:, LEFT] / (HUGE[1] - width),
        flip=rows[:, FLIP],
        jitter=rows[:, ORDER] != NOTHING,
        brightness=rows[:, AMOUNT],
        contrast=rows[:, AMOUNT + 1],
        saturation=rows[:, AMOUNT + 2],
        hue=rows[:, AMOUNT + 3],
        grayscale=rows[:, GRAYSCALE],
        blur=rows[:, SIGMA] > 0,
    )


def test_parts_are_independent(rows: np.ndarray) -> None:
    everything = parts(rows)
    check_uncorrelated(list(everything.values()))
    # Among the jittered and blurred also the order and sigma.
    is_both = everything.pop('jitter') & everything.pop('blur')
    check_uncorrelated(
        [
            rows[is_both, SIGMA],
            rows[is_both, ORDER] == HUE,
            *(part[is_both] for part in everything.values()),
        ]
    )


def check_uncorrelated(columns: list[np.ndarray]) -> None:
    """Spearman's correlations are those of independent columns."""
    ranks = np.array([stats.rankdata(column) for column in columns])
    correlation = np.corrcoef(ranks) - np.eye(len(columns))
    # 4.5 standard deviations, for up to a thousand pairs.
    assert abs(correlation).max() < 4.5 / math.sqrt(ranks.shape[1])


def test_views_samples_epochs_and_seeds_are_independent() -> None:
    # As in a run: a key for each sample.
    two, indices = recipe(2), range(NUM_DRAWS // 20)
    columns: list[np.ndarray] = []
    for epoch, seed in ((0, 31), (1, 31), (0, 32)):
        views = np.array(
            [
                draw_view_params(SampleKey(index, epoch, seed), *HUGE, two)
                for index in indices
            ]
        )
        first, second = views.transpose(1, 0, 2)
        for rows in (first, second, np.roll(first, 1, axis=0)):
            drawn = parts(rows)
            columns += [
                drawn[name]
                for name in ('area', 'top', 'flip', 'jitter', 'hue', 'blur')
            ]
    check_uncorrelated(columns)


def test_separate_transforms_have_the_same_distributions() -> None:
    rng, num = np.random.default_rng(1), 5000
    rows = draws(375, 500)
    crop, blur = RandomResizedCrop(96, (0.05, 0.14)), GaussianBlur()
    jitter = ColorJitter(0.8, 0.8, 0.8, 0.2)
    boxes = np.array([crop.draw(rng, 375, 500) for _ in range(num)])
    factors = [jitter.draw(rng, 8, 8) for _ in range(num)]
    sigmas = [blur.draw(rng, 8, 8) for _ in range(num)]
    pairs = [
        *zip(box_statistics(boxes), box_statistics(rows[:, TOP : WIDTH + 1])),
        (sigmas, rows[rows[:, SIGMA] > 0, SIGMA]),
    ]
    pairs += [
        ([dict(drawn)[name] for drawn in factors], rows[:, AMOUNT + column])
        for column, name in enumerate(ADJUSTMENTS)
    ]
    names = list(ADJUSTMENTS)
    first = rows[rows[:, ORDER] != NOTHING, ORDER]
    pairs.append(([names.index(drawn[0][0]) for drawn in factors], first))
    for one, other in pairs:
        assert stats.ks_2samp(one, other, method='asymp').pvalue > MIN_P


def test_a_row_depends_on_its_view_alone() -> None:
    eight = MultiCrop(
        [2, 6], [224, 96], [(0.14, 1.0), (0.05, 0.14)], on_device=True
    ).recipe
    rows = draw_view_params(KEY, 375, 500, eight)
    for num in (1, 2, 5):
        fewer = eight._replace(
            sizes=eight.sizes[:num],
            crop_ratio_ranges=eight.crop_ratio_ranges[:num],
        )
        np.testing.assert_array_equal(
            draw_view_params(KEY, 375, 500, fewer),
            rows[:num],
        )
    # Other boxes in the other views leave this one as it is.
    ratios = eight.crop_ratio_ranges.copy()
    ratios[:7] = 4.0  # never fits
    others = draw_view_params(
        KEY,
        375,
        500,
        eight._replace(crop_ratio_ranges=ratios),
    )
    np.testing.assert_array_equal(others[7], rows[7])
    assert not np.array_equal(others[0], rows[0])


def without_numba(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load view_params a second time, as plain Python."""
    monkeypatch.setattr(jit, 'NO_NUMBA', 'not installed')
    spec = importlib.util.spec_from_file_location(
        'swav_plugin.datasets.transforms.plain', view_params.__file__
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(jit.NO_NUMBA is not None, reason='nothing is compiled')
@pytest.mark.parametrize(
    'height, width, ratios',
    [
        (375, 500, (0.05, 1.0)),
        (3, 400, (0.05, 1.0)),
        (1, 1, (0.05, 1.0)),
        (9000, 12000, (0.9, 1.0)),
    ],
)
def test_rows_are_the_same_without_numba(
    monkeypatch: pytest.MonkeyPatch,
    height: int,
    width: int,
    ratios: tuple[float, float],
) -> None:
    plain = without_numba(monkeypatch)
    assert not hasattr(plain._fill_rows, 'py_func')
    few = recipe(2000, ratios=ratios)
    np.testing.assert_array_equal(
        plain.draw_view_params(KEY, height, width, few),
        draw_view_params(KEY, height, width, few),
    )


def test_stored_numbers_stay() -> None:
    # Golden values of this function: views of a run must not change with a
    # release, or a resumed run is a different run.
    rows = draw_view_params(
        SampleKey(7, epoch=2, seed=31),
        375,
        500,
        recipe(3),
    )
    golden = np.array(
        [
            [
                96,
                224,
                49,
                140,
                176,
                1,
                BRIGHTNESS,
                HUE,
                CONTRAST,
                SATURATION,
                0.98415741,
                0.70630008,
                0.74311022,
                0.094143578,
                0,
                1.1624558,
            ],
            [
                96,
                109,
                194,
                169,
                142,
                1,
                BRIGHTNESS,
                SATURATION,
                HUE,
                CONTRAST,
                0.92476076,
                1.0284516,
                0.72468787,
                -0.11158964,
                0,
                1.5586156,
            ],
            [
                96,
                29,
                194,
                96,
                114,
                0,
                CONTRAST,
                BRIGHTNESS,
                SATURATION,
                HUE,
                1.1078044,
                1.0074587,
                1.6142875,
                0.045509882,
                0,
                0,
            ],
        ]
    )
    assert golden.shape[1] == NUM_PARAMS
    assert (rows[:, SIZE] == golden[:, SIZE]).all()
    np.testing.assert_allclose(rows, golden, rtol=1e-7)
