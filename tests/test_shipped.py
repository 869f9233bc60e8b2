"""Configs by name, from a checkout or a wheel."""

from pathlib import Path

import pytest

from swav_plugin.shipped import CONFIGS, config_names, find_config
from tests.conftest import REPO_ROOT


def test_every_config_has_a_name_of_its_own() -> None:
    """Two files of one name would hide each other."""
    files = [
        path
        for path in (REPO_ROOT / 'configs').rglob('*.py')
        if '_base_' not in path.parts
    ]
    assert {*config_names().values()} == {*files} and len(files) > 40
    # As a shell and a completion script can write them.
    assert all(set(' .\'"$=:') & {*name} == set() for name in config_names())


def test_a_name_or_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = CONFIGS / 'selfsup/swav/swav_demo_digits.py'
    assert find_config('swav_demo_digits') == digits
    assert find_config(str(digits)) == digits
    # A folder or a file of that name, as a work dir may be, is no config.
    (tmp_path / 'swav_demo_digits').mkdir()
    (tmp_path / 'mine.py').touch()
    monkeypatch.chdir(tmp_path)
    assert find_config('swav_demo_digits') == digits
    assert find_config('mine.py') == Path('mine.py')


@pytest.mark.parametrize(
    ('config', 'meant'),
    [
        ('swav_demo_digit', '; did you mean swav_demo_digits or '),
        ('swav_demo_digits.py', '; did you mean swav_demo_digits?'),
        ('configs/knn_imagenett.py', '; did you mean knn_imagenet?'),
        ('8xb32-mcrop', 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e'),
        ('mine', '; did you mean mine.py?'),
        ('nothing_like_it', 'nothing_like_it'),
        ('', 'there is no config '),
    ],
)
def test_what_was_meant(
    config: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'mine.py').touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as found:
        find_config(config)
    assert meant in str(found.value)
