"""Refuse configs whose model expects other channels than its images have.

`LoadImage` gives three channels in the order RGB; mmcv's LoadImageFromFile,
whatever its options, gives BGR.
"""

from collections.abc import Mapping

from mmengine.config import Config

from .errors import UsageError
from .walk import walk_config

# Transforms that give or take three channels, and those that take RGB.
_THREE_CHANNELS = {'LoadImage', 'MultiCrop'}
_TAKE_RGB = {'LoadImage', 'MultiCrop', 'MultiView', 'PackViews'}
# Options of preprocessors and of mmcv's Normalize that swap R and B.
_SWAPS = ('to_rgb', 'bgr_to_rgb', 'rgb_to_bgr')


def check_channels(cfg: Config) -> None:
    """Check the number and the order of channels, before anything is built.

    Raises:
        UsageError: They do not fit; says what to change.
    """
    model = cfg.get('model') or {}
    preprocessor = (
        model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    )
    in_channels = (model.get('backbone') or {}).get('in_channels', 3)
    for keys, node in walk_config(cfg._cfg_dict):
        if keys[-1:] != ('pipeline',) or not isinstance(node, (list, tuple)):
            continue
        where = '.'.join(keys)
        pipeline = [each for each in node if isinstance(each, Mapping)]
        names = [_type_name(transform) for transform in pipeline]
        ours = _THREE_CHANNELS.intersection(names)
        if ours and in_channels != 3:
            raise UsageError(
                f'model.backbone.in_channels={in_channels}, but '
                f'{min(ours)} gives images of 3 channels, RGB; set it to 3 '
                '(gray images become RGB)'
            )
        bgr = [name for name in names if name.startswith('LoadImageFrom')]
        rgb = [name for name in names if name in _TAKE_RGB]
        if bgr and (
            rgb or _type_name(preprocessor) == 'MultiViewPreprocessor'
        ):
            raise UsageError(
                f'{bgr[0]} gives BGR images, but '
                f'{rgb[0] if rgb else "MultiViewPreprocessor"} takes them for '
                "RGB; use dict(type='LoadImage') instead"
            )
        if 'LoadImage' in names:
            _refuse_swap('model.data_preprocessor', preprocessor, where)
            for transform in pipeline:
                _refuse_swap(_type_name(transform), transform, where)
        mean = preprocessor.get('mean') or ()
        if bgr and not _swap_option(preprocessor) and mean[:1] > mean[2:3]:
            raise UsageError(
                f'{bgr[0]} gives BGR images, but model.data_preprocessor.mean='
                f'{list(mean)} is in the order RGB; set to_rgb=True there '
                '(bgr_to_rgb=True in mmdet and mmseg)'
            )


def _type_name(config: Mapping) -> str:
    """Return the name of a class, without a scope, from its config."""
    kind = config.get('type', '')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def _swap_option(config: Mapping) -> str | None:
    """Return the option of a transform or preprocessor that swaps R and B."""
    return next((name for name in _SWAPS if config.get(name)), None)


def _refuse_swap(name: str, config: Mapping, where: str) -> None:
    """Raise if RGB images would become BGR."""
    option = _swap_option(config)
    if option is not None:
        raise UsageError(
            f'LoadImage, in {where}, gives RGB images, but {name}.{option}='
            'True would swap red and blue; set it to False'
        )
