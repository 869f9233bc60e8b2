"""Images for the tests of datasets and transforms."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swav_plugin.datasets.transforms import read_rgb


def write_image(
    path: Path, seed: int, height: int = 40, width: int = 60
) -> np.ndarray:
    """Write a colorful PNG or JPEG, making folders; gives its pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(256, size=(5, 7, 3), dtype=np.uint8)
    img = Image.fromarray(coarse).resize((width, height))
    path.parent.mkdir(parents=True, exist_ok=True)
    img.save(path)
    return np.asarray(img)


@pytest.fixture(scope='session')
def photos(test_data: Path) -> list[np.ndarray]:
    """A few real photographs, (H, W, 3) uint8 RGB."""
    paths = sorted((test_data / 'photos').iterdir())[::14]
    return [read_rgb(path) for path in paths]
