"""Checkpoints are written with tensors and plain values only."""

from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from swav_plugin.checkpoints.rebuild import to_history, to_plain
from swav_plugin.engine import ScalarHistory


def test_plain_torch_load_reads_what_was_made_plain(tmp_path: Path) -> None:
    history = HistoryBuffer([0.5, 0.25], [1, 3], 7)
    state = {
        'lr': np.float64(0.1),
        'is_on': np.bool_(True),
        'losses': [(np.int32(3), history)],
        'scalars': OrderedDict(a=ScalarHistory(history)),
        'meta': ConfigDict(classes=('a', 'b')),
        'milestones': Counter([2, 2, 5]),
        3: torch.ones(2),
    }
    torch.save(to_plain(state), tmp_path / 'a.pth')
    found = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert found['lr'] == 0.1 and found['is_on'] is True
    assert found['meta'] == {'classes': ('a', 'b')}
    assert found[3].tolist() == [1, 1]
    assert found['milestones'] == Counter([2, 2, 5])
    assert type(found['milestones']) is Counter
    assert found['losses'][0][0] == 3
    for value in (found['losses'][0][1], found['scalars']['a']):
        same = to_history(value)
        assert type(same) is HistoryBuffer and same.max_length == 7
        for array, other in zip(same.data, history.data, strict=True):
            assert array.dtype == other.dtype and (array == other).all()
        assert same.statistics('mean', 2) == history.mean(2)
        same.update(1.0)  # it does not only look like one
    # The state itself is as it was.
    assert isinstance(state['lr'], np.float64)


@pytest.mark.parametrize(
    'value',
    [
        3,
        'text',
        {},
        {'values': [1], 'counts': [1], 'max_length': 3},
        {'values': torch.ones(1), 'counts': torch.ones(1)},
    ],
)
def test_what_is_not_a_history(value: object) -> None:
    assert to_history(value) is None
