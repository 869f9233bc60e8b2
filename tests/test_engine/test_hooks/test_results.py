"""Sentences of TrainingProtocol; for real runs see test_tools/test_linear."""

from dataclasses import replace
from typing import Any

from swav_plugin.engine.hooks.results import TrainingProtocol

FINE_TUNING = TrainingProtocol(
    classifier='all weights trained',
    features=[],
    windows='',
    learning_rates=[],
    pretrained='swav',
    optimizer=dict(type='SGD', lr=0.02, _scope_='mmdet'),
    schedulers=[dict(type='LinearLR', end=100), dict(type='MultiStepLR')],
    multipliers=dict(head=dict(lr_mult=250)),
    train_set='data/imagenet/train',
    num_train_images=12811,
    test_set='data/imagenet/val',
    num_test_images=50000,
    batch_size=32,
    num_processes=8,
    unit='epoch',
    length=20,
    reached=20,
)


def sentence(**changes: Any) -> str:
    return str(replace(FINE_TUNING, **changes))


def test_fine_tuning() -> None:
    assert sentence() == (
        'all weights trained, --pretrained swav, SGD(lr=0.02), '
        'LinearLR(end=100), MultiStepLR(), head (lr_mult=250), batch 8x32, '
        'after epoch 20 of 20'
    )


def test_iterations() -> None:
    assert sentence(unit='iteration', length=24000, reached=2000).endswith(
        'batch 8x32, after iteration 2000 of 24000'
    )


def test_a_test_does_not_know_what_was_done() -> None:
    assert sentence(num_processes=None, reached=None).endswith(
        'batch 32 on each GPU, 20 epochs by the config'
    )
    assert sentence(pretrained=None).startswith('all weights trained, SGD(')


def test_probes() -> None:
    assert sentence(
        classifier='frozen backbone, batch norm and linear',
        features=['feature4', 'feature5'],
        windows='adaptive',
        learning_rates=[0.003, 1.0],
    ).startswith(
        'frozen backbone, batch norm and linear on feature4, feature5 '
        '(adaptive windows), learning rate 0.003, 1, --pretrained swav, SGD('
    )


def test_without_an_optimizer() -> None:
    assert sentence(optimizer={}, schedulers=[], multipliers={}) == (
        'all weights trained, --pretrained swav, batch 8x32, after epoch 20 '
        'of 20'
    )
