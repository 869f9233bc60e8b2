"""Errors of what a config describes: where, and what was meant."""

import pytest
from mmengine.config import Config
from mmengine.registry import Registry

from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.engine.errors import (
    UsageError,
    arguments_of,
    check_type,
    mistakes_in_one_line,
)

PARTS = Registry('part')


class _Base:
    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError('must not be negative')
        self.size = 1 / size


@PARTS.register_module()
class Crop(_Base):
    """A part of a config."""

    def __init__(self, ratio: float = 1, **options: int) -> None:
        super().__init__(**options)


def build(part: dict, **more: object) -> None:
    """Build a part that is the second of a list in a config."""
    cfg = Config(dict(data=dict(steps=[dict(type='Other'), part]), **more))
    with mistakes_in_one_line(cfg):
        PARTS.build(cfg.data.steps[1])


@pytest.mark.parametrize(
    'part, message',
    [
        (
            dict(type='Crp', size=3),
            "data.steps.1: there is no 'Crp'; did you mean Crop?",
        ),
        (
            dict(type='Crop', siz=3),
            "data.steps.1: Crop has no argument 'siz'; did you mean size?",
        ),
        (dict(type='Crop', size=-1), 'must not be negative'),
        (dict(type='Crop', size=0), 'data.steps.1: Crop: division by zero'),
    ],
)
def test_a_mistake_is_told_with_its_place(part: dict, message: str) -> None:
    with pytest.raises(UsageError) as error:
        build(part)
    text = str(error.value)
    assert message in text and text.endswith('(log_level=DEBUG shows where)')
    assert '\n' not in text


def test_debug_shows_where() -> None:
    with pytest.raises(ZeroDivisionError):
        build(dict(type='Crop', size=0), log_level='DEBUG')


@pytest.mark.parametrize('kind', [UsageError, CheckpointError])
def test_what_is_told_already_stays_as_it_is(kind: type[Exception]) -> None:
    error = kind('told')
    with pytest.raises(kind) as raised, mistakes_in_one_line(Config()):
        raise error
    assert raised.value is error


def test_an_error_of_no_part_is_not_the_users() -> None:
    with pytest.raises(KeyError), mistakes_in_one_line(Config()):
        raise KeyError('ours')


def test_a_type_is_checked_without_building() -> None:
    cfg = Config(dict(a=[dict(b=dict(type='Crpo')), dict(type='Crop')]))
    check_type(cfg, cfg.a[1], PARTS)
    with pytest.raises(UsageError, match=r"^a\.0\.b: there is no 'Crpo'; did"):
        check_type(cfg, cfg.a[0].b, PARTS)


def test_arguments_of_a_class_include_those_of_its_bases() -> None:
    assert {'ratio', 'size'} <= arguments_of(Crop)
