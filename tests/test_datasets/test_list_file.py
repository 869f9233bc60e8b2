"""Lists and class folders are written whole, or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swav_plugin.datasets import ImageFolder
from swav_plugin.datasets.image_folder import read_list
from swav_plugin.datasets.list_file import (
    new_folder,
    write_class_folders,
    write_list,
)


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
    with new_folder(tmp_path / 'new') as folder:
        write_class_folders(
            folder, zip(map(Image.fromarray, pixels), ['b', 'a', 'b'])
        )
        assert not (tmp_path / 'new').exists()
    dataset = ImageFolder(tmp_path / 'new', [dict(type='LoadImage')])
    samples = [dataset[i] for i in range(3)]
    assert [sample['gt_label'] for sample in samples] == [0, 1, 1]
    np.testing.assert_array_equal(
        [sample['img'] for sample in samples], pixels[[1, 0, 2]]
    )
    assert [path.name for path in tmp_path.iterdir()] == ['new']
    with pytest.raises(FileExistsError, match='remove it to make it anew'):
        with new_folder(tmp_path / 'new'):
            pass


def test_a_folder_that_failed_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        with new_folder(tmp_path / 'new') as folder:
            folder.mkdir()
            (folder / 'half').touch()
            raise ConnectionError('gone')
    assert not (tmp_path / 'new').exists()
    with new_folder(tmp_path / 'new') as folder:
        folder.mkdir()
    assert list((tmp_path / 'new').iterdir()) == []
