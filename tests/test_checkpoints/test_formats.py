"""Files of weights, and files that are something else."""

from pathlib import Path

import pytest
import torch

from swav_plugin.checkpoints.formats import read_state_dict


@pytest.mark.parametrize('is_training', [False, True])
def test_weights_of_a_file(tmp_path: Path, is_training: bool) -> None:
    path = tmp_path / 'w.pth'
    weights = {'module.conv1.weight': torch.rand(3)}
    content = dict(epoch=3, state_dict=weights) if is_training else weights
    torch.save(content, path)
    found = read_state_dict(path)
    assert found.keys() == weights.keys()
    for key, value in weights.items():
        assert torch.equal(found[key], value)


def test_files_that_are_no_weights_are_named(tmp_path: Path) -> None:
    for content in ([1, 2], {}, dict(epoch=3), dict(state_dict=[1])):
        torch.save(content, tmp_path / 'other.pth')
        with pytest.raises(ValueError, match='other.pth holds no weights'):
            read_state_dict(tmp_path / 'other.pth')


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    torch.save(dict(state_dict=_Evil(str(trace))), path)
    with pytest.raises(ValueError, match='it wants .*open'):
        read_state_dict(path)
    assert not trace.exists()


class _Evil:
    """Unpickles into a call."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, 'w')
