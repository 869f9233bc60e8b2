"""Find in a model and its config what `ModelSettings` are to say."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from swav_plugin.checkpoints.model_settings import ModelSettings
from swav_plugin.registry import type_name

from .swav_head import SwAVHead

_DEFAULT = ModelSettings()
_LOADERS = ('val_dataloader', 'test_dataloader', 'train_dataloader')


def find_settings(model: Any, cfg: Mapping[str, Any]) -> ModelSettings | None:
    """Return how a model's images are prepared, and its codes computed.

    Args:
        model: A model, without a wrapper around it.
        cfg: Its config. Sizes are those of the validation, or else of the
            test; where there is neither, those of the first random view.

    Returns:
        None if the model does not normalize three channels, or the config
        does not say which size its images have, or they have masks or boxes.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    mean: Any = getattr(preprocessor, 'mean', None)
    std: Any = getattr(preprocessor, 'std', None)
    if not _is_rgb(mean) or not _is_rgb(std):
        return None
    sizes = _find_sizes(cfg)
    if sizes is None:
        return None
    names = {
        _type_name(transform)
        for name in _LOADERS
        for transform in _pipeline(cfg.get(name)) or ()
    }
    if any(name.startswith('LoadAnnotations') for name in names):
        return None
    order = order_after(preprocessor)
    if any(name.startswith('LoadImageFrom') for name in names):  # mmcv's
        order = order[::-1]
    found = ModelSettings(
        mean=tuple(mean.flatten().tolist()),
        std=tuple(std.flatten().tolist()),
        channel_order=order,
        size=sizes[0],
        resize=sizes[1],
    )
    head = getattr(model, 'head', None)
    if not isinstance(head, SwAVHead):
        return found
    return replace(
        found,
        epsilon=head.epsilon,
        num_iters=head.num_iters,
        temperature=head.temperature,
    )


def order_after(preprocessor: Any) -> str:
    """Return the order of channels that RGB images have after it."""
    swaps = getattr(preprocessor, '_channel_conversion', False)
    return 'BGR' if swaps else 'RGB'


def _is_rgb(values: Any) -> bool:
    return isinstance(values, Tensor) and values.numel() == 3


def _find_sizes(cfg: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the sides in pixels of the center crop and of what it cuts."""
    view = _view_size(_pipeline(cfg.get('train_dataloader')) or ())
    for name in ('val_dataloader', 'test_dataloader'):
        pipeline = _pipeline(cfg.get(name))
        if pipeline is None:
            continue
        crop, edge = (
            _last_size(pipeline, kinds, keys)
            for kinds, keys in (
                (('CenterCrop',), ('crop_size', 'size')),
                (('ResizeEdge', 'Resize'), ('scale', 'size')),
            )
        )
        if crop and edge and crop <= edge:
            return crop, edge
        if edge and not crop:
            return edge, edge
        if view and not crop:  # whole images, as those of CIFAR-10
            return view, view
    if view is None:
        return None
    return view, _DEFAULT.at(view).resize


def _pipeline(loader: Any) -> Sequence[Any] | None:
    """Return the transforms of a loader, also of a dataset in another."""
    return next(_pipelines(loader), None)


def _pipelines(node: Any) -> Iterator[Sequence[Any]]:
    if isinstance(node, Mapping):
        if isinstance(node.get('pipeline'), (list, tuple)):
            yield node['pipeline']
        node = [*node.values()]
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _pipelines(child)


def _view_size(pipeline: Sequence[Any]) -> int | None:
    """Return the size of the first view, or crop, of a training."""
    for transform in pipeline:
        kind = _type_name(transform)
        if kind == 'MultiView':
            size = _view_size((transform.get('transforms') or [()])[0])
        elif kind == 'MultiCrop':
            size = _side(transform.get('sizes', transform.get('scales')))
        elif 'Crop' in kind:
            size = next(
                filter(
                    None,
                    (
                        _side(transform.get(key))
                        for key in ('size', 'crop_size', 'scale')
                    ),
                ),
                None,
            )
        else:
            continue
        if size:
            return size
    return None


def _last_size(
    pipeline: Sequence[Any], kinds: Sequence[str], keys: Sequence[str]
) -> int | None:
    """Return the side in pixels that the last transform of a kind gives."""
    sizes = [
        _side(transform.get(key))
        for transform in pipeline
        if _type_name(transform) in kinds
        for key in keys
    ]
    return next(filter(None, reversed(sizes)), None)


def _side(value: Any) -> int | None:
    """Return the first of one or two sides in pixels."""
    if isinstance(value, (list, tuple)):
        value = value[0] if value else None
    return value if isinstance(value, int) and value > 0 else None


def _type_name(transform: Any) -> str:
    """Return the name of a transform's class, from its config."""
    kind = transform.get('type', '') if isinstance(transform, Mapping) else ''
    return type_name(kind)
