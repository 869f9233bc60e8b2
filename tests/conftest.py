"""Fixtures for all tests."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger

# Before mmcv: brings those of its operators that are not compiled.
import swav_plugin  # noqa: F401

REPO_ROOT = Path(__file__).resolve().parents[1]

# Importing it, as a search for doctests does, changes torch's default dtype.
collect_ignore = ['test_faults/in_float64.py']

# Copied away from a checkout, the tests try an installed wheel. Those that
# read files of the checkout say so by this name.
if not (REPO_ROOT / 'setup.cfg').exists():
    collect_ignore += [
        str(path)
        for path in Path(__file__).parent.rglob('test_*.py')
        if 'REPO_ROOT' in path.read_text() or 'parents[' in path.read_text()
    ]

# pytest-xdist runs one process for each core: more threads only wait for
# each other. One thread also keeps sums in the same order on every machine.
torch.set_num_threads(1)
os.environ['OMP_NUM_THREADS'] = '1'


@pytest.fixture(scope='module', autouse=True)
def little_garbage() -> None:
    """Let searches for garbage pass over what was imported.

    mmengine starts one for each dataset that is built, and among all that
    torch and mmdet import it takes half a second to two.
    """
    if len(gc.get_objects()) > 100_000:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def fresh_loggers() -> Iterator[None]:
    """Forget the loggers of a test: pytest closes the screen they write to."""
    before = dict(MMLogger._instance_dict)
    yield
    MMLogger._instance_dict.clear()
    MMLogger._instance_dict.update(before)


@pytest.fixture(autouse=True)
def default_signals() -> Iterator[None]:
    """Undo what a run that was told to stop does about further signals."""
    numbers = [signal.SIGTERM]
    numbers += [signal.SIGUSR1] if hasattr(signal, 'SIGUSR1') else []
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before):
        signal.signal(number, handler)


@pytest.fixture(scope='session', autouse=True)
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep away from the downloads of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TORCH_HOME', str(tmp_path_factory.mktemp('torch_home')))
        patch.delenv('SWAV_MIRROR', raising=False)
        yield


@pytest.fixture(scope='session')
def test_data() -> Path:
    """Folder of real test images, or skip the test where there is none."""
    path = Path(os.environ.get('SWAV_TEST_DATA', REPO_ROOT / '../shared/data'))
    if not path.is_dir():
        pytest.skip(
            f'no test images in {path}; set SWAV_TEST_DATA to their folder'
        )
    return path.resolve()


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Paths of the files that this process opens, in that order."""
    paths: list[str] = []
    is_on = True

    def note(event: str, args: tuple) -> None:
        if is_on and event == 'open':
            paths.append(str(args[0]))

    sys.addaudithook(note)  # cannot be removed
    yield paths
    is_on = False
