"""Each converter on a small set, with what others read written by hand."""

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from swav_plugin.datasets.check import check
from swav_plugin.datasets.voc07 import CLASSES
from swav_plugin.evaluation.svm_samples import draw_samples
from tests.conftest import REPO_ROOT

CONVERTERS = REPO_ROOT / 'tools/dataset_converters'
Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Run:
    """Run a converter; gives what it prints."""

    def convert(script: str, *args: object, **patches: object) -> str:
        spec = importlib.util.spec_from_file_location(
            script, CONVERTERS / f'{script}.py'
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name, value in patches.items():
            monkeypatch.setattr(module, name, value)
        monkeypatch.setattr(sys, 'argv', [script, *map(str, args)])
        module.main()
        return capsys.readouterr().out

    return convert


@pytest.fixture
def refuse(run: Run, capsys: pytest.CaptureFixture) -> Run:
    """Run a converter that has to fail; gives its last line."""

    def convert(script: str, *args: object, **patches: object) -> str:
        with pytest.raises(SystemExit) as caught:
            run(script, *args, **patches)
        assert caught.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    return convert


def touch(root: Path, *names: str) -> Path:
    """Make files that hold something."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b'?')
    return root


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Three training images of n02 and two of n10, two flat test images."""
    return touch(
        tmp_path / 'imagenet',
        'train/n02/n02_9.JPEG',
        'train/n02/n02_10.JPEG',
        'train/n02/n02_8.JPEG',
        'train/n10/n10_1.JPEG',
        'train/n10/n10_2.JPEG',
        'val/ILSVRC2012_val_00000002.JPEG',
        'val/ILSVRC2012_val_00000001.JPEG',
    )


def read(root: Path, name: str) -> list[str]:
    """Lines of a file."""
    return (root / name).read_text().splitlines()


def test_help_of_each(run: Run, capsys: pytest.CaptureFixture) -> None:
    scripts = sorted(path.stem for path in CONVERTERS.glob('*.py'))
    assert scripts == [
        'cifar10',
        'cityscapes',
        'imagenet',
        'inaturalist2018',
        'opendatalab',
        'places205',
        'voc07',
        'voc12aug',
    ]
    for script in scripts:
        with pytest.raises(SystemExit) as caught:
            run(script, '--help')
        assert caught.value.code == 0
        assert f'{script}.py ' in capsys.readouterr().out


# OpenDataLab's archives


def test_archives_of_opendatalab(
    tmp_path: Path, run: Run, refuse: Run
) -> None:
    image = touch(tmp_path / 'new', 'ImageNet-1K/train/n01/a.JPEG')
    (image / 'ImageNet-1K/train/n01/a.JPEG').write_bytes(bytes(range(256)))
    raw = tmp_path / 'downloads/OpenDataLab___ImageNet-1K/raw'
    raw.mkdir(parents=True)
    whole = shutil.make_archive(str(tmp_path / 'whole'), 'gztar', image)
    content = Path(whole).read_bytes()
    for part in range(3):  # the last one is longer
        end = None if part == 2 else 100 * (part + 1)
        path = raw / f'ImageNet-1K.tar.gz.{part:02}'
        path.write_bytes(content[100 * part : end])
    shutil.make_archive(
        str(raw / 'Images/val2017'), 'zip', image, 'ImageNet-1K'
    )
    shutil.make_archive(
        str(raw / 'VOC'), 'tar', touch(tmp_path / 'b', 'VOCdevkit/c')
    )
    (raw / 'README.md').write_text('kept')
    root = tmp_path / 'data'
    run('opendatalab', tmp_path / 'downloads', root)
    found = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob('*')
        if path.is_file()
    }
    assert found.keys() == {'train/n01/a.JPEG', 'VOCdevkit/c'}
    assert found['train/n01/a.JPEG'] == bytes(range(256))
    left = [path.name for path in raw.rglob('*') if path.is_file()]
    assert left == ['README.md']
    line = refuse('opendatalab', tmp_path / 'downloads', root)
    assert 'there is no archive below' in line


