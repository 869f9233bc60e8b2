"""Build the model that a checkpoint or a config describes, and fill it.

Letters for shapes: C channels of the backbone, D embedding size, K
prototypes.
"""

import multiprocessing
import textwrap
from collections.abc import Mapping
from logging import WARNING, FileHandler
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger, print_log
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from mmpretrain.models import ImageClassifier
from torch import Tensor, nn

from swav_plugin.checkpoints import (
    RANDOM,
    Checkpoint,
    convert_state_dict,
    load_backbone,
    load_model,
)
from swav_plugin.checkpoints.keys import backbone_weights
from swav_plugin.checkpoints.model_settings import ModelSettings
from swav_plugin.checkpoints.training_state import check_finite
from swav_plugin.registry import MODELS

from .find_settings import find_settings, order_after
from .linear_probe import LinearProbe
from .resnet import resnet_config
from .swav import SwAV

_NECK = 'neck.projection.'
_PROTOTYPES = 'head.prototypes.'


def model_of_checkpoint(checkpoint: Checkpoint) -> nn.Module:
    """Build the network of a checkpoint and fill it with its weights.

    Depth, width and stem of the ResNet, the layers of the projection, K and
    the number of sets of prototypes are read from the weights; the rest from
    its `ModelSettings`. Where a file has none, they are those of SwAV on
    ImageNet, and a line in the log says so.

    Returns:
        A `SwAV` without a queue where the file has projection and prototypes,
        else mmpretrain's `ImageClassifier` with the backbone alone. Its
        `model_settings` are the `ModelSettings`.

    Raises:
        ValueError: The file does not hold the weights of such a network.
    """
    weights = convert_state_dict(checkpoint.weights)
    backbone = resnet_config(backbone_weights(checkpoint.weights))
    try:
        parts = _neck_and_head(weights)
    except ValueError as error:
        print_log(f'{checkpoint}: taking the backbone alone: {error}')
        parts = {}
    settings = checkpoint.settings or _defaults(checkpoint, bool(parts))
    preprocessor = _preprocessor(settings)
    model: Any
    if parts:
        parts['head'].update(
            epsilon=settings.epsilon,
            num_iters=settings.num_iters,
            temperature=settings.temperature,
        )
        model = _build(
            dict(
                type='SwAV',
                backbone=backbone,
                data_preprocessor=preprocessor,
                **parts,
            )
        )
        load_model(model, checkpoint)
    else:
        # mmpretrain gives the config of a preprocessor arguments of its own.
        model = ImageClassifier(
            _build(backbone), data_preprocessor=MODELS.build(preprocessor)
        )
        load_backbone(model.backbone, checkpoint)
    model.model_settings = settings
    return model


def _defaults(checkpoint: Checkpoint, has_head: bool) -> ModelSettings:
    """Return the settings of SwAV on ImageNet; say that they are taken."""
    default = ModelSettings()
    codes = (
        f', epsilon {default.epsilon}, {default.num_iters} sweeps of Sinkhorn '
        f'and temperature {default.temperature}'
    )
    if multiprocessing.parent_process() is not None:
        return default  # the process that started this one has told it
    print_log(
        f'{checkpoint} does not say how its images were prepared; taking '
        f"ImageNet's: {default}{codes if has_head else ''}. Change the crop "
        'with --size (size=), the rest with --config CONFIG '
        '(get_model(CONFIG, checkpoint=...)).'
    )
    return default


def _preprocessor(settings: ModelSettings) -> dict:
    """Return the config of a preprocessor that takes RGB images."""
    kind: dict[str, Any] = dict(type='MultiViewPreprocessor')
    if settings.channel_order == 'BGR':
        kind = dict(type='mmengine.ImgDataPreprocessor', rgb_to_bgr=True)
    return dict(kind, mean=settings.mean, std=settings.std)


