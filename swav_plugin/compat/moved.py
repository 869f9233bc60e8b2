"""Keep names of 0.1.0 working that have changed since, with a warning."""

import functools
import importlib
import sys
import warnings
from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec('_P')
_R = TypeVar('_R')

# Old name -> new name, of modules and of 'module:name' in them, where module
# is the one that exists now. An entry is removed one version after it was
# added. The names that `engine.launch` had are listed by their new modules.
_FROM_LAUNCH = dict(
    config='load_config parse_options check_keys set_mixed_precision',
    checks='check_batches check_weights check_resume check_load_from '
    'check_labels',
    processes='set_launcher init_cpu_group prepare_processes end_processes '
    'leave_cpu_group leave_cores_to_workers count_cores',
)
MOVED = {
    'swav_plugin.zoo': 'swav_plugin.checkpoints.zoo',
    'swav_plugin.compat.checkpoint_keys': 'swav_plugin.checkpoints',
    'swav_plugin.compat.download': 'swav_plugin.checkpoints.download',
    'swav_plugin.compat.safe_load': 'swav_plugin.checkpoints.safe_load',
    'swav_plugin.datasets.export': 'swav_plugin.datasets.list_file',
    'swav_plugin.engine.atomic_backend': 'swav_plugin.checkpoints.atomic',
    'swav_plugin.models.batch_augment': (
        'swav_plugin.datasets.transforms.device_ops'
    ),
    'swav_plugin.models.batch_decode': (
        'swav_plugin.datasets.transforms.device_decode'
    ),
    'swav_plugin.datasets.transforms.fused_ops': (
        'swav_plugin.datasets.transforms.cpu_ops'
    ),
    'swav_plugin.datasets.transforms.encoded_image': (
        'swav_plugin.datasets.transforms.loading'
    ),
    'swav_plugin.datasets.transforms.whole_image': (
        'swav_plugin.datasets.transforms.formatting'
    ),
    **{
        f'swav_plugin.engine.{name}_hook': f'swav_plugin.engine.hooks.{name}'
        for name in (
            'pictures',
            'pretrained',
            'results',
            'runtime_info',
            'skipped_images',
            'swav',
        )
    },
    **{
        f'swav_plugin.engine.launch:{name}': (
            f'swav_plugin.engine.{module}:{name}'
        )
        for module, names in _FROM_LAUNCH.items()
        for name in names.split()
    },
    'swav_plugin.compat.stack:setup_stack': (
        'swav_plugin.checkpoints.loaders:use_in_mmengine'
    ),
    'swav_plugin.datasets.check:Report': (
        'swav_plugin.datasets.check:DatasetReport'
    ),
    'swav_plugin.datasets.check:Split': (
        'swav_plugin.datasets.check:DatasetSplit'
    ),
    'swav_plugin.datasets.check:Known': (
        'swav_plugin.datasets.check:KnownDataset'
    ),
    'swav_plugin.datasets.list_file:new_folder': (
        'swav_plugin.checkpoints.atomic:new_folder'
    ),
    **{
        f'swav_plugin.evaluation{module}:nearest_neighbours': (
            'swav_plugin.evaluation.knn:nearest_neighbors'
        )
        for module in ('', '.knn')
    },
    'swav_plugin.evaluation.feature_store:Result': (
        'swav_plugin.engine.results:Result'
    ),
    'swav_plugin.evaluation.svm:VOC07SVM': (
        'swav_plugin.evaluation.voc07_svm:VOC07SVM'
    ),
    'swav_plugin.models.feature_pooling:PAGE_WINDOWS': (
        'swav_plugin.models.feature_pooling:MMSELFSUP_WINDOWS'
    ),
}


def warn_renamed(old: str, new: str, stacklevel: int = 2) -> None:
    """Warn that an old name was used.

    Not a DeprecationWarning, which Python shows to nobody but the author of
    the script that runs: whoever uses an old name in a config is to see it.

    Args:
        old: Name of version 0.1.
        new: Its name now.
        stacklevel: As of `warnings.warn`, counted from the caller.
    """
    warnings.warn(
        f'{old} is now {new}; the next version will not have the old name.',
        FutureWarning,
        stacklevel=stacklevel + 1,
    )


def moved_names(module: str) -> Callable[[str], Any]:
    """Return a `__getattr__` for a module, which finds its old names."""

    def find(name: str) -> Any:
        new = MOVED.get(f'{module}:{name}')
        if new is None:
            raise AttributeError(
                f'module {module!r} has no attribute {name!r}'
            )
        warn_renamed(f'{module}.{name}', new.replace(':', '.'))
        home, _, new_name = new.partition(':')
        return getattr(importlib.import_module(home), new_name)

    return find


class MovedFinder(Loader):
    """Import the new module in place of the old one."""

    @classmethod
    def find_spec(
        cls, name: str, path: Any = None, target: Any = None
    ) -> ModuleSpec | None:
        """Return a spec for an old name, and None for any other."""
        return ModuleSpec(name, cls()) if name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module under its new name, itself and not a copy."""
        new = MOVED[spec.name]
        warn_renamed(spec.name, new)
        module = importlib.import_module(new)
        # The import system overwrites `__spec__`; exec_module restores it.
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module has already run under its new name."""
        module.__spec__ = self.spec


def setup_moved() -> None:
    """Make the old import paths work."""
    if MovedFinder not in sys.meta_path:
        sys.meta_path.append(MovedFinder)


def renamed_arguments(
    **new_names: str,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let a function take arguments by their old names, with a warning.

    An old name wins over the new one, and the warning says so: a config of
    the last version that changes something in one of ours gives both.

    Args:
        new_names: New name of each argument, by its old one.

    >>> @renamed_arguments(colour='color')
    ... def paint(color):
    ...     return color
    >>> paint(colour='red')
    'red'
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        name = function.__qualname__.removesuffix('.__init__')
        name = name.rpartition('.')[2]

        @functools.wraps(function)
        def renamed(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            for old, new in new_names.items():
                if old in kwargs:
                    now = f'{new}=...'
                    if new in kwargs:
                        now += f' (both are given; {old} is used)'
                    warn_renamed(f'{name}({old}=...)', now)
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return renamed

    return decorate