def test_what_mim_downloads_is_unpacked() -> None:
    """By a script that the folder of mim has, with any Python."""
    mim = REPO_ROOT / 'swav_plugin/.mim'
    index = yaml.safe_load((mim / 'dataset-index.yml').read_text())
    assert index.pop('openxlab') is True
    assert len({each['download_root'] for each in index.values()}) == len(
        index
    )
    (script,) = {mim / each['script'] for each in index.values()}
    done = subprocess.run(
        [sys.executable, '-I', '-S', script, '--help'],
        capture_output=True,
        check=True,
    )
    assert b'DOWNLOADS ROOT' in done.stdout
    assert script.read_text().startswith('#!/usr/bin/env python3\n')


# ImageNet


def test_lists_of_class_folders(imagenet: Path, run: Run, refuse: Run) -> None:
    for path in (imagenet / 'val').iterdir():
        path.unlink()
    touch(imagenet, 'val/n10/a.JPEG', 'val/n02/b.JPEG')
    printed = run('imagenet', 'lists', imagenet)
    assert 'train.txt: 5 images of 2 classes' in printed
    assert read(imagenet, 'meta/train.txt') == [
        'n02/n02_10.JPEG 0',
        'n02/n02_8.JPEG 0',
        'n02/n02_9.JPEG 0',
        'n10/n10_1.JPEG 1',
        'n10/n10_2.JPEG 1',
    ]
    assert read(imagenet, 'meta/val.txt') == ['n02/b.JPEG 0', 'n10/a.JPEG 1']
    (imagenet / 'val/n02').rename(imagenet / 'val/n01')
    assert 'only one of train and val has a folder n01' in refuse(
        'imagenet', 'lists', imagenet
    )


def test_lists_of_a_flat_val(imagenet: Path, run: Run, refuse: Run) -> None:
    io = pytest.importorskip('scipy.io')
    assert 'has no class folders; pass --devkit' in refuse(
        'imagenet', 'lists', imagenet
    )
    devkit = imagenet / 'devkit/data'
    devkit.mkdir(parents=True)
    # Numbers of the devkit are not in the order of wnids.
    synsets = np.array(
        [(1, 'n10', 0), (2, 'n02', 0), (3, 'n99', 2)],
        dtype=[('ILSVRC2012_ID', 'O'), ('WNID', 'O'), ('num_children', 'O')],
    )
    io.savemat(devkit / 'meta.mat', dict(synsets=synsets))
    truth = devkit / 'ILSVRC2012_validation_ground_truth.txt'
    truth.write_text('1\n2\n')
    run('imagenet', 'lists', imagenet, '--devkit', imagenet / 'devkit')
    assert read(imagenet, 'meta/val.txt') == [
        'ILSVRC2012_val_00000001.JPEG 1',
        'ILSVRC2012_val_00000002.JPEG 0',
    ]
    assert check('imagenet', imagenet, any_size=True).problem is None
    truth.write_text('1\n')
    assert 'has 2 images ILSVRC2012_val_*.JPEG, but' in refuse(
        'imagenet', 'lists', imagenet, '--devkit', imagenet / 'devkit'
    )
    truth.write_text('1\n3\n')
    assert 'val has images of n99, but train has no such folder' in refuse(
        'imagenet', 'lists', imagenet, '--devkit', imagenet / 'devkit'
    )


