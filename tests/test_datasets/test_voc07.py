"""VOC07: marks of classes, and lists that cannot be right."""

from pathlib import Path

import numpy as np
import pytest

from swav_plugin.datasets.voc07 import CLASSES, VOC07
from swav_plugin.registry import DATASETS


def write_lists(root: Path, marks: dict[str, list[str]]) -> Path:
    """Lists of all classes for images 1.jpg, 2.jpg, ...; -1 by default."""
    (root / 'ImageSets/Main').mkdir(parents=True)
    (root / 'JPEGImages').mkdir()
    for i in range(1, 4):
        (root / f'JPEGImages/{i:06}.jpg').touch()
    for name in CLASSES:
        lines = [
            f'{i:06} {mark:>2}'
            for i, mark in enumerate(marks.get(name, ['-1'] * 3), 1)
        ]
        path = root / f'ImageSets/Main/{name}_trainval.txt'
        path.write_text('\n'.join(lines) + '\n')
    return root


def test_marks_are_the_references(tmp_path: Path) -> None:
    root = write_lists(
        tmp_path, dict(bird=['1', '-1', '0'], tvmonitor=['-1', '1', '1'])
    )
    dataset = VOC07(str(root), 'trainval')
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    expected = np.zeros((3, 20), np.int8)
    expected[:, 2], expected[:, 19] = [1, 0, -1], [0, 1, 1]
    np.testing.assert_array_equal([i['gt_label'] for i in infos], expected)
    assert infos[1]['img_path'] == str(root / 'JPEGImages/000002.jpg')
    assert dataset.metainfo['classes'] == CLASSES == tuple(sorted(CLASSES))


def test_counts_of_real_lists(test_data: Path) -> None:
    root = test_data / 'voc2012_mini/VOCdevkit/VOC2012'
    pipeline = [dict(type='LoadImage'), dict(type='PackViews')]
    dataset = DATASETS.build(
        dict(
            type='swav_plugin.VOC07',
            data_root=str(root),
            split='val',
            pipeline=pipeline,
        )
    )
    marks = np.array(
        [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))]
    )
    assert marks.shape == (240, 20)
    # Counted with grep -c ' 1$' in the lists.
    counts = dict(zip(CLASSES, (marks == 1).sum(0).tolist()))
    assert [
        counts[name]
        for name in ('aeroplane', 'cat', 'person', 'train', 'tvmonitor')
    ] == [5, 22, 83, 11, 10]
    packed = dataset[0]
    assert packed['data_samples'].gt_label.tolist() == marks[0].tolist()


def test_bad_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='plane_trainval.txt; data'):
        VOC07(str(tmp_path), 'trainval')
    root = write_lists(tmp_path / 'a', dict(cow=['1', '-1', '2']))
    with pytest.raises(ValueError, match="cow_trainval.txt, line 3: '000003"):
        VOC07(str(root), 'trainval')
    root = write_lists(tmp_path / 'b', dict(cow=['1', '-1']))
    with pytest.raises(ValueError, match='cow_trainval.txt lists different'):
        VOC07(str(root), 'trainval')
    root = write_lists(tmp_path / 'c', {})
    (root / 'JPEGImages/000002.jpg').unlink()
    with pytest.raises(
        FileNotFoundError,
        match="1 of 3 images of split 'trainval'.*000002.jpg",
    ):
        VOC07(str(root), 'trainval')
    root = write_lists(tmp_path / 'd', {})
    with open(root / 'ImageSets/Main/aeroplane_trainval.txt', 'a') as lines:
        lines.write('000002 -1\n')
    with pytest.raises(ValueError, match='line 4: 000002 is already listed'):
        VOC07(str(root), 'trainval')


def test_lists_with_a_byte_order_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_lists(tmp_path / 'voc', dict(cow=['1', '-1', '0']))
    for path in (root / 'ImageSets/Main').iterdir():
        text = path.read_text()
        path.write_text(text, encoding='utf-8-sig')
    monkeypatch.setenv('HOME', str(tmp_path))
    dataset = VOC07('~/voc', 'trainval')
    assert dataset.get_data_info(0)['gt_label'].sum() == 1


def test_names_that_lead_out_of_the_folder(tmp_path: Path) -> None:
    root = write_lists(tmp_path, {})
    for path in (root / 'ImageSets/Main').iterdir():
        path.write_text(path.read_text().replace('000002', '../../secret'))
    with pytest.raises(ValueError, match="'../../secret.jpg' leads out of"):
        VOC07(str(root), 'trainval')
