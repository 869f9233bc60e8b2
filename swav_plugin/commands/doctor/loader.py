"""Time the loader of the ImageNet recipe: images/s. B: images, V: views."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from swav_plugin.engine.planner.costs import Views
from swav_plugin.registry import DATASETS
from swav_plugin.shipped import find_config

RECIPE = 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96'
_NUM_DRAWN = 64
_BATCH_SIZE = 16  # small, so that a slow core gives some in a few seconds


def draw_photos(folder: Path) -> None:
    """Write JPEG files of the size of ImageNet's: 500x375 px, about 100 kB."""
    rng = np.random.default_rng(0)
    for number in range(_NUM_DRAWN):
        coarse = rng.integers(256, size=(24, 32, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize((500, 375))
        grain = rng.normal(0, 12, size=(375, 500, 1))
        pixels = (np.asarray(photo) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f'{number}.jpg', quality=85)


def recipe_loader(folder: str) -> Config:
    """Return the train_dataloader of the recipe, with the images of a folder.

    Its batches are never the last: images repeat for ever.
    """
    loader = Config.fromfile(find_config(RECIPE)).train_dataloader
    loader.sampler = dict(type='InfiniteSampler', seed=0)
    loader.dataset.data_root = folder
    return loader


def views_of(loader: Config) -> Views:
    """Return the views that the recipe cuts."""
    crop = loader.dataset.pipeline[1]
    return Views((*zip(crop.num_views, crop.sizes, crop.crop_ratio_ranges),))


def time_loader(
    loader: Config, dataset: Any, num_workers: int, seconds: float
) -> float:
    """Return how many images worker processes load in a second.

    Args:
        loader: From `recipe_loader`.
        dataset: Built from it.
        num_workers: How many processes.
        seconds: How long to load.
    """
    settings = dict(
        loader,
        dataset=dataset,
        batch_size=_BATCH_SIZE,
        num_workers=num_workers,
        persistent_workers=False,
        pin_memory=torch.cuda.is_available(),
    )
    batches = iter(Runner.build_dataloader(settings, seed=0))
    for _ in range(num_workers):  # they start one after another
        next(batches)
    count = 0
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        next(batches)
        count += _BATCH_SIZE
    return count / (time.monotonic() - begin)


def build_dataset(loader: Config) -> Any:
    """Build the dataset, and let numba compile its loops in this process."""
    dataset = DATASETS.build(loader.dataset)
    dataset[0]
    return dataset