def test_published_subset(imagenet: Path, run: Run, refuse: Run) -> None:
    source = imagenet / '1percent.txt'
    source.write_text('n10_1.JPEG\nn02_9.JPEG\n')
    checksum = hashlib.sha256(b'n10_1.JPEG\nn02_9.JPEG\n').hexdigest()
    assert f'its sha256 is {checksum}. Get imagenet_subsets' in refuse(
        'imagenet', 'subset', imagenet, source
    )
    known = dict(PUBLISHED={checksum: ('train_1percent', 2)})
    run('imagenet', 'subset', imagenet, source, **known)
    assert read(imagenet, 'meta/train_1percent.txt') == [
        'n10/n10_1.JPEG 1',
        'n02/n02_9.JPEG 0',
    ]
    (imagenet / 'train/n02/n02_9.JPEG').unlink()
    assert '1 of 2 images for' in refuse(
        'imagenet', 'subset', imagenet, source, **known
    )
    for path in (imagenet / 'train/n02').iterdir():
        path.unlink()
    (imagenet / 'train/n02').rmdir()
    assert '1 classes such as n02, which' in refuse(
        'imagenet', 'subset', imagenet, source, **known
    )


def test_samples(tmp_path: Path, run: Run) -> None:
    touch(tmp_path, *(f'train/n{i % 3}/{i}.JPEG' for i in range(90)))
    printed = run('imagenet', 'sample', tmp_path, '--percent', 10)
    name = 'meta/train_sample-10percent-seed0.txt'
    lines = read(tmp_path, name)
    # A change of the rule would change results that were compared with it.
    checksum = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert f'sha256 {checksum}; this is not the published subset' in printed
    assert checksum.startswith('20804130bdecf6f2')
    assert [line.split()[1] for line in lines] == list('000111222')
    assert len(set(lines)) == 9
    run('imagenet', 'sample', tmp_path, '--percent', 10, '--seed', 1)
    assert read(tmp_path, name.replace('seed0', 'seed1')) != lines
    run('imagenet', 'sample', tmp_path, '--percent', 0.1, '--classes', 2)
    few = read(tmp_path, 'meta/train_sample-0.1percent-seed0-2classes.txt')
    assert [line.split()[1] for line in few] == ['0', '1']


# Other lists


def test_places205(tmp_path: Path, run: Run, refuse: Run) -> None:
    images = 'data/vision/torralba/deeplearning/images256'
    touch(tmp_path, f'{images}/a/abbey/1.jpg', f'{images}/z/zoo/2.jpg')
    lists = tmp_path / 'trainvalsplit_places205'
    lists.mkdir()
    (lists / 'train_places205.csv').write_text('a/abbey/1.jpg 0\n')
    (lists / 'val_places205.csv').write_text('z/zoo/2.jpg,204\n')
    run('places205', tmp_path)
    assert read(tmp_path, 'meta/train.txt') == [f'{images}/a/abbey/1.jpg 0']
    assert read(tmp_path, 'meta/val.txt') == [f'{images}/z/zoo/2.jpg 204']
    assert check('places205', tmp_path, any_size=True).problem is None
    assert 'images256/a/abbey/1.jpg' in refuse(
        'places205', tmp_path, '--images', 'images256'
    )
    (lists / 'train_places205.csv').write_text('a/abbey/1.jpg\n')
    assert 'train_places205.csv has no labels' in refuse('places205', tmp_path)


def test_inaturalist2018(tmp_path: Path, run: Run, refuse: Run) -> None:
    touch(tmp_path, 'train_val2018/Aves/3/a.jpg', 'train_val2018/Aves/3/b.jpg')
    content = dict(
        images=[
            dict(id=70, file_name='train_val2018/Aves/3/b.jpg'),
            dict(id=50, file_name='train_val2018/Aves/3/a.jpg'),
        ],
        categories=[dict(id=i) for i in (2, 0, 1)],
        annotations=[
            dict(image_id=50, category_id=2),
            dict(image_id=70, category_id=0),
        ],
    )

    def write(**changes: list) -> None:
        for split in ('train', 'val'):
            (tmp_path / f'{split}2018.json').write_text(
                json.dumps({**content, **changes})
            )

    write()
    run('inaturalist2018', tmp_path)
    for split in ('train', 'val'):
        assert read(tmp_path, f'meta/{split}.txt') == [
            'train_val2018/Aves/3/b.jpg 0',
            'train_val2018/Aves/3/a.jpg 2',
        ]
    assert check('inaturalist2018', tmp_path, any_size=True).problem is None
    write(categories=[dict(id=1), dict(id=2)])
    assert 'category ids [1, 2] ... [2]; expected 0, 1' in refuse(
        'inaturalist2018', tmp_path
    )
    write(annotations=content['annotations'][:1])
    assert '1 images such as train_val2018/Aves/3/b.jpg no categ' in refuse(
        'inaturalist2018', tmp_path
    )
    write(
        annotations=[*content['annotations'], dict(image_id=70, category_id=1)]
    )
    assert 'gives image 70 two categories' in refuse(
        'inaturalist2018', tmp_path
    )
    write(annotations=[dict(image_id=70, category_id=3)])
    assert 'image 70 category 3; expected 0 to 2' in refuse(
        'inaturalist2018', tmp_path
    )


