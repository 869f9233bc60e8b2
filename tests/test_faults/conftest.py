"""Fixtures for these tests."""

from collections.abc import Iterator

import pytest

from .ranks import STARTED


@pytest.fixture(autouse=True)
def no_run_is_left() -> Iterator[None]:
    """End the runs of a test that failed: pytest would wait for them."""
    yield
    while STARTED:
        STARTED.pop().kill()
