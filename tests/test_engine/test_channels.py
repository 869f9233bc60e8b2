"""Configs whose images have other channels than the model takes."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from swav_plugin.engine.channels import check_channels
from swav_plugin.engine.config import load_config
from swav_plugin.engine.errors import UsageError
from tests.conftest import REPO_ROOT

RGB_MEAN = [123.675, 116.28, 103.53]
OURS = dict(type='MultiViewPreprocessor', mean=RGB_MEAN, std=[58.0] * 3)
MULTI_CROP = dict(type='MultiCrop', num_views=[2])
FROM_FILE = dict(type='LoadImageFromFile')
PACK = dict(type='PackViews')
LOAD = dict(type='LoadImage')
DIGITS = 'configs/selfsup/swav/swav_demo_digits.py'


def config(pipeline: list[dict], preprocessor: dict, **model: Any) -> Config:
    """A config of one set of images, in a wrapper, and a model."""
    dataset = dict(type='RepeatDataset', dataset=dict(pipeline=pipeline))
    return Config(
        dict(
            model=dict(data_preprocessor=preprocessor, **model),
            test_cfg=dict(bank_dataloader=dict(dataset=dataset)),
        )
    )


@pytest.mark.parametrize('in_channels', [1, 2, 4, 13])
@pytest.mark.parametrize('pipeline', [[LOAD, PACK], [MULTI_CROP, PACK]])
def test_only_three_channels(in_channels: int, pipeline: list[dict]) -> None:
    backbone = dict(in_channels=in_channels)
    with pytest.raises(
        UsageError,
        match=f'model.backbone.in_channels={in_channels}, but .* 3 channels',
    ):
        check_channels(config(pipeline, OURS, backbone=backbone))
    check_channels(config(pipeline, OURS, backbone=dict(in_channels=3)))


def test_channels_of_pipelines_of_others_are_theirs() -> None:
    load = dict(FROM_FILE, color_type='grayscale')
    check_channels(
        config([load], dict(type='X'), backbone=dict(in_channels=1))
    )


@pytest.mark.parametrize(
    'pipeline',
    [
        [FROM_FILE, MULTI_CROP, PACK],
        [dict(type='mmdet.LoadImageFromNDArray'), dict(type='MultiView')],
        [dict(FROM_FILE, imdecode_backend='pillow'), PACK],
        [dict(FROM_FILE, color_type='unchanged'), LOAD],
        [FROM_FILE, dict(type='PackInputs')],
    ],
)
def test_bgr_loaders_are_refused_where_rgb_is_taken(
    pipeline: list[dict],
) -> None:
    with pytest.raises(UsageError, match=r"BGR.*dict\(type='LoadImage'\)"):
        check_channels(config(pipeline, OURS))


@pytest.mark.parametrize('option', ['to_rgb', 'bgr_to_rgb', 'rgb_to_bgr'])
def test_rgb_is_not_swapped(option: str) -> None:
    pack = dict(type='PackInputs')
    preprocessor = dict(type='X', mean=RGB_MEAN)
    check_channels(config([LOAD, pack], preprocessor))
    with pytest.raises(UsageError, match=f'data_preprocessor.{option}=True'):
        check_channels(config([LOAD, pack], {**preprocessor, option: True}))
    normalize = {'type': 'mmcv.Normalize', option: True}
    with pytest.raises(UsageError, match=f'Normalize.{option}=True would'):
        check_channels(config([LOAD, normalize, pack], preprocessor))


def test_preprocessor_at_the_top_of_a_config() -> None:
    cfg = config([LOAD], {})
    cfg.data_preprocessor = dict(to_rgb=True)
    with pytest.raises(UsageError, match='to_rgb=True would swap'):
        check_channels(cfg)


def test_bgr_images_with_the_mean_of_rgb() -> None:
    pack = dict(type='PackDetInputs')
    rgb = dict(type='DetDataPreprocessor', mean=RGB_MEAN, bgr_to_rgb=False)
    with pytest.raises(UsageError, match='mean=.* is in the order RGB; set t'):
        check_channels(config([FROM_FILE, pack], rgb))
    # What the configs of detectors do, with networks of either kind.
    check_channels(config([FROM_FILE, pack], {**rgb, 'bgr_to_rgb': True}))
    check_channels(config([FROM_FILE, pack], {**rgb, 'mean': RGB_MEAN[::-1]}))
    check_channels(config([FROM_FILE, pack], dict(type='X')))


def test_commands_refuse_it(tmp_path: Path) -> None:
    path = str(REPO_ROOT / DIGITS)
    load_config(path)
    with pytest.raises(UsageError, match='in_channels=1, but'):
        load_config(path, ['model.backbone.in_channels=1'])
    pipeline = 'train_dataloader.dataset.pipeline.0.type'
    with pytest.raises(UsageError, match='gives BGR images, but'):
        load_config(path, [f'{pipeline}=LoadImageFromFile'])
