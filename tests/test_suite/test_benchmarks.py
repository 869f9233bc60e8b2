"""Every table, folder and name of the suite agrees with the others.

What a column wants is looked for among the results of the real evaluators,
built from the benchmark's config.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from swav_plugin.datasets.check import NAMES
from swav_plugin.engine.hooks.results import in_percent
from swav_plugin.evaluation import FeatureSet, Labels, voc07_svm
from swav_plugin.evaluation.feature_store import ShardedRows
from swav_plugin.evaluation.svm import FullResult, LowShotResult
from swav_plugin.registry import METRICS
from swav_plugin.suite.adapt import dicts_of
from swav_plugin.suite.benchmarks import (
    BENCHMARKS,
    CONFIGS,
    Benchmark,
    known_datasets,
)
from swav_plugin.suite.report import find_result
from tests.conftest import REPO_ROOT

SCOPES = {'': 'swav_plugin', 'mmdet': 'mmdet', 'mmseg': 'mmseg'}


@pytest.fixture(params=BENCHMARKS)
def name(request: pytest.FixtureRequest) -> str:
    """Each benchmark whose library is installed."""
    library = BENCHMARKS[request.param].library
    if library:
        pytest.importorskip(library)
    return request.param


@pytest.fixture
def cfg(name: str) -> Config:
    return Config.fromfile(CONFIGS / BENCHMARKS[name].config)


def test_every_config_is_there() -> None:
    for benchmark in BENCHMARKS.values():
        assert (CONFIGS / benchmark.config).is_file(), benchmark.config
        assert (REPO_ROOT / 'configs/benchmarks' / benchmark.config).is_file()
    configs = [benchmark.config for benchmark in BENCHMARKS.values()]
    assert len(set(configs)) == len(configs)


def test_records_agree_with_their_configs(name: str, cfg: Config) -> None:
    benchmark = BENCHMARKS[name]
    assert benchmark.trains == bool(cfg.get('train_cfg'))
    hooks = [*dicts_of(cfg.get('default_hooks')), *cfg.get('custom_hooks', ())]
    assert benchmark.trains == any(
        str(hook.get('type')).endswith('ResultsHook') for hook in hooks
    )
    assert cfg.default_scope == SCOPES[benchmark.library]
    # Everything is below the folder of the dataset.
    roots = [
        str(node[key])
        for node in dicts_of(cfg._cfg_dict)
        for key in ('data_root', 'ann_file')
        if str(node.get(key, '')).startswith('data/')
    ]
    folder = Path('data', benchmark.data.folder)
    assert roots and all(Path(root).is_relative_to(folder) for root in roots)


def test_every_data_set_has_a_folder_and_a_check() -> None:
    datasets = [benchmark.data for benchmark in BENCHMARKS.values()]
    for dataset in datasets:
        assert known_datasets()[dataset.name] == dataset
        assert dataset.folder
        assert dataset.name in NAMES


def test_tables_are_told_apart_by_their_titles() -> None:
    columns = [
        column
        for benchmark in BENCHMARKS.values()
        for column in benchmark.columns
    ]
    notes = {column.table.title: column.table.note for column in columns}
    for column in columns:
        assert notes[column.table.title] == column.table.note
    heads = [(column.table.title, column.title) for column in columns]
    assert len(set(heads)) == len(heads)


def test_published_numbers_have_a_column_each() -> None:
    for name, benchmark in BENCHMARKS.items():
        found: list[tuple[str, str]] = []
        for column in benchmark.columns:
            for row, number in benchmark.published_in(column).items():
                found.append((row, column.title))
                if column.shows == 'value':
                    assert 0 < float(number) < 100
        given = [
            (row, title)
            for row, numbers in benchmark.published.items()
            for title in numbers
        ]
        # None is without a column, and none in two tables.
        assert sorted(found) == sorted(given), name
        assert all(benchmark.published.values())


def feature_results(cfg: Config) -> list[dict[str, Any]]:
    """The results of evaluators of features, on made-up numbers."""
    rng = np.random.default_rng(0)
    evaluators = [METRICS.build(config) for config in cfg.test_evaluator]
    labels = torch.from_numpy(rng.integers(3, size=250))
    sets = [
        FeatureSet(
            Labels(name, labels),
            {
                feature: ShardedRows([torch.from_numpy(rng.random((250, 4)))])
                for feature in cfg.test_cfg.features
            },
        )
        for name in ('bank', 'test')
    ]

    def full(*_: Any) -> FullResult:
        ap = torch.from_numpy(rng.random((20, 2)))
        return FullResult(ap, ap, torch.zeros(20, dtype=torch.long))

    def low_shot(*_: Any) -> LowShotResult:
        return LowShotResult(*torch.from_numpy(rng.random((2, 5, 2))))

    with (
        mock.patch.object(voc07_svm, 'svm_map', full),
        mock.patch.object(voc07_svm, 'low_shot_map_of_grams', low_shot),
    ):
        return [
            result.to_dict()
            for evaluator in evaluators
            for result in evaluator.evaluate(*sets)
        ]


def classification_metrics(cfg: Config) -> dict[str, float]:
    """Return the metrics of a classifier for one correct image."""
    metric = METRICS.build(cfg.val_evaluator)
    scores = torch.eye(10)[3]
    sample: dict[str, Any] = dict(gt_label=torch.tensor([3]))
    if cfg.model.type == 'LinearProbe':
        probes = list(cfg.model.features)
        assert len(cfg.model.head.learning_rates) == 1 or pytest.fail()
        sample.update(
            probes=probes, scores=scores.expand(len(probes), len(scores))
        )
    else:
        sample.update(pred_score=scores)
    metric.process({}, [sample])
    return metric.evaluate(1)


def detection_metrics(cfg: Config) -> dict[str, float]:
    """Return the metrics of a detector that finds the one object."""
    box = np.array([[8.0, 8.0, 40.0, 40.0]], np.float32)
    mask = np.zeros((1, 48, 48), np.uint8)
    mask[:, 8:40, 8:40] = 1
    polygon = [8, 8, 40, 8, 40, 40, 8, 40]
    gt = dict(bbox=box[0], bbox_label=0, ignore_flag=0, mask=[polygon])
    sample = dict(
        img_id=1,
        ori_shape=(48, 48),
        instances=[gt],
        gt_instances=dict(
            bboxes=torch.from_numpy(box), labels=torch.tensor([0])
        ),
        ignored_instances=dict(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long()
        ),
        pred_instances=dict(
            bboxes=torch.from_numpy(box),
            scores=torch.ones(1),
            labels=torch.tensor([0]),
            masks=torch.from_numpy(mask).bool(),
        ),
    )
    configs = cfg.val_evaluator
    found: dict[str, float] = {}
    for config in configs if isinstance(configs, list) else [configs]:
        config.pop('ann_file', None)  # then it takes those of the samples
        metric = METRICS.build(config)
        metric.dataset_meta = dict(classes=('a', 'b'), dataset_type='VOC2007')
        metric.process({}, [sample])
        found.update(metric.evaluate(1))
    return found


def segmentation_metrics(cfg: Config) -> dict[str, float]:
    """Return the metrics of a segmenter for one image of two classes."""
    metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = dict(classes=('a', 'b'))
    classes = dict(data=torch.eye(4).long()[None])
    sample = dict(pred_sem_seg=classes, gt_sem_seg=classes)
    metric.process({}, [sample])
    return metric.evaluate(1)


def results_of(benchmark: Benchmark, cfg: Config) -> list[dict[str, Any]]:
    """Results with the names and fields that a run of a benchmark has."""
    if not benchmark.trains:
        return feature_results(cfg)
    metrics = dict(mmdet=detection_metrics, mmseg=segmentation_metrics).get(
        benchmark.library, classification_metrics
    )(cfg)
    return [
        dict(name=name, value=value, fields={})
        for name, value in in_percent(metrics).items()
    ]


@pytest.fixture
def scope(name: str) -> Iterator[None]:
    with DefaultScope.overwrite_default_scope(
        SCOPES[BENCHMARKS[name].library]
    ):
        yield


@pytest.mark.usefixtures('scope')
def test_every_column_has_a_result(name: str, cfg: Config) -> None:
    benchmark = BENCHMARKS[name]
    results = results_of(benchmark, cfg)
    found = [find_result(results, column) for column in benchmark.columns]
    missing = [
        column.title
        for column, result in zip(benchmark.columns, found)
        if result is None
    ]
    assert not missing, [result['name'] for result in results]
    # Each column has a result of its own, but for the name of the layer.
    values = [
        (column.table.title, result['name'])
        for column, result in zip(benchmark.columns, found)
        if result is not None and column.shows == 'value'
    ]
    assert len(set(values)) == len(values)
    for column, result in zip(benchmark.columns, found):
        assert result is not None
        assert column.shows in ('value', *result['fields'])


@pytest.mark.parametrize(
    'document', ['en/benchmarks.md', 'zh_CN/benchmarks.md']
)
def test_documents_name_every_benchmark(document: str) -> None:
    text = (REPO_ROOT / 'docs' / document).read_text(encoding='utf-8')
    for name in BENCHMARKS:
        assert f'`{name}`' in text, f'docs/{document} does not name {name}'


def test_documents_name_every_dataset() -> None:
    text = (REPO_ROOT / 'docs/en/datasets.md').read_text(encoding='utf-8')
    for dataset in known_datasets().values():
        for word in (dataset.name, f'data/{dataset.folder}'):
            assert f'`{word}`' in text, f'docs/en/datasets.md lacks {word}'


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    for benchmark in BENCHMARKS.values():
        reason = benchmark.missing_library()
        if not benchmark.library:
            assert reason is None
        else:
            assert reason is not None
            assert reason.startswith(f'{benchmark.library} is not installed')
