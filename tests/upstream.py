"""Configs of mmdet and mmseg as installed, for comparison with ours."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from mmengine.config import Config


def without_scopes(value: Any) -> Any:
    """Leave out mmengine's notes on what a base brings; tuples to lists."""
    if isinstance(value, dict):
        return {
            key: without_scopes(item)
            for key, item in value.items()
            if key != '_scope_'
        }
    if isinstance(value, (list, tuple)):
        return [without_scopes(item) for item in value]
    return value


def changed(bases: Sequence[str], changes: dict[str, Any]) -> dict[str, Any]:
    """Merge files of theirs, then set values at dotted paths.

    Args:
        bases: 'mmdet::_base_/....py' and the like.
        changes: Path to its value, which replaces all that was there. Numbers
            in a path count in lists.
    """
    config = without_scopes(
        Config.fromstring(f'_base_ = {[*bases]}', '.py').to_dict()
    )
    for path, value in changes.items():
        *folders, last = (
            int(key) if key.isdigit() else key for key in path.split('.')
        )
        place = config
        for folder in folders:
            place = place[folder]
        place[last] = deepcopy(without_scopes(value))
    return config
