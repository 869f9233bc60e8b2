"""Read mmengine's new-style configs, which import what they name.

`type=SwAV` is then a class. The checks of a config, its file in the work dir
and a resume compare names, so a new-style config is rewritten into the dict
that its twin in the old style gives.
"""

from types import FunctionType, ModuleType
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.registry import Registry

from swav_plugin import registry


def name_types(cfg: Config) -> Config:
    """Return a config with names in place of classes.

    Args:
        cfg: Any config; one in the old style is returned as it is.

    Returns:
        Config: ``type='SwAV'`` where the class is registered and the default
            scope is ours, else ``type='mmdet.models.MaskRCNN'``, which every
            scope finds. What was imported is no key.

    Raises:
        ImportError: A config names a class that its module does not have.
    """
    imported = getattr(cfg, '_imported_names', ())
    if not imported:
        return cfg
    keys = {
        key: value
        for key, value in cfg._to_lazy_dict().items()
        if not isinstance(value, (FunctionType, ModuleType))
    }
    is_ours = keys.get('default_scope', 'swav_plugin') == 'swav_plugin'
    return Config(
        _rewrite(keys, is_ours), cfg_text=cfg.text, filename=cfg.filename
    )


def _rewrite(node: Any, is_ours: bool, key: str = '') -> Any:
    if isinstance(node, dict):
        return {k: _rewrite(value, is_ours, k) for k, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(_rewrite(item, is_ours) for item in node)
    if isinstance(node, (LazyAttr, LazyObject)):
        built = node.build()
        if key != 'type':
            return built
        name = getattr(built, '__name__', '')
        is_known = is_ours and built in _registered(name)
        return name if is_known else f'{node.module}.{node}'
    return node


def _registered(name: str) -> list[Any]:
    """Return what our scope finds under a name."""
    registries = [*vars(registry).values(), *vars(mmengine.registry).values()]
    return [
        found.get(name) for found in registries if isinstance(found, Registry)
    ]
