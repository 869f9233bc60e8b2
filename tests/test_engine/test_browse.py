"""The views that are shown are those that a run gets."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from PIL import Image
from torch import Tensor

from swav_plugin.datasets.browse import browse_views, side_by_side
from swav_plugin.engine.browse import view_sizes_of_config, views_of_config
from swav_plugin.engine.config import load_config
from swav_plugin.engine.errors import UsageError
from swav_plugin.models import MultiViewPreprocessor
from swav_plugin.registry import MODELS

from ..test_faults.recipe import draw_images, write_config


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp('browse')
    images = draw_images(folder / 'images', 9)
    return write_config(folder / 'config.py', images)


@pytest.fixture(scope='module')
def trained(config: str) -> dict[int, list[Tensor]]:
    """The views of each image in the first epoch of a run."""
    cfg = load_config(config)
    with DefaultScope.overwrite_default_scope('swav_plugin'):
        # As the Runner: with its seed, before the first epoch.
        loader = Runner.build_dataloader(
            cfg.train_dataloader, seed=cfg.randomness.seed
        )
    return {
        int(sample.sample_idx): [views[i] for views in batch['inputs']]
        for batch in loader
        for i, sample in enumerate(batch['data_samples'])
    }


def test_views_are_those_of_the_first_epoch(
    config: str, trained: dict[int, list[Tensor]]
) -> None:
    """To the byte: the normalization is undone without a trace."""
    random.seed(0)  # of no use to the views
    seen = [*views_of_config(load_config(config), 9)]
    assert [each.index for each in seen] == [*range(9)]
    assert len(trained) == 8  # drop_last
    for each in seen:
        for shown, view in zip(each.views, trained.get(each.index, [])):
            expected = view.permute(1, 2, 0).numpy()
            assert shown.dtype == np.uint8
            assert np.array_equal(shown, expected)
        assert [len(view) for view in each.views] == [32, 32, 16, 16]
        photo = each.photo()
        assert photo is not None and len(photo) == 32


def test_views_that_the_device_cuts(
    config: str, trained: dict[int, list[Tensor]]
) -> None:
    key = 'train_dataloader.dataset.pipeline.1.on_device=True'
    cfg = load_config(config, [key])
    assert view_sizes_of_config(cfg) == [(32, 32)] * 2 + [(16, 16)] * 2
    (seen,) = views_of_config(cfg, 1)
    for shown, view in zip(seen.views, trained[0]):
        expected = view.permute(1, 2, 0).numpy().astype(int)
        assert np.abs(shown.astype(int) - expected).mean() < 1


def test_a_few_images_are_spread_over_the_set(config: str) -> None:
    cfg = load_config(config)
    before = cfg.pretty_text
    assert [each.index for each in views_of_config(cfg, 3)] == [0, 4, 8]
    assert cfg.pretty_text == before


def test_sizes_of_all_views_without_an_image(config: str) -> None:
    missing = 'train_dataloader.dataset.data_root=no/such/folder'
    cfg = load_config(config, [missing])
    assert view_sizes_of_config(cfg) == [(32, 32)] * 2 + [(16, 16)] * 2


def test_what_cannot_be_shown_is_named(config: str) -> None:
    with pytest.raises(UsageError, match='no val_dataloader'):
        next(views_of_config(load_config(config), 1, 'val'))


class LoadImageFromFile:
    """Loads BGR, as mmcv's does."""


class Samples:
    """A dataset of one image, whose pipeline is mmcv's."""

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self.pipeline: Any = DataSample()
        self.pipeline.transforms = [LoadImageFromFile()]

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.image, data_samples=DataSample())


def collate(samples: list[dict]) -> dict:
    inputs = torch.stack([sample['inputs'] for sample in samples])
    return dict(
        inputs=inputs, data_samples=[each['data_samples'] for each in samples]
    )


@pytest.mark.parametrize('to_rgb', [True, False])
def test_channels_of_other_packages_are_shown_as_rgb(to_rgb: bool) -> None:
    rgb = torch.randint(256, (3, 4, 5), dtype=torch.uint8)
    preprocess = MODELS.build(
        dict(
            type='SelfSupDataPreprocessor',
            mean=[100, 50, 0],
            std=[50, 60, 70],
            to_rgb=to_rgb,
        )
    )
    (seen,) = browse_views(Samples(rgb.flip(0)), [0], collate, preprocess)
    assert seen.file == '' and seen.photo() is None
    assert np.array_equal(seen.views[0], rgb.permute(1, 2, 0).numpy())


def test_views_that_were_normalized_before() -> None:
    preprocess = MultiViewPreprocessor([124, 116, 104], [58, 57, 57])
    samples = Samples(torch.randn(3, 8, 8))
    with pytest.raises(ValueError, match='does the pipeline normalize them'):
        next(browse_views(samples, [0], collate, preprocess))


def test_pictures_in_a_row(tmp_path: Path) -> None:
    black = np.zeros((32, 16, 3), np.uint8)
    strip = side_by_side([black, black[:16]], height=64)
    assert strip.size == (2 * 16 + 4 + 2 * 16, 64)
    pixels = np.asarray(strip.convert('L'))
    assert (pixels[:, :32] == 0).all() and (pixels[:, 32:36] == 255).all()
    assert (pixels[:32, 36:] == 0).all() and (pixels[32:, 36:] == 255).all()
    photo = Image.fromarray(black)
    assert side_by_side([np.asarray(photo)], height=8).size == (16, 32)
