"""Old import paths and arguments work, and warn."""

import importlib
import inspect
import sys
import warnings

import pytest

import swav_plugin
from swav_plugin.compat.moved import MOVED, renamed_arguments


@pytest.mark.parametrize('old, new', MOVED.items())
def test_an_old_path_is_the_new_module(old: str, new: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f'{old} is now {new};') as got:
        module = importlib.import_module(old)
    assert module is importlib.import_module(new)
    assert module.__name__ == module.__spec__.name == new
    # The first import of mmcv warns about itself, too.
    assert sum(each.category is DeprecationWarning for each in got) == 1


def test_the_warning_names_the_line_that_imports() -> None:
    sys.modules.pop('swav_plugin.zoo', None)
    with pytest.warns(DeprecationWarning) as got:
        import swav_plugin.zoo  # noqa: F401
    assert got[0].filename == __file__


def test_the_old_home_of_checkpoints() -> None:
    from swav_plugin import checkpoints

    with pytest.warns(DeprecationWarning):
        sys.modules.pop('swav_plugin.compat.checkpoint_keys', None)
        from swav_plugin.compat.checkpoint_keys import (
            convert_state_dict,
            load_backbone,
            load_model,
            load_shared_head,
            read_checkpoint,
        )
    for function in (
        convert_state_dict,
        load_backbone,
        load_model,
        load_shared_head,
        read_checkpoint,
    ):
        assert function is getattr(checkpoints, function.__name__)


def test_other_names_are_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module('swav_plugin.nothing')
    assert not hasattr(swav_plugin, 'nothing')


def test_a_renamed_argument() -> None:
    @renamed_arguments(colour='color')
    def paint(color: str) -> str:
        return color

    assert paint('red') == paint(color='red') == 'red'
    with pytest.warns(
        DeprecationWarning, match=r'paint\(colour=\.\.\.\) is now color='
    ) as got:
        assert paint(colour='blue') == 'blue'  # type: ignore[call-arg]
    assert got[0].filename == __file__
    with pytest.raises(TypeError), pytest.warns(DeprecationWarning):
        paint('red', colour='blue')  # type: ignore[call-arg]


class Crop:
    """Something with a renamed argument."""

    @renamed_arguments(scale='size')
    def __init__(self, size: int, ratio: float = 1.0) -> None:
        """Document."""
        self.size, self.ratio = size, ratio


def test_old_name_warns_and_wins() -> None:
    with pytest.warns(
        DeprecationWarning, match=r'Crop\(scale=...\) is now siz'
    ):
        assert vars(Crop(scale=3)) == dict(size=3, ratio=1.0)
    with pytest.warns(DeprecationWarning) as caught:
        assert vars(Crop(size=5, scale=3, ratio=2.0)) == dict(
            size=3, ratio=2.0
        )
    assert caught[0].filename == __file__


def test_new_name_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert Crop(3).size == Crop(size=3).size == 3
    with pytest.raises(TypeError, match='size'):
        Crop()
    assert list(inspect.signature(Crop).parameters) == ['size', 'ratio']
    assert Crop.__init__.__doc__ == 'Document.'
