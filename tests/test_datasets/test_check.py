"""check: numbers of real sets, and each defect by its message."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swav_plugin.datasets import check as module
from swav_plugin.datasets.check import NAMES, DatasetReport, check, labels
from swav_plugin.datasets.voc07 import CLASSES
from swav_plugin.shipped import TOOLS

from .conftest import write_image

# From the sets' own pages and papers: images of each split, classes.
PUBLISHED = {
    'imagenet': ([1281167, 50000], 1000),
    'imagenet_1percent': ([12811, 50000], 1000),
    'imagenet_10percent': ([128116, 50000], 1000),
    'places205': ([2448873, 20500], 205),
    'inaturalist2018': ([437513, 24426], 8142),
    'cifar10': ([50000, 10000], 10),
    'folder': ([], 0),
    'voc07': ([5011, 4952], 20),
    'voc0712': ([5011, 4952, 11540], 20),
    'coco': ([118287, 5000], 80),
    'coco_boxes': ([118287, 5000], 80),
    'voc12aug': ([1464, 9118, 1449], 21),
    'cityscapes': ([2975, 500], 19),
}


def test_published_numbers() -> None:
    known = {
        name: (list(known.num_images.values()), known.num_classes)
        for name, known in module._SETS.items()
    }
    assert known == PUBLISHED
    assert NAMES == tuple(PUBLISHED)


def problem(name: str, root: Path, **options: bool) -> str:
    """Return what is wrong with a part of a set."""
    found = check(name, root, any_size=True, **options).problem
    assert found is not None
    return found


@pytest.fixture
def expect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change the published numbers of a set."""

    def change(
        name: str, num_images: dict[str, int], num_classes: int
    ) -> None:
        monkeypatch.setitem(
            module._SETS,
            name,
            module._SETS[name]._replace(
                num_images=num_images, num_classes=num_classes
            ),
        )

    return change


