"""Streams: the layout of random numbers, and that none shifts another."""

from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest

from swav_plugin.compat import jit
from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.transforms import (
    ColorJitter,
    GaussianBlur,
    MultiView,
    RandomFlip,
    RandomGrayscale,
    RandomResizedCrop,
    RandomTransform,
    view_params,
)
from swav_plugin.datasets.transforms.streams import (
    FIRST_VIEW,
    OUTSIDE_VIEWS,
    Streams,
    fill_stream,
    kind_number,
    philox,
)

KEY = SampleKey(7, epoch=2, seed=31)
# The first two words of streams of KEY. They were computed with NumPy 2.4 as
#     np.random.Philox(counter=[0, view, index, epoch], key=[seed, kind])
# where `kind` is zlib.crc32 of the name. They must never change, or a resumed
# run is a different run.
LAYOUT = {
    ('RandomResizedCrop', 1): (0x20589C842A0653E5, 0xE78DCDB0E7F1EACC),
    ('RandomResizedCrop', 2): (0xE805938CBCFF6195, 0xDF28FF845E21F491),
    ('RandomFlip', 1): (0x48CB2A6FB327FB71, 0x20D98106BC86EAA8),
    ('RandomFlip', 2): (0x5171E0DBA5A9BD9E, 0x618CA6EA9F99D2E2),
    ('ColorJitter', 1): (0x424518C7CF93B1C2, 0x7D77166EA1122640),
    ('ColorJitter', 2): (0x8C968E689EE26A53, 0x73F63363D00751E4),
    ('RandomGrayscale', 1): (0x476AC5628B083038, 0x9E3169E98458BB28),
    ('RandomGrayscale', 2): (0x73549263A5A09E34, 0x4048A3C3B82FB954),
    ('GaussianBlur', 1): (0x02D61D39E05244D2, 0x8F26E56C4EE0F376),
    ('GaussianBlur', 2): (0x2B5728C199617F63, 0xC4877DE7EBCDCE02),
    ('replacement', 0): (0x5C78CD02DC88F4C9, 0x59EFB54B45CC26CB),
    ('global generators', 0): (0xDFDC93576BE26D52, 0x6D27020A697EDBEB),
}
needs_numba = pytest.mark.skipif(
    jit.NO_NUMBA is not None, reason=f'no numba: {jit.NO_NUMBA}'
)


def test_layout() -> None:
    assert (OUTSIDE_VIEWS, FIRST_VIEW) == (0, 1)
    for (name, view), words in LAYOUT.items():
        rng = Streams(KEY, view).next(name)
        assert tuple(rng.bit_generator.random_raw(2).tolist()) == words


@needs_numba
def test_layout_compiled() -> None:
    for (name, view), words in LAYOUT.items():
        numbers = np.empty(2)
        fill_stream(
            numbers, KEY.seed, KEY.epoch, int(KEY), view, kind_number(name)
        )
        assert numbers.tolist() == [(word >> 11) / 2**53 for word in words]


@pytest.mark.parametrize('has_numba', [False, True])
def test_layout_of_the_draws(has_numba: bool) -> None:
    """Check that a view takes the right numbers of each stream, in order."""
    if has_numba and jit.NO_NUMBA is not None:
        pytest.skip('no numba')
    tables = []

    def keep(params: np.ndarray, numbers: np.ndarray, *_: object) -> None:
        tables.append(numbers)

    with (
        mock.patch.object(jit, 'NO_NUMBA', None if has_numba else 'off'),
        mock.patch.object(view_params, '_fill_rows', keep),
    ):
        recipe = mock.Mock(sizes=np.array([224, 96]))
        view_params.draw_view_params(KEY, 375, 500, recipe)
    (table,) = tables
    for view, numbers in enumerate(table):
        expected = []
        for name, num in (
            ('RandomResizedCrop', 41),
            ('RandomFlip', 1),
            ('ColorJitter', 9),
            ('RandomGrayscale', 1),
            ('GaussianBlur', 2),
        ):
            words = LAYOUT[name, FIRST_VIEW + view]
            philox = np.random.Philox(
                counter=np.array([0, 1 + view, 7, 2], np.uint64),
                key=np.array([31, kind_number(name)], np.uint64),
            )
            stream = np.random.Generator(philox).random(num)
            assert stream[0] == (words[0] >> 11) / 2**53
            expected += stream.tolist()
        assert numbers.tolist() == expected


