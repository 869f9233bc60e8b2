"""Compiling where it can be done, and the same results where it cannot."""

import subprocess
import sys

import pytest

from swav_plugin.compat import jit


def double(number: float) -> float:
    """Something to compile."""
    return 2 * number


def test_import_of_the_package_does_not_import_numba() -> None:
    code = 'import sys, swav_plugin; sys.exit("numba" in sys.modules)'
    subprocess.run([sys.executable, '-c', code], check=True)


def test_without_numba_functions_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, 'NO_NUMBA', 'not installed')
    assert jit.jit(double) is double


def test_missing_numba_is_no_error() -> None:
    code = (
        'import sys; sys.modules["numba"] = None\n'
        'from swav_plugin.compat import jit\n'
        'assert "numba" in jit.NO_NUMBA, jit.NO_NUMBA'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.skipif(jit.NO_NUMBA is not None, reason='nothing is compiled')
def test_nowhere_to_keep_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    monkeypatch.setattr(caching.CacheImpl, '_locator_classes', [])
    monkeypatch.setattr(jit, 'NO_CACHE', None)
    compiled = jit.jit(double)
    assert compiled is not double and compiled(21) == 42
    assert jit.NO_CACHE is not None and 'cannot cache' in jit.NO_CACHE