def test_unknown_name_and_missing_root(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no dataset 'coc' .* coco, coco_b"):
        check('coc', tmp_path)
    root = tmp_path / 'nowhere'
    assert check('coco', root) == DatasetReport([], f'{root} is not a folder.')


# Counted by `find` and `wc` beside the sets, not by our code.
@pytest.mark.parametrize(
    'name, folder, lines',
    [
        (
            'imagenet',
            'imagenette160',
            [
                'train: 9,469 images of 10 classes, in 10 folders; left out: '
                'nothing',
                'val: 3,925 images of 10 classes, in 10 folders; left out: '
                'nothing',
            ],
        ),
        (
            'voc07',
            'voc2012_mini/VOCdevkit/VOC2012',
            [
                'train: 260 images of 20 classes',
                'val: 240 images of 20 classes',
            ],
        ),
        (
            'voc0712',
            'voc2012_mini/VOCdevkit',
            ['VOC2012 trainval: 500 images of 20 classes'],
        ),
        (
            'coco',
            'coco_mini',
            [
                'train2017: 80 images of 70 classes (10 more have no images), '
                '661 objects',
                'val2017: 40 images of 55 classes (25 more have no images), '
                '358 objects',
            ],
        ),
        (
            'voc12aug',
            'voc2012_mini/VOCdevkit/VOC2012',
            [
                'train: 260 images with masks of 21 classes',
                'val: 240 images with masks of 21 classes',
            ],
        ),
        (
            'cityscapes',
            'cityscapes_mini',
            [
                'train: 24 images with masks of 19 classes',
                'val: 12 images with masks of 19 classes',
            ],
        ),
    ],
)
def test_parts_of_real_sets(
    test_data: Path, name: str, folder: str, lines: list[str]
) -> None:
    root = test_data / folder
    report = check(name, root, any_size=True, decode=name != 'imagenet')
    assert report[:2] == (lines, None)
    assert check(name, root).problem is not None


# Class folders


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Three training and two validation images of two classes."""
    root = tmp_path / 'imagenet'
    for name in (
        'train/n01/a',
        'train/n01/b',
        'train/n02/a',
        'val/n01/c',
        'val/n02/c',
    ):
        write_image(root / f'{name}.jpg', 0)
    return root


def test_digest_tells_other_images(imagenet: Path, tmp_path: Path) -> None:
    before = check('imagenet', imagenet, any_size=True).digest
    moved = shutil.copytree(imagenet, tmp_path / 'elsewhere')
    image = moved / 'train/n01/b.jpg'
    assert check('imagenet', moved, any_size=True).digest == before != ''
    for change in (
        lambda: Image.new('RGB', (9, 7)).save(image),
        lambda: image.rename(image.with_name('c.jpg')),
    ):
        change()
        after = check('imagenet', moved, any_size=True).digest
        assert after not in (before, '')
        before = after


def test_class_folders(imagenet: Path, expect: Callable) -> None:
    expect('imagenet', dict(train=3, val=2), 2)
    (imagenet / 'train/n02/notes.txt').touch()
    lines = [
        'train: 3 images of 2 classes, in 2 folders; left out: 1 not '
        'images (1 .txt)',
        'val: 2 images of 2 classes, in 2 folders; left out: nothing',
    ]
    assert check('imagenet', imagenet, decode=True)[:2] == (lines, None)
    assert check('folder', imagenet)[:2] == (lines, None)
    assert check('folder', imagenet / 'train')[:2] == (
        [lines[0].replace('train', 'all')],
        None,
    )
    expect('imagenet', dict(train=3, val=3), 2)
    assert check('imagenet', imagenet) == DatasetReport(
        lines,
        'val has 2 images; expected 3. To check a part of a set, use '
        'any_size (--any-size).',
    )
    expect('imagenet', dict(train=3, val=2), 3)
    assert check('imagenet', imagenet) == DatasetReport(
        lines[:1], 'train has 2 classes; expected 3.'
    )


def test_defects_of_class_folders(imagenet: Path) -> None:
    (imagenet / 'val/n01').rename(imagenet / 'val/n00')
    for name in ('imagenet', 'folder'):
        assert 'labels differ: only one of them has n00' in problem(
            name, imagenet
        )
    (imagenet / 'train/n03').mkdir()
    assert problem('folder', imagenet).endswith('train/n03 has no images.')
    write_image(imagenet / 'train/loose.jpg', 0)
    assert 'train/loose.jpg is outside class folders' in problem(
        'imagenet', imagenet
    )
    shutil.rmtree(imagenet / 'train')
    assert "train' is not a folder" in problem('imagenet', imagenet)


def test_empty_broken_and_dangling_files(imagenet: Path) -> None:
    whole = (imagenet / 'train/n01/b.jpg').read_bytes()
    (imagenet / 'train/n01/b.jpg').write_bytes(whole[: len(whole) // 2])
    assert check('imagenet', imagenet, any_size=True).problem is None
    assert 'train/n01/b.jpg: ' in problem('imagenet', imagenet, decode=True)
    (imagenet / 'train/n01/b.jpg').write_bytes(b'')
    (imagenet / 'train/n02/a.jpg').unlink()
    (imagenet / 'train/n02/a.jpg').symlink_to(imagenet / 'gone')
    assert problem('imagenet', imagenet) == (
        f'{imagenet}/train/n01/b.jpg is empty; {imagenet}/train/n02/a.jpg: '
        'No such file or directory; 2 of 3 files are missing or empty.'
    )


# Lists


def write_lists(root: Path, **lists: str) -> Path:
    """Write meta/NAME.txt."""
    (root / 'meta').mkdir(exist_ok=True)
    for name, lines in lists.items():
        (root / f'meta/{name}.txt').write_text(lines)
    return root


def test_flat_val_needs_a_list(imagenet: Path, expect: Callable) -> None:
    expect('imagenet', dict(train=3, val=2), 2)
    for number in (1, 2):
        (imagenet / f'val/n0{number}/c.jpg').rename(
            imagenet / f'val/{number}.jpg'
        )
        (imagenet / f'val/n0{number}').rmdir()
    assert (
        f'no class folders; write it with {TOOLS}/dataset_converters/imagenet'
        in problem('imagenet', imagenet)
    )
    write_lists(imagenet, val='1.jpg 1\n2.jpg 0\n')
    assert check('imagenet', imagenet).problem is None
    write_lists(imagenet, val='1.jpg 1\n2.jpg 2\n')
    assert 'val/2.jpg label 2; expected 0 to 1.' in problem(
        'imagenet', imagenet
    )
    write_lists(imagenet, val='1.jpg\n2.jpg\n')
    assert 'val/1.jpg no label; expected 0 to 1.' in problem(
        'imagenet', imagenet
    )


def test_subsets(imagenet: Path, expect: Callable) -> None:
    expect('imagenet_1percent', dict(train_1percent=2, val=2), 2)
    write_lists(imagenet, train_1percent='n02/a.jpg 1\nn01/b.jpg 0\n')
    assert check('imagenet_1percent', imagenet)[:2] == (
        [
            'train_1percent: 2 images of 2 classes',
            'val: 2 images of 2 classes, in 2 folders; left out: nothing',
        ],
        None,
    )
    write_lists(imagenet, train_1percent='n02/a.jpg 1\nn01/b.jpg 1\n')
    assert 'n01/b.jpg label 1, which is that of n02' in problem(
        'imagenet_1percent', imagenet
    )
    write_lists(imagenet, train_1percent='n01/a.jpg 0\nn01/b.jpg 0\n')
    report = check('imagenet_1percent', imagenet)
    assert report.problem == (
        'train_1percent has no images of 1 classes such as n02.'
    )
    assert 'there is no ' in problem('imagenet_10percent', imagenet)


@pytest.mark.parametrize('name', ['places205', 'inaturalist2018'])
def test_listed_sets(tmp_path: Path, name: str, expect: Callable) -> None:
    root = tmp_path / 'data'
    write_image(root / 'a/1.jpg', 0)
    write_image(root / 'a/2.jpg', 0)
    assert f'write it with {TOOLS}/dataset_converters/{name}.py' in problem(
        name, root
    )
    write_lists(root, train='a/1.jpg 4\n', val='a/2.jpg 3\n')
    report = check(name, root, any_size=True)
    num_classes = PUBLISHED[name][1]
    assert report[:2] == (
        [
            f'{split}: 1 image of 1 class ({num_classes - 1:,} more have '
            'no images)'
            for split in ('train', 'val')
        ],
        None,
    )
    write_lists(root, val=f'a/2.jpg {num_classes}\n')
    assert f'label {num_classes}; expected 0 to {num_classes - 1}' in problem(
        name, root
    )
    write_lists(root, val='a/2.jpg 3\n\na/3.jpg 3\n')
    assert 'the first is ' + str(root / 'a/3.jpg, line 3') in problem(
        name, root
    )
    expect(name, dict(train=1, val=2), num_classes)
    report = check(name, root)
    assert report.problem == (
        f'train has no images of {num_classes - 1:,} classes such as label 0.'
    )


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('train/cat/1', 'train/dog/1', 'test/cat/1', 'test/dog/1'):
        write_image(tmp_path / f'{name}.png', 0)
    assert check('cifar10', tmp_path, any_size=True)[:2] == (
        [
            f'{split}: 2 images of 2 classes, in 2 folders; left out: nothing'
            for split in ('train', 'test')
        ],
        None,
    )
    folder = tmp_path / 'cifar-10-batches-py'
    folder.mkdir()
    assert 'data_batch_1' in problem('cifar10', tmp_path)
    (folder / 'data_batch_1').write_bytes(b'cut off')
    assert 'data_batch_1 is not the published file' in problem(
        'cifar10', tmp_path
    )
    # By md5sum.
    md5 = 'cc64e77e65d232d2741f5e62efa3faee'
    for batches in ('train_list', 'test_list'):
        names = getattr(labels.CIFAR10, batches)
        monkeypatch.setattr(
            labels.CIFAR10, batches, [[name, md5] for name, _ in names]
        )
        for name, _ in names:
            (folder / name).write_bytes(b'cut off')
    assert check('cifar10', tmp_path)[:2] == (
        [
            'train: 50,000 images of 10 classes',
            'test: 10,000 images of 10 classes',
        ],
        None,
    )


# VOC


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOCdevkit/VOC2012 with two images, masks and boxes of a cow."""
    root = tmp_path / 'VOCdevkit/VOC2012'
    for folder in (
        'ImageSets/Main',
        'ImageSets/Segmentation',
        'Annotations',
        'SegmentationClass',
        'SegmentationClassAug',
    ):
        (root / folder).mkdir(parents=True)
    for name in ('1', '2', '3'):
        write_image(root / f'JPEGImages/{name}.jpg', 0)
        (root / f'Annotations/{name}.xml').write_text(
            '<annotation><object><name>cow</name></object></annotation>'
        )
        mask = np.full((40, 60), 255, np.uint8)
        mask[3:] = 20
        for folder in ('SegmentationClass', 'SegmentationClassAug'):
            Image.fromarray(mask).save(root / f'{folder}/{name}.png')
    (root / 'ImageSets/Main/trainval.txt').write_text('1\n2\n')
    for name, images in dict(train='1', val='2', aug='3').items():
        (root / f'ImageSets/Segmentation/{name}.txt').write_text(images)
    for name in CLASSES:
        for split in ('trainval', 'test', 'train', 'val'):
            mark = 1 if name == 'cow' else -1
            (root / f'ImageSets/Main/{name}_{split}.txt').write_text(
                f'1 {mark}\n2 -1\n'
            )
    return root


def test_voc07(voc: Path, expect: Callable) -> None:
    line = 'trainval: 2 images of 1 class (19 more have no images)'
    assert check('voc07', voc, any_size=True)[:2] == (
        [line, line.replace('trainval', 'test')],
        None,
    )
    expect('voc07', dict(trainval=2, test=2), 20)
    assert check('voc07', voc).problem == (
        'trainval has no images of 19 classes such as aeroplane.'
    )
    (voc / 'JPEGImages/2.jpg').unlink()
    assert '1 of 2 images of split' in problem('voc07', voc)
    for path in (voc / 'ImageSets/Main').glob('*_test.txt'):
        path.unlink()
    report = check('voc07', voc)
    assert report.problem is not None and '_test.txt' not in report.problem


def test_voc0712(voc: Path) -> None:
    root = voc.parent
    line = 'VOC2012 trainval: 2 images of 1 class (19 more have no images)'
    assert check('voc0712', root, any_size=True)[:2] == ([line], None)
    assert 'VOC2007/ImageSets/Main/trainval.txt' in str(
        check('voc0712', root).problem
    )
    (voc / 'JPEGImages/2.jpg').unlink()
    assert 'JPEGImages/2.jpg: No such file' in problem('voc0712', root)
    box = (voc / 'Annotations/2.xml').read_text()
    (voc / 'Annotations/2.xml').write_text(box.replace('cow', 'calf'))
    assert "2.xml has an object 'calf', which is not one of the 20" in problem(
        'voc0712', root
    )
    (voc / 'Annotations/2.xml').write_text(box[:30])
    assert '2.xml is not an XML file' in problem('voc0712', root)
    (voc / 'Annotations/2.xml').unlink()
    assert 'Annotations/2.xml: No such file' in problem('voc0712', root)
    (voc / 'ImageSets/Main/trainval.txt').write_text('1\n2\n1\n')
    assert 'trainval.txt lists 1 twice.' in problem('voc0712', root)


def test_voc12aug(voc: Path, expect: Callable) -> None:
    lines = [
        f'{name}: 1 image with masks of 21 classes'
        for name in ('train', 'aug', 'val')
    ]
    expect('voc12aug', dict(train=1, aug=1, val=1), 21)
    assert check('voc12aug', voc, decode=True)[:2] == (lines, None)
    mask = voc / 'SegmentationClassAug/3.png'
    Image.new('L', (60, 40), 21).save(mask)
    assert check('voc12aug', voc).problem is None
    assert '3.png has class 21; expected 0 to 20, or 255' in problem(
        'voc12aug', voc, decode=True
    )
    Image.new('L', (40, 60)).save(mask)
    assert 'shape (60, 40), but its image (40, 60)' in problem(
        'voc12aug', voc, decode=True
    )
    mask.write_bytes(mask.read_bytes()[:50])
    assert 'SegmentationClassAug/3.png: ' in problem(
        'voc12aug', voc, decode=True
    )
    mask.unlink()
    assert 'SegmentationClassAug/3.png: No such file' in problem(
        'voc12aug', voc
    )
    (voc / 'ImageSets/Segmentation/aug.txt').unlink()
    assert check('voc12aug', voc, any_size=True).problem is None
    assert (
        f'aug.txt; write it with {TOOLS}/dataset_converters/voc12aug.py'
        in str(check('voc12aug', voc).problem)
    )


# COCO and Cityscapes


SIZE = dict(height=40, width=60)
BRUSH = dict(
    category_id=90,
    bbox=[5, 5, 20, 10],
    area=100,
    iscrowd=0,
    segmentation=[[5, 5, 25, 5, 25, 15]],
)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """COCO with one image in each split, of one category."""
    (tmp_path / 'annotations').mkdir()
    for split in ('train2017', 'val2017'):
        write_image(tmp_path / split / '7.jpg', 0)
        (tmp_path / f'annotations/instances_{split}.json').write_text(
            json.dumps(
                dict(
                    images=[dict(id=7, file_name='7.jpg', **SIZE)],
                    annotations=[dict(id=1, image_id=7, **BRUSH)],
                    categories=[dict(id=90, name='toothbrush')],
                )
            )
        )
    return tmp_path


def test_coco(coco: Path, expect: Callable) -> None:
    expect('coco', dict(train2017=1, val2017=1), 1)
    lines = [
        f'{split}: 1 image of 1 class, 1 objects'
        for split in ('train2017', 'val2017')
    ]
    assert check('coco', coco, decode=True)[:2] == (lines, None)
    (coco / 'train2017/7.jpg').rename(coco / 'train2017/8.jpg')
    assert 'train2017/7.jpg: No such file' in problem('coco', coco)
    (coco / 'train2017/8.jpg').rename(coco / 'train2017/7.jpg')
    path = coco / 'annotations/instances_train2017.json'
    text = path.read_text()
    path.write_text(text.replace('"image_id": 7', '"image_id": 8'))
    assert 'annotations[0] of image 8 and category 90.' in problem(
        'coco', coco
    )
    path.write_text(text.replace('"category_id": 90', '"category_id": 1'))
    assert 'annotations[0] of image 7 and category 1.' in problem('coco', coco)
    path.write_text(text.replace('toothbrush', 'comb'))
    assert problem('coco', coco) == (
        f'{coco}: the categories of train2017 and val2017 must be the same, '
        "in the same order; they are ['comb'] and ['toothbrush']"
    )
    path.write_text(text.replace('"categories"', '"classes"'))
    assert "instances_train2017.json has no 'categories'" in problem(
        'coco', coco
    )
    path.write_text(text[:-1])
    assert 'train2017.json is not a JSON file: ' in problem('coco', coco)
    path.write_text(json.dumps({'images': [], 'annotations': [{}, 3]}))
    assert "'annotations' is not a list of objects" in problem('coco', coco)
    path.unlink()
    assert 'there is no ' in problem('coco', coco)


def test_coco_with_boxes_only(coco: Path) -> None:
    path = coco / 'annotations/instances_train2017.json'
    path.write_text(path.read_text().replace('segmentation', 'mask'))
    assert check('coco_boxes', coco, any_size=True).problem is None
    found = problem('coco', coco)
    assert found.startswith(
        f'{path}: objects without segmentation, which Mask R-CNN needs'
    )
    assert 'coco_boxes' in found


def test_what_coco_lacks_is_told(coco: Path) -> None:
    """What is computed is no problem, but said."""
    path = coco / 'annotations/instances_train2017.json'
    text = path.read_text()
    path.write_text(
        text.replace('"area"', '"x"').replace('"id": 1', '"id": 0')
    )
    report = check('coco', coco, any_size=True)
    assert report.problem is None
    assert report.remarks == (
        'train2017: objects without area, which is computed: 1, such as '
        'annotations[0]',
        'train2017: annotations with the id 0 (all are numbered anew): 1, '
        'such as annotations[0]',
    )
    # The file is still the user's.
    assert '"id": 0' in path.read_text()
    # Pictures are compared with what the file says of them.
    path.write_text(text.replace('"height": 40', '"height": 41'))
    assert problem('coco', coco) == (
        f'{path}: images whose size differs from the file: 1, such as '
        f'{coco}/train2017/7.jpg with 60x40, not 60x41.'
    )


def test_cityscapes(tmp_path: Path, expect: Callable) -> None:
    for split in ('train', 'val'):
        write_image(tmp_path / f'leftImg8bit/{split}/ulm/a_leftImg8bit.png', 0)
        folder = tmp_path / f'gtFine/{split}/ulm'
        folder.mkdir(parents=True)
        Image.new('L', (60, 40), 18).save(
            folder / 'a_gtFine_labelTrainIds.png'
        )
    expect('cityscapes', dict(train=1, val=1), 19)
    assert check('cityscapes', tmp_path, decode=True)[:2] == (
        [
            'train: 1 image with masks of 19 classes',
            'val: 1 image with masks of 19 classes',
        ],
        None,
    )
    mask = folder / 'a_gtFine_labelTrainIds.png'
    Image.new('L', (60, 40), 19).save(mask)
    assert 'has class 19; expected 0 to 18' in problem(
        'cityscapes', tmp_path, decode=True
    )
    mask.unlink()
    assert 'labelTrainIds.png: No such file' in problem('cityscapes', tmp_path)
    (folder / 'a_gtFine_labelIds.png').touch()
    assert f'run {TOOLS}/dataset_converters/cityscapes.py' in problem(
        'cityscapes', tmp_path
    )
    shutil.rmtree(tmp_path / 'leftImg8bit/val')
    assert 'leftImg8bit/val/CITY/*_leftImg8bit.png' in problem(
        'cityscapes', tmp_path
    )
