"""What a checkpoint says of its images: read back, or refused."""

from typing import Any

import pytest

from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.checkpoints.model_settings import (
    KEY,
    ModelSettings,
    read_settings,
)
from swav_plugin.checkpoints.write import as_text

SETTINGS = ModelSettings(
    (1.0, 2.5, 3.0), (4.0, 5.0, 6.0), 'BGR', 32, 40, 0.02, 5, 0.2
)


def test_they_are_read_as_they_were_written() -> None:
    plain = SETTINGS.to_plain()
    assert all(
        type(value) in (float, int, str, list) for value in plain.values()
    )
    assert read_settings({KEY: plain, 'epoch': 3}, 'a') == SETTINGS
    assert read_settings(as_text({KEY: plain}), 'a') == SETTINGS
    for meta in ({}, None, dict(epoch=3), [KEY], dict(format='pt')):
        assert read_settings(meta, 'a') is None


def test_another_crop_keeps_the_proportion() -> None:
    assert ModelSettings().at(112).resize == 128
    assert SETTINGS.at(64) == ModelSettings(
        SETTINGS.mean, SETTINGS.std, 'BGR', 64, 80, 0.02, 5, 0.2
    )
    assert SETTINGS.at(None) is SETTINGS


@pytest.mark.parametrize(
    'change',
    [
        dict(mean=[1.0, 2.0]),
        dict(mean=[1.0, 2.0, float('nan')]),
        dict(mean=None),
        dict(std=[1.0, 0.0, 1.0]),
        dict(std=['1', '1', '1']),
        dict(channel_order='GRB'),
        dict(channel_order=['RGB']),
        dict(size=0),
        dict(size=True),
        dict(size=64),  # above `resize`
        dict(resize=10**9),
        dict(num_iters=0),
        dict(epsilon=-1),
        dict(epsilon=float('inf')),
        dict(temperature={}),
    ],
)
def test_numbers_out_of_range_are_refused(change: dict[str, Any]) -> None:
    meta = {KEY: {**SETTINGS.to_plain(), **change}}
    with pytest.raises(CheckpointError, match=r'^w.pth: .*model_settings in '):
        read_settings(meta, 'w.pth')


@pytest.mark.parametrize('value', [3, '{', '[]', [1], {}, '[' * 10**5])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(CheckpointError, match='damaged'):
        read_settings({KEY: value}, 'w.pth')
