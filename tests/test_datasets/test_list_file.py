"""Lists are read as written and bad lines named; writing is all or nothing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swav_plugin.datasets import ImageFolder
from swav_plugin.datasets.list_file import (
    read_list,
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


@pytest.mark.parametrize('separator', [',', ', ', ' , ', '\t', '  '])
def test_comma_before_the_label(tmp_path: Path, separator: str) -> None:
    path = tmp_path / 'train.csv'
    path.write_text(f'a/abbey, old/1.jpg{separator}0\n')
    assert read_list(str(path)) == [('a/abbey, old/1.jpg', 0)]


@pytest.mark.parametrize(
    'lines, message',
    [
        ('a.jpg 1\nb.jpg -1\n', "line 2: 'b.jpg -1': '-1' is not a label"),
        ('a.jpg 1\nb.jpg cat\n', "line 2: .*'cat' is not a label"),
        ('a.jpg 1\n\nb.jpg 1.5\n', "line 3: .*'1.5' is not a label"),
        ('a.jpg 1\nb.jpg\n', "line 2: 'b.jpg': some lines have a label"),
        ('a.jpg\nb.jpg 1\n', "line 2: 'b.jpg 1': some lines have a label"),
        ('a.jpg 1\nb.jpg,-1\n', "line 2: 'b.jpg,-1': '-1' is not a label"),
        (
            'a.jpg 1\n\nb.jpg 0\na.jpg 1\n',
            'line 4: a.jpg is already on line 1;',
        ),
        ('b.jpg\n\na.jpg\n a.jpg\n', 'line 4: a.jpg is already on line 3;'),
        ('', 'list file .*/train.txt has no lines'),
        ('\n \n', 'list file .*/train.txt has no lines'),
    ],
)
def test_bad_list_files(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / 'train.txt').write_text(lines)
    with pytest.raises(ValueError, match=message):
        read_list(str(tmp_path / 'train.txt'))


def test_missing_list_file(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match='list file .*/train.txt does not exist'
    ):
        read_list(str(tmp_path / 'train.txt'))


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