def test_cifar10(tmp_path: Path, run: Run, refuse: Run) -> None:
    assert 'not found or corrupted' in refuse('cifar10', tmp_path).lower()

    class Cifar10(list):
        """Two training images and a test image, as torchvision has them."""

        classes = ['airplane', 'automobile']

        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert (root, download) == (str(tmp_path), False)
            images = [
                (Image.new('RGB', (32, 32), (i, 2, 3)), i) for i in range(2)
            ]
            super().__init__(images if train else images[:1])

    run('cifar10', tmp_path, CIFAR10=Cifar10)
    files = sorted(
        path.relative_to(tmp_path).as_posix()
        for path in tmp_path.rglob('*.png')
    )
    assert files == [
        'test/airplane/00000.png',
        'train/airplane/00000.png',
        'train/automobile/00001.png',
    ]
    pixels = np.asarray(Image.open(tmp_path / files[2]))
    assert pixels.shape == (32, 32, 3) and pixels[0, 0].tolist() == [1, 2, 3]
    assert 'train already exists; remove it' in refuse(
        'cifar10', tmp_path, CIFAR10=Cifar10
    )


# Masks


def test_cityscapes(
    test_data: Path, tmp_path: Path, run: Run, refuse: Run
) -> None:
    # Its train ids were not made by our table.
    sources = sorted(
        (test_data / 'cityscapes_mini/gtFine').glob('*/*/*_labelIds.png')
    )[::3]
    assert len(sources) == 12
    for source in sources:
        folder = tmp_path / 'gtFine' / source.parts[-3] / source.parts[-2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / source.name).symlink_to(source)
    (tmp_path / 'other').mkdir()
    assert '12 masks written, 0 already existed' in run('cityscapes', tmp_path)
    occurring: set[int] = set()
    for source in sources:
        name = source.name.replace('labelIds', 'labelTrainIds')
        written = np.asarray(
            Image.open(
                tmp_path
                / 'gtFine'
                / source.parts[-3]
                / source.parts[-2]
                / name
            )
        )
        expected = np.asarray(Image.open(source.with_name(name)))
        np.testing.assert_array_equal(written, expected)
        occurring |= set(np.unique(written).tolist())
    assert len(occurring - {255}) == 11
    assert '0 masks written, 12 already existed' in run('cityscapes', tmp_path)
    bad = folder / 'x_gtFine_labelIds.png'
    Image.new('L', (4, 4), 34).save(bad)
    assert f'{bad}: ids go up to 34; expected 0 to 33' in refuse(
        'cityscapes', tmp_path
    )
    assert 'there are no' in refuse('cityscapes', tmp_path / 'other')


