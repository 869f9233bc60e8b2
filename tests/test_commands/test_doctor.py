"""`swav doctor`: what it looks at, what stops a training, and its remedies."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swav_plugin.commands import doctor
from swav_plugin.commands.doctor import loader, machine, packages
from swav_plugin.commands.doctor.packages import Fact
from swav_plugin.compat import jit
from tests.conftest import REPO_ROOT


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / 'images'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(256, size=(60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{number}.jpg')
    return folder


def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *argv: object,
) -> tuple[dict[str, tuple[str, str]], str, int]:
    """Run the command: status and text of each thing, last line, exit code."""
    monkeypatch.setattr('sys.argv', ['swav doctor', *map(str, argv)])
    code = 0
    try:
        doctor.main()
    except SystemExit as end:
        code = int(str(end.code))
    *lines, empty, last = capsys.readouterr().out.splitlines()
    assert not empty
    found = {
        line[8:24].strip(): (line[:8].strip(), line[24:]) for line in lines
    }
    return found, last, code


def test_a_machine_that_can_train(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(machine, 'count_cores', lambda: 2)
    arguments = ('--data', images, '--work-dir', tmp_path / 'a/b')
    found, last, code = run(
        monkeypatch, capsys, *arguments, '--seconds', '0.2'
    )
    assert (last, code) == ('A training can start.', 0), found
    assert {'FAILED'}.isdisjoint(status for status, _ in found.values())
    for name in ('python', 'torch', 'mmengine', 'numba', 'cores', 'loader'):
        assert found[name][0] == 'OK', found[name]
    assert found['images'][1].startswith(f'4 in {images}, most 60 px or more')
    # ResNet-50 in float32, with its momentum.
    assert '4 checkpoints of 0.23 GB' in found['disk'][1]
    # 8 x 32 images of 3 x (2 x 224^2 + 6 x 96^2) bytes.
    assert 'need 0.1, better 0.2' in found['shared memory'][1]
    assert 'images/s with 2 workers' in found['loader'][1]
    assert 'images/s of the ImageNet recipe here' in found['steps'][1]
    assert not (tmp_path / 'a').exists()


def test_devices_that_do_not_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any, **__: Any) -> Any:
        line = '{"name": "GPU 0", "text": "H200"}\n'
        return SimpleNamespace(stdout=line, stderr='a\nfault\n', returncode=-6)

    monkeypatch.setattr(subprocess, 'run', die)
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr(machine, '_driver', lambda: '570.1')
    driver, gpu, failed = machine._devices()
    assert (driver.text, gpu.text) == ('570.1', 'H200')
    assert failed.status == 'FAILED' and failed.stops
    assert failed.text == 'computing with torch: fault'

    def hang(*_: Any, **__: Any) -> Any:
        raise subprocess.TimeoutExpired('python', 1, output=None)

    monkeypatch.setattr(subprocess, 'run', hang)
    *_, failed = machine._devices()
    assert failed.stops and 'no answer in 120 s' in failed.text


def test_a_slow_loader_and_a_fast_gpu(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, 'time_loader', lambda *_: 90.0)
    monkeypatch.setattr(machine, 'build_dataset', lambda _: None)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 1)
    monkeypatch.setattr(
        'torch.cuda.get_device_properties',
        lambda _: SimpleNamespace(total_memory=143e9),
    )
    settings = loader.recipe_loader(str(images))
    *_, steps = machine._time_loader(settings, 1.0)
    assert steps.status == 'WARN' and '932 images/s' in steps.text
    assert 'pipeline.1.on_device=True' in steps.remedy
    assert settings.dataset.pipeline[1].type == 'MultiCrop'  # it is there


def test_too_little_of_something(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = loader.recipe_loader(str(images))
    for free, status, stops in (
        (10**6, 'FAILED', True),
        (10**8, 'WARN', False),
        (10**9, 'OK', False),
    ):
        monkeypatch.setattr(machine, 'free_bytes', lambda: free)
        fact = machine._shared_memory(settings)
        assert (fact.status, fact.stops) == (status, stops)
        assert ('--shm-size' in fact.remedy) == (status != 'OK')
        monkeypatch.setattr(
            shutil, 'disk_usage', lambda _: SimpleNamespace(free=20 * free)
        )
        disk = machine._disk(str(tmp_path))
        assert (disk.status, disk.stops) == (
            dict(FAILED=('FAILED', True), WARN=('OK', False)).get(
                status, ('OK', False)
            )
        )
    monkeypatch.setattr(
        shutil, 'disk_usage', lambda _: SimpleNamespace(free=5e8)
    )
    assert machine._disk(str(tmp_path)).status == 'WARN'
    (tmp_path / 'file').touch()
    assert machine._disk(str(tmp_path / 'file/a')).stops
    monkeypatch.setattr(resource, 'getrlimit', lambda _: (256, 256))
    assert machine._open_files()[0] == 'WARN'
    monkeypatch.setattr(resource, 'getrlimit', lambda _: (256, -1))
    assert machine._open_files()[:3] == ('OK', 'open files', 'no limit')
    monkeypatch.setattr(jit, 'NO_NUMBA', 'not found')
    assert machine._loops().status == 'WARN'
    monkeypatch.setattr(shutil, 'which', lambda _: None)
    assert machine._compiler().status == 'MISSING'
    assert not machine._compiler().stops


def test_images_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, '_devices', lambda: ())
    *_, last = machine.look_at_machine('no_such', str(tmp_path), 1)
    assert last.stops and 'no_such' in last.text


def test_packages_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name in ('numba', 'onedl-mmdetection', 'mmdet', 'safetensors'):
            raise PackageNotFoundError(name)
        return dict(torch='1.13', numpy='2.0').get(name, '99')

    ours = SimpleNamespace(
        metadata={'Requires-Python': '>=3.10,<3.11'},
        requires=[
            'torch>=2.1',
            'numpy (>=1.24)',
            'safetensors>=0.4',
            'torch>=2.3; extra == "onedl"',
            'torch>=9; extra == "benchmarks"',
        ],
    )
    monkeypatch.setattr(packages, 'distribution', lambda _: ours)
    monkeypatch.setattr(packages, 'is_onedl', lambda: True)
    monkeypatch.setattr('platform.python_version', lambda: '3.12.1')
    monkeypatch.setattr(packages, 'version', version)
    monkeypatch.setattr(packages, 'find_spec', lambda name: None)
    found = {fact.name: fact for fact in packages.look_at_packages()}
    assert found['torch'][:3] == (
        'WARN',
        'torch',
        '1.13, but >=2.1 and >=2.3 is needed',
    )
    assert found['python'].text == '3.12.1, but <3.11 is needed'
    assert found['numpy'].status == 'OK'
    assert found['numba'].status == 'MISSING' and not found['numba'].stops
    assert found['mmdet'].status == 'MISSING' and not found['mmdet'].stops
    assert 'downstream' in found['mmdet'].remedy
    assert found['safetensors'].stops
    assert found['safetensors'].remedy == "pip install 'safetensors>=0.4'"


WITHOUT_MMENGINE = """
import importlib.metadata, sys
known = importlib.metadata.distribution
def distribution(name):
    if 'mmengine' in name:
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)
importlib.metadata.distribution = distribution
sys.modules['mmengine'] = None
sys.argv = ['/usr/bin/swav', {name!r}]
from swav_plugin.__main__ import main
main()
"""


@pytest.mark.parametrize('name', ['doctor', 'train'])
def test_what_is_missing_is_told_without_it(name: str) -> None:
    """Also torch is not imported, which might be what is missing."""
    done = subprocess.run(
        [sys.executable, '-c', WITHOUT_MMENGINE.format(name=name)],
        env={**os.environ, 'PYTHONPATH': str(REPO_ROOT)},
        capture_output=True,
        text=True,
    )
    needs = 'swav_plugin needs mmengine: run `pip install '
    if name == 'train':
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith(f'swav: error: {needs}')
        return
    assert (done.returncode, done.stderr) == (1, '')
    assert f'MISSING OpenMMLab       {needs}' in done.stdout
    assert done.stdout.endswith('\nNo training can start: see OpenMMLab.\n')


def test_a_fact_stops_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> Iterator[Fact]:
        yield Fact('MISSING', 'torch', 'not installed', stops=True)

    monkeypatch.setattr(doctor, 'look_at_packages', look)
    args = doctor.parse_args([])
    assert [fact.name for fact in doctor.examine(args)] == ['torch']
