"""Make the two mm-stacks, onedl's and the official one, look alike.

Both install the same modules (mmengine, mmcv, mmpretrain, ...), and neither
declares that it conflicts with the other.
"""

import os.path as osp
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import yaml

from swav_plugin.compat.moved import moved_names

__getattr__ = moved_names(__name__)

# Distributions that install a module: onedl's, then the official ones.
_PROVIDERS = {
    'mmengine': ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    'mmcv': ('onedl-mmcv', 'mmcv-lite', 'mmcv'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
}


def _is_distribution(name: str) -> bool:
    """Return True if pip has installed `name`."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def is_our_program() -> bool:
    """Return whether this is `swav` or `python -m swav_plugin`.

    While Python looks for a module to run, it imports the package that this
    is in, and calls the program '-m'.
    """
    if sys.argv[:1] == ['-m']:
        return 'swav_plugin' in sys.orig_argv
    return bool(sys.argv) and Path(sys.argv[0]).stem == 'swav'


def providers() -> dict[str, list[str]]:
    """Return the distributions that are installed of each mm-package."""
    return {
        module: [name for name in names if _is_distribution(name)]
        for module, names in _PROVIDERS.items()
    }


def check_distributions() -> None:
    """Check that each mm-package is installed, and only once.

    A module without metadata (vendored, or on PYTHONPATH) is accepted.

    Raises:
        ImportError: One is missing or installed twice; one line that names
            the pip command to run.
    """
    found = providers()
    for module, names in found.items():
        if len(names) > 1:
            raise ImportError(
                f'{module} is installed twice, by {" and ".join(names)}, '
                "which overwrite each other's files: run `pip uninstall -y "
                f'{" ".join(names)}`, then `pip install {names[0]}`.'
            )
    missing = [
        module
        for module, names in found.items()
        if not names and find_spec(module) is None
    ]
    if missing:
        installed = [names[0] for names in found.values() if names]
        of_onedl = not installed or installed[0].startswith('onedl-')
        wanted = [
            _PROVIDERS[module][0 if of_onedl else 1] for module in missing
        ]
        raise ImportError(
            f'swav_plugin needs {" and ".join(missing)}: run `pip install '
            f'{" ".join(wanted)}`.'
        )


def is_onedl() -> bool:
    """Return whether the stack is onedl's."""
    return _is_distribution('onedl-mmengine')


def install_hint(extra: str) -> str:
    """Return the command that installs one of our extras.

    pip finds what is installed, whether from a wheel or editable, by its name.
    A checkout that is not installed is found by its path only.
    """
    if _is_distribution('swav_plugin'):
        return f"pip install 'swav_plugin[{extra}]'"
    return f"pip install -e '.[{extra}]'"


def downstream_hint() -> str:
    """Return the command that installs mmdet and mmseg for this stack."""
    family = 'onedl' if is_onedl() else 'official'
    return install_hint(f'{family}-downstream')


def name_packages(utils: Any) -> None:
    """Make `_base_ = 'swav_plugin::...'` and `'mmseg::...'` resolve.

    Args:
        utils: `mmengine.config.utils`.
    """
    # mmengine asks pip first, then looks beside the module. pip may know a
    # copy that is not the one imported, so give a name that pip does not know.
    utils.MODULE2PACKAGE['swav_plugin'] = 'swav_plugin.registry'
    if not _is_distribution('mmsegmentation'):
        utils.MODULE2PACKAGE['mmseg'] = 'mmseg'  # onedl-mmsegmentation


def keep_pretty_text(config: Any) -> None:
    """Format a config once: mmengine does at each start and checkpoint.

    A detector's takes 0.6 s, and a run needs it for its log, its copy in the
    work dir and every checkpoint.

    Args:
        config: `mmengine.config.config`.
    """
    make: Callable[[Any], str] = config.Config.pretty_text.fget
    if hasattr(make, 'texts'):
        return
    texts: dict[str, str] = {}

    def pretty_text(self: Any) -> str:
        """Get formatted Python config text."""
        key = f'{self._format_python_code} {self._cfg_dict!r}'
        if key not in texts:
            if len(texts) > 8:
                texts.clear()
            texts[key] = make(self)
        return texts[key]

    pretty_text.texts = texts  # type: ignore[attr-defined]
    config.Config.pretty_text = property(pretty_text)


def read_plain_yaml(yaml_handler: Any) -> None:
    """Make mmengine run no code from the YAML that it reads.

    Args:
        yaml_handler: `mmengine.fileio.handlers.yaml_handler`.
    """
    yaml_handler.Loader = _PlainLoader


# The one in C is ten times as fast: for each `mmdet::` base of a config
# mmengine reads the hundred metafiles of mmdet.
_SafeLoader: Any = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)


class _PlainLoader(_SafeLoader):
    """Reads YAML into plain values, and the tuples that mmengine writes."""

    def read_tuple(self, node: yaml.SequenceNode) -> tuple:
        """Return a sequence as a tuple."""
        return tuple(self.construct_sequence(node, deep=True))


_PlainLoader.add_constructor(
    'tag:yaml.org,2002:python/tuple', _PlainLoader.read_tuple
)


class OperatorFinder:
    """Answers `import mmcv._ext` if nothing else does."""

    @staticmethod
    def find_spec(
        name: str, path: Any = None, target: Any = None
    ) -> ModuleSpec | None:
        """Return a spec of our operators, which import torchvision."""
        if name != 'mmcv._ext':
            return None
        file = osp.join(osp.dirname(__file__), 'mmcv_ops.py')
        return spec_from_file_location(name, file)


def setup_operators() -> None:
    """Give mmcv the operators of torchvision if it has none compiled."""
    # Last, so that compiled operators are found first.
    if OperatorFinder not in sys.meta_path:
        sys.meta_path.append(OperatorFinder)


def replace_pkg_resources(package_utils: Any) -> None:
    """Replace what mmengine <= 0.10.7 needs and setuptools >= 81 removed.

    Args:
        package_utils: `mmengine.utils.package_utils`.
    """
    needed = package_utils.is_installed.__code__.co_names
    if 'pkg_resources' not in needed or find_spec('pkg_resources'):
        return
    for name in (
        'mmengine.utils.package_utils',
        'mmengine.utils',
        'mmengine.config.config',
        'mmengine.hub.hub',
    ):
        module = sys.modules.get(name)
        for function in (is_installed, get_installed_path):
            if hasattr(module, function.__name__):
                setattr(module, function.__name__, function)


def is_installed(package: str) -> bool:
    """Return True if pip or Python knows `package`, as mmengine's does."""
    if _is_distribution(package):
        return True
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def get_installed_path(package: str) -> str:
    """Return the folder of a package, as mmengine's function of this name.

    Args:
        package: Its name for pip (mmsegmentation) or for Python (mmseg).

    Raises:
        ImportError: Python cannot find it.
    """
    module = package
    if _is_distribution(package):
        top_level = distribution(package).read_text('top_level.txt')
        module = top_level.split()[0] if top_level else package
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f'{package} is not installed as a package.')
    return osp.dirname(spec.origin)
