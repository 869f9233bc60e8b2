"""Old import paths and arguments work, and warn."""

import importlib
import sys

import pytest

import swav_plugin
from swav_plugin.compat.moved import MOVED, renamed_argument


@pytest.mark.parametrize('old, new', MOVED.items())
def test_an_old_path_is_the_new_module(old: str, new: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f'{old} is now {new};') as got:
        module = importlib.import_module(old)
    assert module is importlib.import_module(new)
    assert module.__name__ == module.__spec__.name == new
    assert len(got) == 1


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
    @renamed_argument('colour', 'color')
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
