"""Lists are read as written and bad lines named; writing is all or nothing."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swav_plugin.datasets import ImageFolder
from swav_plugin.datasets.list_file import (
    find_files,
    path_inside,
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
        ('a/b.jpg\na/./c/../b.jpg\n', 'line 2: .* is already on line 1;'),
        ('caf\u00e9.jpg\ncafe\u0301.jpg\n', 'line 2: .* already on line 1;'),
        ('a.jpg 0\nb.jpg 4294967296\n', 'line 2: .*4294967296 looks like an '),
        (f'a.jpg {"9" * 5000}\n', 'line 1: .*expected .path. on all lines'),
        ('a\0.\0j\0p\0g\0', 'zero byte; save the list in UTF-8'),
        ('', 'list file .*/train.txt has no lines'),
        ('\n \n', 'list file .*/train.txt has no lines'),
    ],
)
def test_bad_list_files(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / 'train.txt').write_text(lines)
    with pytest.raises(ValueError, match=message):
        read_list(str(tmp_path / 'train.txt'))


@pytest.mark.parametrize(
    'encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be']
)
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_lists_with_a_byte_order_mark(
    tmp_path: Path, encoding: str, end: str
) -> None:
    path = tmp_path / 'train.txt'
    mark = '\ufeff' if encoding[-2:] in ('le', 'be') else ''
    text = f'{mark}caf\xe9/1.jpg 3{end}b.jpg 1{end}'
    path.write_bytes(text.encode(encoding))
    assert read_list(str(path)) == [('caf\xe9/1.jpg', 3), ('b.jpg', 1)]


@pytest.mark.parametrize('in_list, on_disk', [('NFC', 'NFD'), ('NFD', 'NFC')])
def test_other_unicode_forms_are_the_same_file(
    tmp_path: Path, in_list: str, on_disk: str
) -> None:
    names = ['\xe9t\xe9/\xfcber/\xe5.jpg', '\uac00/1.jpg', 'plain/\xf1.jpg']
    spelled = [unicodedata.normalize(on_disk, name) for name in names]
    for name in spelled:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    if (tmp_path / unicodedata.normalize(in_list, names[0])).exists():
        pytest.skip('this file system compares names in any form')
    lines = [f'{unicodedata.normalize(in_list, name)} 0\n' for name in names]
    (tmp_path / 'train.txt').write_text(''.join(lines), encoding='utf-8')
    dataset = ImageFolder(tmp_path, ann_file='train.txt')
    assert [dataset.get_data_info(i)['img_path'] for i in range(3)] == [
        str(tmp_path / name) for name in spelled
    ]


def test_a_name_in_both_forms_is_two_files(tmp_path: Path) -> None:
    names = ['caf\xe9.jpg', 'cafe\u0301.jpg']
    for name in names:
        (tmp_path / name).touch()
    if len(os.listdir(tmp_path)) < 2:
        pytest.skip('this file system compares names in any form')
    paths = [str(tmp_path / name) for name in names]
    assert find_files(paths) == paths
    assert (
        find_files([str(tmp_path / 'cafe.jpg'), '\xe9/a.jpg', '\xe9'])
        == [None] * 3
    )


def test_class_folders_in_another_unicode_form(tmp_path: Path) -> None:
    for root, form in (('one', 'NFC'), ('two', 'NFD')):
        name = unicodedata.normalize(form, 'caf\xe9')
        (tmp_path / root / name).mkdir(parents=True)
        (tmp_path / root / name / '1.jpg').touch()
        (tmp_path / root / 'dog').mkdir()
        (tmp_path / root / 'dog/1.jpg').touch()
    dataset = ImageFolder([tmp_path / 'one', tmp_path / 'two'])
    assert dataset.metainfo['classes'] == ('caf\xe9', 'dog')
    labels = [dataset.get_data_info(i)['gt_label'] for i in range(4)]
    assert labels == [0, 1, 0, 1]


def test_a_high_label_is_quickly_read(tmp_path: Path) -> None:
    (tmp_path / 'a.jpg').touch()
    (tmp_path / 'train.txt').write_text('a.jpg 9999999\n')
    dataset = ImageFolder(tmp_path, ann_file='train.txt')
    assert dataset.num_classes == 10_000_000


@pytest.mark.parametrize(
    'name', ['../a', '/etc/passwd', 'a/../../b', '', '.', 'a\0', 'x/..']
)
def test_names_that_lead_out_of_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match='leads out of .*get the dataset ag'):
        path_inside(tmp_path, name)


def test_names_inside_a_folder(tmp_path: Path) -> None:
    for name in ('a.png', 'a/b.png', '..a/b..png', './a', 'c:a', 'a\\b'):
        assert path_inside(tmp_path, name) == tmp_path / name
    image = Image.new('L', (2, 2))
    with pytest.raises(ValueError, match='leads out'):
        write_class_folders(tmp_path / 'new', [(image, '../other')])
    assert not (tmp_path / 'other').exists()


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
