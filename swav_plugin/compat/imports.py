"""Change modules of our dependencies as somebody imports them.

Changing one at once would import it, which takes seconds, for people who may
never need it.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module, reload
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

Execute = Callable[[ModuleType], None]

LOADERS = 'mmengine.runner.checkpoint'
EXTRA_NORM = 'mmpretrain.models.utils.res_layer_extra_norm'
DETECTORS = 'mmdet.models'


def _replace_loaders(execute: Execute, module: ModuleType) -> None:
    """Let mmengine read checkpoints as data; no code in them is run."""
    execute(module)
    use_safe_loaders(module)


def use_safe_loaders(module: ModuleType) -> None:
    """Replace what reads checkpoints in mmengine's module for them."""
    # By name, since checkpoints are above this room.
    import_module('swav_plugin.checkpoints.safe_load').use_in_mmengine(module)


def _without_mmdet(execute: Execute, module: ModuleType) -> None:
    """Let mmpretrain not import mmdet for a class of detectors.

    It takes a third of the start of a run that has no detector.
    """
    if DETECTORS in sys.modules:
        execute(module)
        return
    with _hidden('mmdet', DETECTORS):
        execute(module)


def _make_up_for_mmdet(execute: Execute, module: ModuleType) -> None:
    """Import mmdet, then define what mmpretrain left out without it."""
    execute(module)
    if getattr(sys.modules.get(EXTRA_NORM), 'ResLayerExtraNorm', module):
        return
    layer = reload(sys.modules[EXTRA_NORM]).ResLayerExtraNorm
    for name in 'mmpretrain.models.utils', 'mmpretrain.models':
        sys.modules[name].ResLayerExtraNorm = layer  # type: ignore


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Let modules look as if they were not installed."""
    missing = object()
    former: dict[str, Any] = {n: sys.modules.get(n, missing) for n in names}
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, module in former.items():
            if module is missing:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class Finder:
    """Runs a module's own code within one of the functions above."""

    changes: dict[str, Callable[[Execute, ModuleType], None]] = {
        LOADERS: _replace_loaders,
        EXTRA_NORM: _without_mmdet,
        DETECTORS: _make_up_for_mmdet,
    }

    @classmethod
    def find_spec(
        cls, name: str, path: Any = None, target: Any = None
    ) -> ModuleSpec | None:
        """Return the module's own spec, with our change around its code."""
        change = cls.changes.get(name)
        spec = None if change is None else PathFinder.find_spec(name, path)
        if change is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module
        spec.loader.exec_module = (  # type: ignore[method-assign]
            lambda module: change(execute, module)
        )
        return spec


def setup_imports() -> None:
    """Make the changes from now on, and at once what must not wait."""
    if LOADERS in sys.modules:
        use_safe_loaders(sys.modules[LOADERS])
    if Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)
