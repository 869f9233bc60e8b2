"""Modules that moved since 0.1.0: the old import paths work, and warn."""

import importlib
import sys
import warnings
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Old name -> new name. An entry goes one version after it came.
MOVED = {
    'swav_plugin.zoo': 'swav_plugin.checkpoints.zoo',
    'swav_plugin.compat.checkpoint_keys': 'swav_plugin.checkpoints.keys',
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
}


class MovedFinder(Loader):
    """Import the new module where an old name is asked for."""

    @classmethod
    def find_spec(
        cls, name: str, path: Any = None, target: Any = None
    ) -> ModuleSpec | None:
        """Answer for the old names only."""
        return ModuleSpec(name, cls()) if name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module under its new name, itself and not a copy."""
        new = MOVED[spec.name]
        warnings.warn(
            f'{spec.name} is now {new}; the old name goes in the next '
            'version.',
            DeprecationWarning,
            stacklevel=2,
        )
        module = importlib.import_module(new)
        # The import system overwrites `__spec__`; exec_module restores it.
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module has run under its new name."""
        module.__spec__ = self.spec


def setup_moved() -> None:
    """Make the old import paths work."""
    if MovedFinder not in sys.meta_path:
        sys.meta_path.append(MovedFinder)