def test_all_train_ids_of_cityscapes(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / 'gtFine/train/ulm'
    folder.mkdir(parents=True)
    ids = np.arange(34, dtype=np.uint8)[None]
    Image.fromarray(ids).save(folder / 'a_gtFine_labelIds.png')
    run('cityscapes', tmp_path)
    written = np.asarray(Image.open(folder / 'a_gtFine_labelTrainIds.png'))
    # Written down from cityscapesScripts' table: id -> train id.
    expected = {
        7: 0,
        8: 1,
        11: 2,
        12: 3,
        13: 4,
        17: 5,
        19: 6,
        20: 7,
        21: 8,
        22: 9,
        23: 10,
        24: 11,
        25: 12,
        26: 13,
        27: 14,
        28: 15,
        31: 16,
        32: 17,
        33: 18,
    }
    assert written[0].tolist() == [expected.get(i, 255) for i in range(34)]


def test_voc12aug(tmp_path: Path, run: Run, refuse: Run) -> None:
    io = pytest.importorskip('scipy.io')
    voc = touch(
        tmp_path / 'VOC2012', *(f'JPEGImages/{i}.jpg' for i in range(6))
    )
    sbd = touch(tmp_path / 'sbd', 'cls/none')
    for folder, train, val in (
        (voc / 'ImageSets/Segmentation', '0\n1\n', '2\n'),
        (sbd, '1\n3\n5\n', '2\n4\n'),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'train.txt').write_text(train)
        (folder / 'val.txt').write_text(val)
    masks = np.random.default_rng(0).integers(
        21, size=(6, 4, 5), dtype=np.uint8
    )
    for i, mask in enumerate(masks):
        # As SBD's files: a struct GTcls with fields of its own.
        io.savemat(
            sbd / f'cls/{i}.mat',
            dict(
                GTcls=dict(
                    Segmentation=mask, CategoriesPresent=np.unique(mask)
                )
            ),
        )
    run('voc12aug', voc, sbd)
    assert read(voc, 'ImageSets/Segmentation/aug.txt') == ['3', '4', '5']
    folder = voc / 'SegmentationClassAug'
    assert sorted(path.name for path in folder.iterdir()) == [
        '3.png',
        '4.png',
        '5.png',
    ]
    for i in (3, 4, 5):
        np.testing.assert_array_equal(
            np.asarray(Image.open(folder / f'{i}.png')), masks[i]
        )
    assert 'SegmentationClassAug already exists' in refuse(
        'voc12aug', voc, sbd
    )
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    io.savemat(
        sbd / 'cls/4.mat',
        dict(GTcls=dict(Segmentation=np.full((4, 5), 21, np.uint8))),
    )
    assert '4.mat has uint8 of shape (4, 5) up to 21' in refuse(
        'voc12aug', voc, sbd
    )
    for content in (
        b'',
        b'not a mask',
        (sbd / 'cls/3.mat').read_bytes()[:150],
    ):
        (sbd / 'cls/4.mat').write_bytes(content)
        assert '4.mat is not a mask of SBD, or damaged' in refuse(
            'voc12aug', voc, sbd
        )
    (sbd / 'cls/4.mat').unlink()
    assert "No such file or directory: '" in refuse('voc12aug', voc, sbd)
    assert not folder.exists()


@pytest.mark.parametrize(
    'name', ['../../JPEGImages/1', '../JPEGImages/1', '{root}/stolen']
)
@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_voc12aug_writes_nothing_outside_its_folder(
    tmp_path: Path, run: Run, refuse: Run, name: str, mark: str
) -> None:
    io = pytest.importorskip('scipy.io')
    name = name.format(root=tmp_path)
    voc = touch(tmp_path / 'VOC2012', 'JPEGImages/1.png')
    sbd = touch(tmp_path / 'sbd', 'cls/none')
    for folder, lines in (
        (voc / 'ImageSets/Segmentation', '0\n'),
        (sbd, f'{mark}{name}\n'),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        for split in ('train', 'val'):
            (folder / f'{split}.txt').write_text(lines, encoding='utf-8')
    source = Path(f'{sbd}/cls/{name}.mat')
    if name[0] == '/':
        source = Path(f'{name}.mat')
    source.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((4, 5), np.uint8)
    io.savemat(source, dict(GTcls=dict(Segmentation=mask)))
    before = sorted(tmp_path.rglob('*'))
    assert f"'{name}.mat' leads out of" in refuse('voc12aug', voc, sbd)
    assert sorted(tmp_path.rglob('*')) == before
    assert (voc / 'JPEGImages/1.png').read_bytes() == b'?'


def test_lists_name_no_images_outside_their_folder(
    tmp_path: Path, refuse: Run
) -> None:
    root = touch(tmp_path / 'data', 'a/1.jpg')
    touch(tmp_path, 'secret.jpg')
    for split in ('train', 'val'):
        content = dict(
            images=[dict(id=0, file_name='../secret.jpg')],
            annotations=[dict(image_id=0, category_id=0)],
            categories=[dict(id=0)],
        )
        (root / f'{split}2018.json').write_text(json.dumps(content))
        folder = root / 'trainvalsplit_places205'
        folder.mkdir(exist_ok=True)
        (folder / f'{split}_places205.csv').write_text('../secret.jpg 0\n')
    for name in ('inaturalist2018', 'places205'):
        assert "'../secret.jpg' leads out" in refuse(name, root)
    assert not (root / 'meta').exists()


# VOC07


def test_voc07(test_data: Path, tmp_path: Path, run: Run, refuse: Run) -> None:
    source = test_data / 'voc2012_mini/VOCdevkit/VOC2012'
    for name in ('ImageSets', 'JPEGImages'):
        (tmp_path / name).symlink_to(source / name)
    run(
        'voc07', tmp_path, '--splits', 'train', 'val', '--k', 1, 2, '--seed', 3
    )
    names = read(tmp_path, 'ImageSets/Main/train.txt')
    assert read(tmp_path, 'Lists/trainvaltest.txt') == [
        f'{name}.jpg'
        for name in names + read(tmp_path, 'ImageSets/Main/val.txt')
    ]
    labels = tmp_path / 'SVMLabels'
    images = np.load(labels / 'train_images.npy')
    assert images.tolist() == [
        f'{tmp_path}/JPEGImages/{name}.jpg' for name in names
    ]
    # Straight from the lists: 1 stays, -1 is absent, 0 is difficult.
    marks = np.array(
        [
            [
                {1: 1, -1: 0, 0: -1}[int(line.split()[1])]
                for line in read(tmp_path, f'ImageSets/Main/{name}_train.txt')
            ]
            for name in CLASSES
        ]
    ).T
    train_labels = np.load(labels / 'train_labels.npy')
    assert train_labels.dtype == np.int32
    np.testing.assert_array_equal(train_labels, marks)
    assert np.load(labels / 'test_labels.npy').shape == (240, 20)
    targets = json.loads((labels / 'train_targets.json').read_text())
    assert list(targets) == names
    assert targets[names[7]] == dict(zip(CLASSES, marks[7].tolist()))

    low_shot = labels / 'low_shot/labels'
    assert len(list(low_shot.iterdir())) == 2 * 5 * 2
    places = draw_samples(torch.from_numpy(marks), 2, 5, seed=3)
    for number in range(5):
        sample = np.load(low_shot / f'train_targets_sample{number + 1}_k2.npy')
        assert ((sample == 1).sum(0) == 2).all()
        assert ((sample == 0).sum(0) == 38).all()
        # Those that VOC07SVM trains on, positive ones first.
        for column in range(20):
            drawn = places[number, column].tolist()
            assert set(np.flatnonzero(sample[:, column] == 1)) == set(
                drawn[:2]
            )
            assert set(np.flatnonzero(sample[:, column] == 0)) == set(
                drawn[2:]
            )
        by_name = json.loads(
            (
                low_shot / f'train_targets_sample{number + 1}_k2.json'
            ).read_text()
        )
        assert [list(row.values()) for row in by_name.values()] == (
            sample.tolist()
        )
    assert 'k=99 needs 99 positive images' in refuse(
        'voc07', tmp_path, '--splits', 'train', 'val', '--k', 99
    )
    assert 'there is no' in refuse('voc07', tmp_path / 'none')
