"""Tests of what makes onedl's and the official mm-packages look alike."""

import os.path as osp
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mmengine
import pytest
from mmengine.config import Config
from mmengine.utils import package_utils

from swav_plugin.compat import stack


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that pip knows just these distributions."""

    def pretend(*names: str) -> None:
        monkeypatch.setattr(stack, '_is_distribution', names.__contains__)

    return pretend


@pytest.mark.parametrize(
    'names',
    [
        ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain'),
        ('mmengine', 'mmcv', 'mmpretrain'),
        ('mmengine-lite', 'mmcv-lite', 'mmpretrain'),
        ('onedl-mmengine',),  # the others on PYTHONPATH
        (),
    ],
)
def test_accepted(install: Callable[..., None], names: tuple) -> None:
    install(*names)
    stack.check_distributions()


@pytest.mark.parametrize(
    'names, message',
    [
        (
            ('onedl-mmengine', 'mmengine'),
            'mmengine is installed twice, by onedl-mmengine and mmengine, .*'
            '`pip uninstall -y onedl-mmengine mmengine`, then '
            '`pip install onedl-mmengine`',
        ),
        (
            ('mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain'),
            'pip uninstall -y mmcv-lite mmcv',
        ),
        (
            ('mmengine', 'mmcv', 'mmpretrain', 'onedl-mmpretrain'),
            'mmpretrain is installed twice',
        ),
    ],
)
def test_installed_twice(
    install: Callable[..., None], names: tuple, message: str
) -> None:
    install(*names)
    with pytest.raises(ImportError, match=message):
        stack.check_distributions()


@pytest.mark.parametrize(
    'names, gone, command',
    [
        (
            (),
            ('mmengine', 'mmcv', 'mmpretrain'),
            'pip install onedl-mmengine onedl-mmcv onedl-mmpretrain`',
        ),
        (('onedl-mmengine',), ('mmcv',), 'pip install onedl-mmcv`'),
        # Not onedl's: it would bring a second mmengine.
        (
            ('mmengine',),
            ('mmcv', 'mmpretrain'),
            'pip install mmcv-lite mmpretrain`',
        ),
        (('mmengine-lite',), ('mmcv',), 'pip install mmcv-lite`'),
    ],
)
def test_missing(
    install: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    names: tuple,
    gone: tuple,
    command: str,
) -> None:
    install(*names)
    monkeypatch.setattr(
        stack,
        'find_spec',
        lambda module: None if module in gone else find_spec(module),
    )
    with pytest.raises(ImportError, match=command) as error:
        stack.check_distributions()
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'names, what',
    [
        (('swav_plugin', 'onedl-mmengine'), "'swav_plugin[onedl-downstream]'"),
        (('swav_plugin', 'mmengine'), "'swav_plugin[official-downstream]'"),
        (('onedl-mmengine',), "-e '.[onedl-downstream]'"),
    ],
)
def test_hint_fits_the_installation(
    install: Callable[..., None], names: tuple, what: str
) -> None:
    """Who has installed a wheel has no folder to name."""
    install(*names)
    assert stack.downstream_hint() == f'pip install {what}'


def test_real_metadata_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('mmengine', 'onedl_mmengine'):
        folder = tmp_path / f'{name}-0.10.7.dist-info'
        folder.mkdir()
        (folder / 'METADATA').write_text(f'Name: {name}\nVersion: 0.10.7\n')
    stack.check_distributions()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match='by onedl-mmengine and mmengine,'):
        stack.check_distributions()


@pytest.mark.parametrize(
    'names, expected',
    [
        (('onedl-mmsegmentation',), 'mmseg'),
        (('mmsegmentation',), 'mmsegmentation'),
    ],
)
def test_configs_of_mmseg_are_looked_up_by_an_installed_name(
    install: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    names: tuple,
    expected: str,
) -> None:
    packages = {'mmseg': 'mmsegmentation'}
    monkeypatch.setattr(mmengine.config.utils, 'MODULE2PACKAGE', packages)
    install(*names)
    stack.name_packages(mmengine.config.utils)
    assert packages['mmseg'] == expected


@pytest.mark.parametrize('package', ['mmpretrain', 'swav_plugin.registry'])
def test_installed_path(package: str) -> None:
    spec = find_spec(package.partition('.')[0])
    assert spec is not None and spec.origin is not None
    assert stack.is_installed(package)
    assert stack.get_installed_path(package) == osp.dirname(spec.origin)


def test_installed_path_by_pip_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some mm-packages have two names, such as mmaction2 and mmaction."""
    (tmp_path / 'my_module').mkdir()
    (tmp_path / 'my_module/__init__.py').touch()
    metadata = tmp_path / 'my_name-1.0.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text('Name: my-name\nVersion: 1.0\n')
    (metadata / 'top_level.txt').write_text('my_module\nmy_tests\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert stack.is_installed('my-name')
    assert stack.get_installed_path('my-name') == str(tmp_path / 'my_module')


def test_not_installed() -> None:
    assert not stack.is_installed('no-such-package')
    with pytest.raises(ImportError, match='no-such-package is not installed'):
        stack.get_installed_path('no-such-package')


def test_pkg_resources_is_replaced_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    def is_installed(package: str) -> bool:
        """Import as mmengine 0.10.7 does."""
        import pkg_resources

        return bool(pkg_resources)

    users = [package_utils, mmengine.utils, mmengine.config.config]
    for module in users:
        monkeypatch.setattr(module, 'is_installed', is_installed)
        monkeypatch.setattr(module, 'get_installed_path', is_installed)

    monkeypatch.setattr(stack, 'find_spec', lambda name: 'it is there')
    stack.replace_pkg_resources(package_utils)
    assert all(user.is_installed is is_installed for user in users)

    monkeypatch.setattr(stack, 'find_spec', lambda name: None)
    stack.replace_pkg_resources(package_utils)
    for user in users:
        assert user.is_installed is stack.is_installed
        assert user.get_installed_path is stack.get_installed_path
    assert 'pkg_resources' not in sys.modules


def test_a_config_is_formatted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from yapf.yapflib import yapf_api

    formatted: list[str] = []
    original = yapf_api.FormatCode

    def count(text: str, **options: Any) -> tuple[str, bool]:
        formatted.append(text)
        return original(text, **options)

    monkeypatch.setattr(yapf_api, 'FormatCode', count)
    cfg = Config(
        dict(model=dict(type='A', layers=[1, 2]), name='of this test')
    )
    first = cfg.pretty_text
    assert first == Config(cfg.to_dict()).pretty_text and len(formatted) == 1
    cfg.model.layers.append(3)
    assert '3' in cfg.pretty_text
    assert cfg.pretty_text != first and len(formatted) == 2
