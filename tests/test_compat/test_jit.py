"""Compiling where it can be done, and the same results where it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swav_plugin.compat import jit

from ..conftest import REPO_ROOT


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


@pytest.mark.skipif(jit.NO_NUMBA is not None, reason='nothing is compiled')
@pytest.mark.parametrize('can_write', [True, False])
def test_what_pip_cannot_remove_is_kept_elsewhere(
    tmp_path: Path, can_write: bool
) -> None:
    installed = tmp_path / 'lib/site-packages'
    installed.mkdir(parents=True)
    (installed / 'main.py').write_text(
        'from swav_plugin.compat.jit import jit\n'
        '@jit\ndef run(x):\n    return 2 * x\nprint(run(21))'
    )
    cache = tmp_path / 'cache'
    if not can_write:
        cache.write_text('a file')
    env = {k: v for k, v in os.environ.items() if k != 'NUMBA_CACHE_DIR'}
    env |= dict(
        XDG_CACHE_HOME=str(cache),
        PYTHONPATH=str(REPO_ROOT),
        PYTHONDONTWRITEBYTECODE='1',
    )
    done = subprocess.run(
        [sys.executable, str(installed / 'main.py')],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == '42\n'
    assert bool([*installed.rglob('*.nbc')]) != can_write
    assert bool([*cache.rglob('*.nbc')]) == can_write


@pytest.mark.skipif(jit.NO_NUMBA is not None, reason='nothing is compiled')
def test_a_change_in_another_file_is_compiled_again(tmp_path: Path) -> None:
    # numba itself looks only at main.py, which stays as it is.
    header = 'from swav_plugin.compat.jit import jit\n'
    (tmp_path / 'main.py').write_text(
        f'{header}from part import LIMIT, double\n'
        '@jit\ndef run(x):\n    return min(double(x), LIMIT)\nprint(run(21))'
    )
    printed = []
    for factor, limit in ((2, 99), (3, 99), (3, 50)):
        (tmp_path / 'part.py').write_text(
            f'{header}LIMIT = {limit}\n'
            f'@jit\ndef double(x):\n    return {factor} * x\n'
        )
        result = subprocess.run(
            [sys.executable, '-B', 'main.py'],
            cwd=tmp_path,
            env={**os.environ, 'PYTHONPATH': str(REPO_ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        printed.append(result.stdout.split()[-1])
    assert printed == ['42', '63', '50']
