"""Lists and class folders are read as they were written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swav_plugin.datasets import ImageFolder
from swav_plugin.datasets.image_folder import read_list
from swav_plugin.datasets.list_file import write_class_folders, write_list


def test_lists_are_read_as_they_were_written(tmp_path: Path) -> None:
    images = [('my cats/1.jpg', 1), ('b.jpg', 0), ('a, b.jpg', 1)]
    (tmp_path / 'my cats').mkdir()
    for name, _ in images:
        (tmp_path / name).touch()
    path = tmp_path / 'meta/train.txt'
    assert write_list(path, images, tmp_path) == (
        f'{path}: 3 images of 2 classes'
    )
    assert read_list(str(path)) == images
    with pytest.raises(
        FileNotFoundError, match='1 of 1 images for .*train.txt .*/c.jpg'
    ):
        write_list(path, [('c.jpg', 0)], tmp_path)
    with pytest.raises(ValueError, match='no images to list in .*train.txt'):
        write_list(path, [], tmp_path)
    assert read_list(str(path)) == images


def test_class_folders(tmp_path: Path) -> None:
    pixels = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
    write_class_folders(
        tmp_path / 'new', zip(map(Image.fromarray, pixels), ['b', 'a', 'b'])
    )
    dataset = ImageFolder(tmp_path / 'new', [dict(type='LoadImage')])
    samples = [dataset[i] for i in range(3)]
    assert [sample['gt_label'] for sample in samples] == [0, 1, 1]
    np.testing.assert_array_equal(
        [sample['img'] for sample in samples], pixels[[1, 0, 2]]
    )