@needs_numba
def test_compiled_generator_is_numpys() -> None:
    rng = np.random.default_rng(0)
    one = np.array([1, 0, 0, 0], np.uint64)
    for _ in range(200):
        counter = rng.integers(1, 2**64, size=4, dtype=np.uint64)
        key = rng.integers(2**64, size=2, dtype=np.uint64)
        # NumPy counts up before it draws.
        expected = np.random.Philox(counter=counter - one, key=key)
        assert philox(*counter, *key) == tuple(expected.random_raw(4))


@needs_numba
@pytest.mark.parametrize('num', [0, 1, 3, 4, 5, 41])
def test_a_longer_stream_begins_alike(num: int) -> None:
    few, many = np.empty(num), np.empty(50)
    for numbers in (few, many):
        fill_stream(numbers, 2**62, 2**40, 2**50, 3, 2**61)
    np.testing.assert_array_equal(few, many[:num])
    assert len(set(many)) == 50


def test_a_stream_begins_anew_and_a_name_twice_is_two_streams() -> None:
    streams = Streams(KEY, FIRST_VIEW)
    first = streams.next('RandomFlip').random(5)
    # Half of a word and parts of a block are left over; nobody gets them.
    streams.next('RandomFlip').integers(9, size=3, dtype=np.uint32)
    streams.next('GaussianBlur').random()
    assert not set(first) & set(streams.next('RandomFlip').random(5))
    streams.start_view(FIRST_VIEW + 1)
    assert not set(first) & set(streams.next('RandomFlip').random(5))
    streams.start_view(FIRST_VIEW)
    np.testing.assert_array_equal(first, streams.next('RandomFlip').random(5))
    assert kind_number('RandomFlip', 1) == kind_number('RandomFlip') + 2**32


class Spy(RandomTransform):
    """Draws many numbers, of several types, and changes nothing."""

    def draw(self, rng: np.random.Generator, height: int, width: int) -> None:
        rng.random(99)
        rng.integers(3, size=5, dtype=np.int32)

    def apply(self, img: np.ndarray, params: None) -> np.ndarray:
        return img


def greedy(kind: type[RandomTransform]) -> type[RandomTransform]:
    """Make a class draw more numbers after its own, under the same name."""

    def draw(
        self: RandomTransform, rng: np.random.Generator, *shape: int
    ) -> object:
        params = kind.draw(self, rng, *shape)
        rng.random(7)
        return params

    return type(kind.__name__, (kind,), dict(draw=draw))


@pytest.mark.parametrize(
    'change',
    [
        lambda steps: [steps[0], Spy(), *steps[1:]],
        lambda steps: [Spy(), *steps, Spy(), Spy()],
        lambda steps: [*steps, RandomFlip(0.0)],
        lambda steps: [greedy(RandomResizedCrop)(16), *steps[1:]],
        lambda steps: [*steps[:-1], greedy(GaussianBlur)()],
        lambda steps: [steps[0], greedy(RandomFlip)(), *steps[2:]],
        lambda steps: [*steps[:2], greedy(ColorJitter)(0.8, 0.8), *steps[3:]],
    ],
)
def test_more_numbers_and_transforms_shift_nothing(
    photos: list[np.ndarray], change: Callable[[list], list]
) -> None:
    steps = [
        RandomResizedCrop(16),
        RandomFlip(),
        ColorJitter(0.8, 0.8),
        RandomGrayscale(0.5),
        GaussianBlur(),
    ]
    for index in range(8):
        results = dict(img=photos[0], sample_idx=SampleKey(index, 0, 31))
        views, others = (
            MultiView(4, [group])(dict(results))['img']
            for group in (steps, change(steps))
        )
        for a, b in zip(views, others):
            np.testing.assert_array_equal(a, b)
