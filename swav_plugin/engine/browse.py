"""Look at the views that a config gives its model. V: views."""

import copy
from collections.abc import Iterator, Mapping

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from swav_plugin.datasets.browse import (
    SeenImage,
    browse_views,
    spread_evenly,
    view_sizes,
)
from swav_plugin.models.pretrained import build_model

from .config import change_config, check_has
from .walk import walk_config


def views_of_config(
    cfg: Config, number: int, phase: str = 'train'
) -> Iterator[SeenImage]:
    """Yield images of a config's dataset, evenly spread, with their views.

    They are the views that a run of this config gets in its first epoch.

    Args:
        cfg: From `load_config`; it stays as it is.
        number: How many images; there are fewer in a smaller set.
        phase: 'train', 'val' or 'test', the dataloader to look at.

    Raises:
        UsageError: The config has no such dataloader, or no model.
        FileNotFoundError, ValueError: The dataset cannot be built, or its
            views cannot be shown.
    """
    name = f'{phase}_dataloader'
    check_has(cfg, 'model', name)
    cfg = copy.deepcopy(cfg)
    change_config(cfg, [f'{name}.num_workers=0'], [])
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = Runner.build_dataloader(cfg[name])
        yield from browse_views(
            loader.dataset,
            spread_evenly(len(loader.dataset), number),
            loader.collate_fn,
            build_model(cfg).data_preprocessor,
            seed=(cfg.get('randomness') or {}).get('seed') or 0,
        )


def view_sizes_of_config(cfg: Config) -> list[tuple[int, int]]:
    """Return height and width of the V views of a training; reads no image.

    There are none if the config has no pipeline for training.
    """
    for _, node in walk_config(cfg.get('train_dataloader')):
        if isinstance(node, Mapping) and node.get('pipeline'):
            return view_sizes(node['pipeline'])
    return []
