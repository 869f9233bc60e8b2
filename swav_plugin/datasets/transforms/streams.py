"""Random numbers without state: f(seed, epoch, index, view, kind, i).

Each kind of number has its own stream in each view of each sample, so a
number added at the end of a stream, or a new kind, shifts no other number. A
kind is a transform, named after its class: number 0 of its stream decides
whether it is applied, the others are its parameters.

The generator is Philox4x64-10, which is numpy.random.Philox: a block of four
64-bit words is a hash of a counter and a key.

    counter   block (1, 2, ...), view, index, epoch
    key       seed, kind

View 0 is for draws outside of views. The number of a kind is the CRC-32 of its
name, plus 2 ** 32 times the number of transforms of that name before it. A
number in [0, 1) is the upper 53 bits of a word over 2 ** 53, as in
`Generator.random`.

Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
"""

import functools
import zlib
from collections import Counter

import numpy as np

from swav_plugin.compat.jit import jit

from ..sampler import SampleKey

OUTSIDE_VIEWS, FIRST_VIEW = 0, 1


@functools.cache
def kind_number(name: str, num_before: int = 0) -> int:
    """Return the number of a kind, < 2 ** 64."""
    return zlib.crc32(name.encode()) + (num_before << 32)


class Streams:
    """Give out the streams of one view after another as a NumPy generator.

    All streams share one generator, which is rewound to the start of a stream:
    creating one for each takes several times as long. So finish with a stream
    before asking for the next.

    Args:
        key: The key of the sample.
        view: OUTSIDE_VIEWS or FIRST_VIEW + view.
    """

    def __init__(self, key: SampleKey, view: int = OUTSIDE_VIEWS) -> None:
        self.key = key
        self._philox = np.random.Philox(0)
        self._state = self._philox.state
        self._rng = np.random.Generator(self._philox)
        self.start_view(view)

    def start_view(self, view: int) -> None:
        """Continue with the streams of another view."""
        self._view = view
        self._num_used: Counter[str] = Counter()

    def next(self, name: str) -> np.random.Generator:
        """Return the generator at the start of the stream of this name.

        Asking for a name again gives the next stream of that name: a pipeline
        may have a transform twice.
        """
        kind = kind_number(name, self._num_used[name])
        self._num_used[name] += 1
        key, state = self.key, self._state
        state['state']['counter'][:] = 0, self._view, int(key), key.epoch
        state['state']['key'][:] = key.seed, kind
        state['buffer_pos'] = 4  # discard the rest of the block
        state['has_uint32'] = 0  # and of the word
        self._philox.state = state
        return self._rng


# The same, compiled. All constants must be unsigned: numba turns the sum of a
# signed and an unsigned integer into a float.

_LOW_HALF, _HALF_BITS = np.uint64(2**32 - 1), np.uint64(32)
_UNUSED_BITS = np.uint64(64 - 53)
_MULTIPLIERS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_KEY_STEPS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


@jit
def fill_stream(
    numbers: np.ndarray,
    seed: int,
    epoch: int,
    index: int,
    view: int,
    kind: int,
) -> None:
    """Fill (n,) with the first numbers of a stream, in [0, 1).

    They equal `Streams(key, view).next(name).random(n)`.
    """
    num_blocks = (len(numbers) + 3) // 4
    for block in range(num_blocks):
        words = philox(
            np.uint64(block + 1),
            np.uint64(view),
            np.uint64(index),
            np.uint64(epoch),
            np.uint64(seed),
            np.uint64(kind),
        )
        first = 4 * block
        for i in range(first, min(first + 4, len(numbers))):
            numbers[i] = (words[i - first] >> _UNUSED_BITS) * 2.0**-53


@jit
def philox(
    a: np.uint64,
    b: np.uint64,
    c: np.uint64,
    d: np.uint64,
    key: np.uint64,
    other_key: np.uint64,
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Return the block of four words for a counter and a key."""
    for _ in range(10):
        high_a, low_a = _multiply(_MULTIPLIERS[0], a)
        high_c, low_c = _multiply(_MULTIPLIERS[1], c)
        a, b, c, d = high_c ^ b ^ key, low_c, high_a ^ d ^ other_key, low_a
        key += _KEY_STEPS[0]
        other_key += _KEY_STEPS[1]
    return a, b, c, d


@jit
def _multiply(x: np.uint64, y: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return the upper and the lower 64 bits of a product."""
    x_high, x_low = x >> _HALF_BITS, x & _LOW_HALF
    y_high, y_low = y >> _HALF_BITS, y & _LOW_HALF
    # None of these sums exceeds 64 bits.
    middle = x_high * y_low + (x_low * y_low >> _HALF_BITS)
    other = x_low * y_high + (middle & _LOW_HALF)
    high = x_high * y_high + (middle >> _HALF_BITS) + (other >> _HALF_BITS)
    return high, x * y
