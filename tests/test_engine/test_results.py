"""Numbers with their protocols, in files and back."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from swav_plugin.engine.results import (
    Result,
    data_roots,
    read_results,
    write_results,
)


@dataclass(frozen=True)
class Protocol:
    k: int
    optimizer: dict

    def __str__(self) -> str:
        return f'k={self.k}'


def test_fields_and_sentence_reach_the_file(tmp_path: Path) -> None:
    results = [
        Result('top1', 61.25, Protocol(10, dict(lr=0.1))),
        Result('mine', 1.0, 'a sentence alone'),
    ]
    path = tmp_path / 'log/results.json'
    write_results(path, results)
    assert read_results(path) == [
        dict(
            name='top1',
            value=61.25,
            protocol='k=10',
            fields=dict(k=10, optimizer=dict(lr=0.1)),
        ),
        dict(name='mine', value=1.0, protocol='a sentence alone', fields={}),
    ]
    assert [file.name for file in path.parent.iterdir()] == ['results.json']


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / 'results.json'
    write_results(path, [Result('top1', 1.0, 'old')])
    before = path.read_bytes()

    class Broken:
        def __str__(self) -> str:
            raise KeyError('stop')

    with pytest.raises(KeyError, match='stop'):
        write_results(path, [Result('top1', 2.0, Broken())])
    assert path.read_bytes() == before


def test_classes_in_configs_are_written_by_name(tmp_path: Path) -> None:
    protocol = Protocol(1, dict(type=torch.optim.SGD))
    write_results(tmp_path / 'r.json', [Result('a', 1.0, protocol)])
    (row,) = json.loads((tmp_path / 'r.json').read_text())
    assert 'SGD' in row['fields']['optimizer']['type']


def test_roots_of_nested_sets_are_named_once() -> None:
    part = dict(type='VOCDataset', data_root='data/VOCdevkit/', ann_file='a')
    union = dict(type='ConcatDataset', datasets=[part, dict(part)])
    cfg = Config(dict(train_dataloader=dict(dataset=union)))
    assert data_roots(cfg.train_dataloader.dataset) == 'data/VOCdevkit/'
    repeated = dict(
        type='RepeatDataset',
        dataset=dict(type='ImageFolder', data_root=['a', 'b']),
    )
    assert data_roots(repeated) == 'a, b'
    assert data_roots(None) == '' == data_roots(dict(type='CIFAR10'))