def _neck_and_head(weights: Mapping[str, Tensor]) -> dict[str, dict]:
    """Return the configs of neck and head; {} where the file lacks one.

    Raises:
        ValueError: It has both, but not those of a `SwAV`.
    """
    linears = {
        int(key.removeprefix(_NECK).split('.')[0]): value.shape
        for key, value in weights.items()
        if key.startswith(_NECK) and value.dim() == 2
    }
    prototypes = [
        weights[key]
        for key in sorted(weights, key=lambda key: (len(key), key))
        if key.startswith(_PROTOTYPES) and key.endswith('.weight')
    ]
    if not linears or not prototypes:
        return {}
    if any(
        key.startswith(_PROTOTYPES) and key.endswith('.bias')
        for key in weights
    ):
        raise ValueError("its prototypes have a bias, unlike SwAV's.")
    layers = sorted(linears)
    has_norm = f'{_NECK}1.running_mean' in weights
    if layers != ([0, 3] if has_norm else [0, 2]) and layers != [0]:
        raise ValueError(
            f'its projection has linear layers at {layers}; a SwAVNeck has '
            'one or two, with batch norm or nothing between them.'
        )
    out_channels, _ = linears[layers[-1]]
    if any(each.shape[1] != out_channels for each in prototypes):
        raise ValueError(
            f'its prototypes have {[each.shape[1] for each in prototypes]} '
            f'values each, its embeddings {out_channels}.'
        )
    return dict(
        neck=dict(
            type='SwAVNeck',
            in_channels=linears[0][1],
            hid_channels=linears[0][0] if len(layers) == 2 else 0,
            out_channels=out_channels,
            norm_cfg=dict(type='BN1d') if has_norm else None,
        ),
        head=dict(
            type='SwAVHead', num_prototypes=[len(each) for each in prototypes]
        ),
    )


def model_of_config(cfg: Config, checkpoint: str | Checkpoint) -> nn.Module:
    """Build the model of a config and fill it.

    Args:
        cfg: The config; read by `engine.config`.
        checkpoint: As for `fill_model`.

    Raises:
        ValueError: The checkpoint lacks a part of the model.
    """
    built: Any = build_model(cfg)
    fill_model(built, checkpoint)
    settings = find_settings(built, cfg)
    if settings is not None:
        built.model_settings = settings
        if settings.channel_order != order_after(built.data_preprocessor):
            # Its pipeline loads BGR; features are those of RGB images.
            built.data_preprocessor = MODELS.build(_preprocessor(settings))
    return built


def build_model(cfg: Config) -> nn.Module:
    """Build the model of a config as mmengine's Runner does, not filled.

    Args:
        cfg: The config; read by `engine.config`.
    """
    model = dict(cfg.model)
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return _build(model, cfg.get('default_scope', 'swav_plugin'))


def _build(config: dict, scope: str = 'swav_plugin') -> nn.Module:
    """Build a model whose parts have no scope in front of their names."""
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(config)


def _init_weights(model: Any) -> None:
    """Initialize a model; name its tensors in a log file, if there is one.

    Without one mmengine logs a line for each of them on the screen.
    """
    logger = MMLogger.get_current_instance()
    level = logger.level
    if not any(isinstance(each, FileHandler) for each in logger.handlers):
        logger.setLevel(WARNING)
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)


def fill_model(model: Any, checkpoint: str | Checkpoint) -> str:
    """Give a model its weights, all of them; say what was done.

    Args:
        model: A `SwAV`, a classifier, a detector, ...
        checkpoint: As for `checkpoint_path`, or `RANDOM`.

    Raises:
        ValueError: The checkpoint lacks a part of the model.
    """
    if checkpoint == RANDOM:
        _init_weights(model)
        return 'The network is as initialized: no weights were loaded.'
    if isinstance(model, (SwAV, LinearProbe)):
        count = load_model(model, checkpoint)
    elif getattr(model, 'head', model) is None:  # detectors have several
        count = load_backbone(model.backbone, checkpoint)
    else:
        try:
            load_checkpoint(model, str(checkpoint), 'cpu', strict=True)
        except RuntimeError as error:
            raise ValueError(
                f'{checkpoint} does not fill this {type(model).__name__}: '
                'give a checkpoint of this model, or pass a backbone to '
                'swav train --pretrained. '
                f'{textwrap.shorten(str(error), 500)}'
            ) from None
        check_finite(model.state_dict(), checkpoint)
        count = len(model.state_dict())
    return f'Filled {count} tensors from {checkpoint}.'
