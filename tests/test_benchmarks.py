"""The benchmarks run, on little data, and report what they measured."""

import argparse
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / 'benchmarks'


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for i in range(2):
        noise = rng.integers(256, size=(90, 120, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f'{i}.jpg')
    return [str(tmp_path / f'{i}.jpg') for i in range(2)]


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    init_default_scope('swav_plugin')
    return importlib.import_module(name)


def test_views(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = load('bench_views', monkeypatch)
    assert bench.find_photos(str(Path(files[0]).parent), 2) == files
    rows, missing = bench.compare(files, num_rounds=1)
    names = {row['name'] for row in rows} | set(missing)
    assert names == set(bench.PIPELINES)
    # A peer that is not installed is told, with the command; mmcv 2.1 does
    # not run with numpy 2.
    assert all(
        'pip install' in reason or 'does not run here' in reason
        for reason in missing.values()
    )
    assert {row['name'] for row in rows} > {bench.UPSTREAM, 'swav_plugin'}
    assert all(row['images_per_s'] > 0 for row in rows)
    assert bench.largest_difference(files, 16)['max_difference'] <= 1


def test_too_few_photographs_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = load('common', monkeypatch)
    with pytest.raises(SystemExit, match='found 0 JPEG files, 3 are needed'):
        common.find_photos(str(tmp_path), 3)


def test_step(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = load('bench_step', monkeypatch)
    args = argparse.Namespace(
        depth=18,
        stages=4,
        batch_size=2,
        dtypes=[torch.float32],
        views=[2, 2],
        sizes=[32, 16],
        num_prototypes=4,
        queue_length=4,
        compile=False,
        rounds=1,
        steps=1,
        e2e_steps=1,
        workers=[1],
        path=['device'],
        device='cpu',
    )
    rows, missing = bench.compare_steps(args)
    assert not missing
    assert [row['name'] for row in rows][:2] == [
        'mmpretrain float32',
        'swav_plugin float32',
    ]
    # One step is 3 times the forward pass: at 32 px ResNet-18 takes 1.8
    # GFLOP * 2 * (32 / 224) ** 2 for it, and the neck and head little more.
    forward = 3.64 * 2 * (2 * 32**2 + 2 * 16**2) / 224**2 / 2
    assert rows[0]['gflop_per_image'] == pytest.approx(3 * forward, rel=0.25)
    rows, missing = bench.end_to_end(args, files)
    assert len(rows) == 1 and 0 < rows[0]['data_wait'] < 1 and not missing


def test_eval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = load('bench_eval', monkeypatch)
    args = argparse.Namespace(
        bank=500,
        queries=20,
        width=32,
        rows=80,
        train_images=150,
        test_images=60,
        svm_width=16,
        fits=2,
        device='cpu',
    )
    knn = bench.bench_knn(args, tmp_path)
    assert 0 < knn['share_in_products'] < 1
    assert bench.bench_svm(args, tmp_path)['liblinear_s_per_fit'] > 0
    # Compares what arrived with what was sent.
    (tmp_path / 'gather').mkdir()
    assert bench.bench_gather(args, tmp_path / 'gather')['speedup'] > 0


def test_growth_is_that_after_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = load('bench_long_run', monkeypatch)
    steps = range(50, 20_001, 50)
    samples = [dict(iter=i, mb=500 + i / 4000, files=9) for i in steps]
    samples[0]['mb'] = 100  # a process that has just begun
    assert bench.growth(samples, 'mb') == pytest.approx(0.25)
    assert bench.growth(samples, 'files') == 0
