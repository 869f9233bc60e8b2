"""ImageFolder: which images, which labels, and what to do with broken ones."""

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swav_plugin.datasets import (
    ImageFolder,
    SampleKey,
    image_folder,
    image_memory,
)
from swav_plugin.datasets.image_folder import NoReadableImage
from swav_plugin.datasets.transforms import (
    UnreadableImage,
    loading,
    randomness,
)
from swav_plugin.registry import DATASETS

from .conftest import write_image


def touch(root: Path, *names: str) -> Path:
    """Make empty files, which is enough to be found."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def content(dataset: ImageFolder, root: Path) -> list[Any]:
    """Relative paths, or (relative path, label) where there is a label."""
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    paths = [os.path.relpath(info['img_path'], root) for info in infos]
    return [
        (path, info['gt_label']) if 'gt_label' in info else path
        for path, info in zip(paths, infos)
    ]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the log lines of the dataset."""
    messages: list[str] = []
    monkeypatch.setattr(
        image_folder,
        'print_log',
        lambda message, **_: messages.append(message),
    )
    return messages


# Folders


def test_class_folders_give_labels_in_sorted_order(tmp_path: Path) -> None:
    touch(
        tmp_path,
        'dog/2.jpg',
        'dog/10.jpg',
        'cat/deep/er/1.png',
        'Ant/1.PNG',
        'cat/notes.txt',
    )
    dataset = ImageFolder(tmp_path)
    assert content(dataset, tmp_path) == [
        ('Ant/1.PNG', 0),
        ('cat/deep/er/1.png', 1),
        ('dog/10.jpg', 2),
        ('dog/2.jpg', 2),
    ]
    assert dataset.metainfo['classes'] == ('Ant', 'cat', 'dog')


def test_flat_folder_has_no_labels(tmp_path: Path, logged: list[str]) -> None:
    touch(tmp_path, 'b.webp', 'a.JPEG', 'c.Tiff', 'd.eps', 'jpg')
    dataset = ImageFolder(tmp_path)
    assert content(dataset, tmp_path) == ['a.JPEG', 'b.webp', 'c.Tiff']
    assert 'classes' not in dataset.metainfo
    (message,) = logged
    assert message == (
        f'ImageFolder: left out of {tmp_path}: 2 not images (1 .eps, 1 '
        'without extension)'
    )


def test_loose_image_beside_folders_means_no_labels(
    tmp_path: Path, logged: list[str]
) -> None:
    touch(tmp_path, 'cat/1.jpg', 'loose.jpg')
    assert content(ImageFolder(tmp_path), tmp_path) == [
        'cat/1.jpg',
        'loose.jpg',
    ]
    message, *_ = logged
    assert 'no image gets a label' in message
    assert message.endswith('1 such as ' + str(tmp_path / 'loose.jpg'))


def test_several_roots_share_the_classes(tmp_path: Path) -> None:
    touch(
        tmp_path,
        'one/dog/1.jpg',
        'one/cat/1.jpg',
        'two/bee/1.jpg',
        'two/dog/1.jpg',
    )
    dataset = ImageFolder([tmp_path / 'two', tmp_path / 'one'])
    assert content(dataset, tmp_path) == [
        ('two/bee/1.jpg', 0),
        ('two/dog/1.jpg', 2),
        ('one/cat/1.jpg', 1),
        ('one/dog/1.jpg', 2),
    ]
    assert dataset.metainfo['classes'] == ('bee', 'cat', 'dog')


def test_flat_root_beside_one_with_classes_means_no_labels(
    tmp_path: Path, logged: list[str]
) -> None:
    touch(tmp_path, 'one/dog/1.jpg', 'two/1.jpg')
    dataset = ImageFolder([tmp_path / 'one', tmp_path / 'two'])
    assert content(dataset, tmp_path) == ['one/dog/1.jpg', 'two/1.jpg']
    message, *_ = logged
    assert 'no image gets a label' in message


def test_class_without_images_keeps_its_label(
    tmp_path: Path, logged: list[str]
) -> None:
    touch(tmp_path, 'cat/1.jpg', 'dog/1.jpg', 'bee/notes.txt')
    assert content(ImageFolder(tmp_path), tmp_path) == [
        ('cat/1.jpg', 1),
        ('dog/1.jpg', 2),
    ]
    message, *_ = logged
    assert '1 of 3 classes have no images: bee' in message


def test_hidden_files_and_folders_are_not_looked_at(tmp_path: Path) -> None:
    touch(
        tmp_path,
        'cat/1.jpg',
        'cat/._1.jpg',
        '.trash/2.jpg',
        'cat/.checkpoints/1.jpg',
    )
    dataset = ImageFolder(tmp_path)
    assert content(dataset, tmp_path) == [('cat/1.jpg', 0)]
    assert dataset.metainfo['classes'] == ('cat',)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = touch(tmp_path / 'root', 'cat/1.jpg')
    touch(tmp_path / 'elsewhere', 'deep/2.jpg')
    (root / 'dog').symlink_to(tmp_path / 'elsewhere')
    (root / 'cat' / '3.jpg').symlink_to(root / 'cat' / '1.jpg')
    (root / 'cat' / 'up').symlink_to(root)
    (root / 'cat' / 'self').symlink_to(root / 'cat')
    (tmp_path / 'elsewhere' / 'back').symlink_to(root)
    assert content(ImageFolder(root), root) == [
        ('cat/1.jpg', 0),
        ('cat/3.jpg', 0),
        ('dog/deep/2.jpg', 1),
    ]


SCANDIR = os.scandir


class Listed:
    """A folder entry that only tells what costs nothing to know."""

    def __init__(self, entry: os.DirEntry) -> None:
        self.name = entry.name
        self.path = entry.path
        self.is_dir = entry.is_dir
        self.is_file = entry.is_file


class ShuffledScandir:
    """os.scandir in another order, with `Listed` entries."""

    def __init__(self, folder: str) -> None:
        with SCANDIR(folder) as entries:
            self.entries = [Listed(entry) for entry in entries]
        random.Random(0).shuffle(self.entries)

    def __enter__(self) -> list[Listed]:
        return self.entries

    def __exit__(self, *_: object) -> None:
        pass


def test_order_does_not_depend_on_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, *(f'{i % 3}/{i}.jpg' for i in range(30)))
    expected = content(ImageFolder(tmp_path), tmp_path)
    monkeypatch.setattr(os, 'scandir', ShuffledScandir)
    assert content(ImageFolder(tmp_path), tmp_path) == expected


def test_no_stat_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a network disk a million of them take an hour.
    touch(tmp_path, *(f'cat/{i}.jpg' for i in range(100)))
    calls = []
    stat = os.stat

    def counted(path: str, **kwargs: Any) -> os.stat_result:
        calls.append(path)
        return stat(path, **kwargs)

    monkeypatch.setattr(os, 'stat', counted)
    monkeypatch.setattr(os, 'scandir', ShuffledScandir)
    assert len(ImageFolder(tmp_path)) == 100
    assert 0 < len(calls) < 10


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match="data_root '.*/nowhere' is not a folder"
    ):
        ImageFolder([tmp_path, tmp_path / 'nowhere'])
    with pytest.raises(FileNotFoundError, match='not a folder'):
        ImageFolder(touch(tmp_path, 'a.jpg') / 'a.jpg')


def test_home_folder_is_written_as_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, 'photos/a.jpg')
    (tmp_path / 'list.txt').write_text('a.jpg\n')
    monkeypatch.setenv('HOME', str(tmp_path))
    for dataset in (
        ImageFolder('~/photos'),
        ImageFolder(['~/photos'], ann_file='~/list.txt'),
    ):
        assert content(dataset, tmp_path) == ['photos/a.jpg']


@pytest.mark.parametrize('root', ['', [], None, 5, ['a', None], {'a': 1}])
def test_roots_that_are_no_paths(root: Any) -> None:
    with pytest.raises(ValueError, match='ImageFolder got data_root=.*; give'):
        ImageFolder(root)


def test_root_of_bytes(tmp_path: Path) -> None:
    root = touch(tmp_path, 'a.jpg')
    assert content(ImageFolder(os.fsencode(root)), root) == ['a.jpg']


@pytest.mark.parametrize('inner', ['', '/', '/cat', '/cat/..', '/link'])
def test_a_folder_is_not_searched_twice(tmp_path: Path, inner: str) -> None:
    touch(tmp_path, 'd/cat/1.jpg', 'dogs/1.jpg')
    (tmp_path / 'd/link').symlink_to(tmp_path / 'd/cat')
    root = str(tmp_path / 'd')
    for roots in ([root, root + inner], [root + inner, root]):
        with pytest.raises(ValueError, match='so images would count twice'):
            ImageFolder(roots)
    # The name alone is no reason, and lists of one folder differ.
    ImageFolder([root, str(tmp_path / 'dogs')])
    (tmp_path / 'd/a.txt').write_text('cat/1.jpg\n')
    assert len(ImageFolder([root] * 2, ann_file=['a.txt'] * 2)) == 2


@pytest.mark.parametrize(
    'names, message',
    [
        ((), r'no images in .*/empty: .*\.jpg.* and found no files\. Name'),
        (
            ('notes.txt', 'x/a.csv', 'b.CSV'),
            r'found 3 not images \(2 \.csv, 1 \.txt\)\.',
        ),
        (('.a.jpg',), r'found 1 hidden or of the system \(\.a\.jpg\)\.'),
    ],
)
def test_folder_without_images(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    (tmp_path / 'empty').mkdir()
    touch(tmp_path / 'empty', *names)
    touch(tmp_path / 'full', 'a.jpg')
    with pytest.raises(ValueError, match=message):
        ImageFolder([tmp_path / 'full', tmp_path / 'empty'])


# List files


def test_list_file_with_labels(tmp_path: Path, logged: list[str]) -> None:
    touch(tmp_path, 'my cats/1 of 2.jpg', 'b.jp2', 'c.jpg')
    (tmp_path / 'train.txt').write_text(
        'my cats/1 of 2.jpg 2\n\nb.jp2\t0\n  c.jpg   1  \n'
    )
    dataset = ImageFolder(tmp_path, ann_file='train.txt')
    assert content(dataset, tmp_path) == [
        ('my cats/1 of 2.jpg', 2),
        ('b.jp2', 0),
        ('c.jpg', 1),
    ]
    assert logged == []


def test_list_file_without_labels(tmp_path: Path) -> None:
    touch(tmp_path, 'my cats/1 of 2.jpg', 'no extension')
    (tmp_path / 'train.txt').write_text('my cats/1 of 2.jpg\nno extension')
    dataset = ImageFolder(tmp_path, ann_file=str(tmp_path / 'train.txt'))
    assert content(dataset, tmp_path) == ['my cats/1 of 2.jpg', 'no extension']


def test_a_list_file_for_each_root(tmp_path: Path) -> None:
    touch(tmp_path, 'one/a.jpg', 'two/a.jpg')
    (tmp_path / 'one' / 'l.txt').write_text('a.jpg 1\n')
    (tmp_path / 'two' / 'l.txt').write_text('a.jpg 2\n')
    roots = [tmp_path / 'one', tmp_path / 'two']
    assert content(
        ImageFolder(roots, ann_file=['l.txt', 'l.txt']), tmp_path
    ) == [('one/a.jpg', 1), ('two/a.jpg', 2)]
    with pytest.raises(ValueError, match='2 roots but 1 list files'):
        ImageFolder(roots, ann_file='l.txt')
    (tmp_path / 'two' / 'l.txt').write_text('a.jpg\n')
    with pytest.raises(ValueError, match='labels in all list files or in non'):
        ImageFolder(roots, ann_file=['l.txt', 'l.txt'])


def test_missing_images_of_a_list(tmp_path: Path) -> None:
    touch(tmp_path, 'train/a.jpg', 'train/b.jpg')
    (tmp_path / 'train.txt').write_text(
        'train/a.jpg 0\n\ntrain/c.jpg 1\ntrain/b.jpg 1\ntest/a.jpg 0\n'
    )
    with pytest.raises(
        FileNotFoundError,
        match='2 of 4 images listed in .*/train.txt do not exist; the '
        'first is .*/train/c.jpg, line 3. Paths are relative to data_roo',
    ):
        ImageFolder(tmp_path, ann_file='train.txt')
    (tmp_path / 'train.txt').write_text('train/a.jpg;3\n')
    with pytest.raises(FileNotFoundError, match='1 of 1.*/train/a.jpg;3, lin'):
        ImageFolder(tmp_path, ann_file='train.txt')


def test_number_of_classes(tmp_path: Path, logged: list[str]) -> None:
    touch(tmp_path, 'cat/1.jpg', 'dog/1.jpg', 'bee/notes.txt')
    assert ImageFolder(tmp_path, lazy_init=True).num_classes == 3
    assert ImageFolder(tmp_path / 'cat').num_classes is None
    logged.clear()
    (tmp_path / 'train.txt').write_text('cat/1.jpg 6\ndog/1.jpg 2\n')
    assert ImageFolder(tmp_path, ann_file='train.txt').num_classes == 7
    (message,) = logged
    assert '5 of the labels 0 to 6 have no images: 0, 1, 3, 4, 5 .' in message


def test_file_names_of_any_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b'caf\xe9.png')
    try:
        write_image(tmp_path / name, seed=0)
    except OSError:
        pytest.skip('the file system takes UTF-8 names only')
    (tmp_path / 'train.txt').write_bytes(b'caf\xe9.png 1\n')
    load = [dict(type='LoadImage')]
    for dataset in (
        ImageFolder(tmp_path, load),
        ImageFolder(tmp_path, load, ann_file='train.txt'),
    ):
        assert dataset[0]['img'].shape == (40, 60, 3)


# Samples


def test_sample_and_its_key_reach_the_pipeline(tmp_path: Path) -> None:
    write_image(tmp_path / 'cat/1.png', seed=1)
    pixels = write_image(tmp_path / 'dog/1.png', seed=2)
    dataset = DATASETS.build(
        dict(
            type='ImageFolder',
            data_root=str(tmp_path),
            pipeline=[dict(type='LoadImage')],
        )
    )
    key = SampleKey(1, epoch=2, seed=31)
    results = dataset[key]
    np.testing.assert_array_equal(results['img'], pixels)
    assert results['sample_idx'] is key
    assert (results['gt_label'], results['skipped']) == (1, [])


def test_options_of_base_dataset(tmp_path: Path) -> None:
    touch(tmp_path, *'abcdef', 'a.jpg', 'b.jpg', 'c.jpg', 'd.jpg')
    assert content(ImageFolder(tmp_path, indices=2), tmp_path) == [
        'a.jpg',
        'b.jpg',
    ]
    assert content(ImageFolder(tmp_path, indices=[3, 0]), tmp_path) == [
        'd.jpg',
        'a.jpg',
    ]
    plain = ImageFolder(tmp_path, serialize_data=False)
    assert content(plain, tmp_path) == content(ImageFolder(tmp_path), tmp_path)
    lazy = ImageFolder(tmp_path / 'nowhere', lazy_init=True)
    with pytest.raises(FileNotFoundError):
        lazy.full_init()


def test_dataset_can_be_sent_to_a_spawned_worker(tmp_path: Path) -> None:
    write_image(tmp_path / '1.png', seed=1)
    group = [dict(type='RandomResizedCrop', size=8), dict(type='ColorJitter')]
    dataset = ImageFolder(
        tmp_path,
        [
            dict(type='LoadImage'),
            dict(type='MultiView', num_views=2, transforms=[group]),
            dict(type='PackViews'),
        ],
    )
    copied = pickle.loads(pickle.dumps(dataset))
    key = SampleKey(0, epoch=2, seed=31)
    for a, b in zip(dataset[key]['inputs'], copied[key]['inputs']):
        assert a.equal(b)


def with_broken_images(
    root: Path, num_good: int, num_broken: int
) -> ImageFolder:
    """Good images g*.png and broken ones x*.png; the latter come last."""
    for i in range(num_good):
        write_image(root / f'g{i}.png', seed=i)
    touch(root, *(f'x{i}.png' for i in range(num_broken)))
    return ImageFolder(root, [dict(type='LoadImage')])


def test_unreadable_image_is_replaced_and_reported(tmp_path: Path) -> None:
    dataset = with_broken_images(tmp_path, num_good=4, num_broken=1)
    key = SampleKey(4, epoch=2, seed=31)
    results = dataset[key]
    assert set(results['skipped']) == {f'{tmp_path}/x0.png: the file is empty'}
    # Path, label, index and pixels are those of one and the same image.
    other = results['sample_idx']
    assert (other.epoch, other.seed) == (2, 31)
    assert results['img_path'] == f'{tmp_path}/g{other}.png'
    np.testing.assert_array_equal(results['img'], dataset[other]['img'])


def test_replacement_depends_on_the_key_only(tmp_path: Path) -> None:
    dataset = with_broken_images(tmp_path, num_good=20, num_broken=20)

    def replacement(index: int, epoch: int, seed: int) -> tuple:
        results = dataset[SampleKey(index, epoch, seed)]
        return results['img_path'], tuple(results['skipped'])

    keys = [(20, 0, 31), (20, 1, 31), (20, 0, 32), (21, 0, 31)]
    first = [replacement(*key) for key in keys]
    np.random.seed(0)
    assert [replacement(*key) for key in keys] == first
    assert len(set(first)) == 4
    # Any good image may come; half of the draws are broken ones again.
    many = [replacement(20, epoch, 31) for epoch in range(200)]
    assert len({path for path, _ in many}) == 20
    assert 1.5 < np.mean([len(skipped) for _, skipped in many]) < 2.5


def test_plain_index_is_replaced_as_well(tmp_path: Path) -> None:
    dataset = with_broken_images(tmp_path, num_good=3, num_broken=1)
    randomness._warn_not_keyed.cache_clear()  # another test may have seen it
    with pytest.warns(UserWarning, match='KeyedSampler'):
        results = dataset[3]
    assert type(results['sample_idx']) is int
    assert results['img_path'] == f'{tmp_path}/g{results["sample_idx"]}.png'


def test_gives_up_when_all_images_are_broken(tmp_path: Path) -> None:
    dataset = with_broken_images(tmp_path, num_good=0, num_broken=30)
    with pytest.raises(NoReadableImage) as caught:
        dataset[SampleKey(4, epoch=2, seed=31)]
    message = str(caught.value)
    assert '21 images drawn one after another cannot be read' in message
    assert message.count(': the file is empty') == 21
    # All that is left of an error from a worker process is its text.
    of_worker = NoReadableImage(f'Caught it. Original Traceback:\n{message}')
    assert of_worker.skipped == message.splitlines()[1:]
    assert of_worker.skipped[0] == f'{tmp_path}/x12.png: the file is empty'


def test_no_replacement_in_test_mode(tmp_path: Path) -> None:
    with_broken_images(tmp_path, num_good=3, num_broken=1)
    dataset = ImageFolder(tmp_path, [dict(type='LoadImage')], test_mode=True)
    assert dataset[0]['img_path'].endswith('g0.png')
    with pytest.raises(UnreadableImage, match='x0.png: the file is empty'):
        dataset[3]


def test_real_images(test_data: Path) -> None:
    root = test_data / 'imagenette160' / 'val'
    dataset = ImageFolder(root, [dict(type='LoadImage')])
    # 3,925 images in ten classes, as fast.ai's Imagenette v2 says.
    assert len(dataset) == 3925
    assert len(dataset.metainfo['classes']) == 10
    results = dataset[SampleKey(3924, epoch=0, seed=0)]
    assert results['gt_label'] == 9
    assert results['img'].shape[2] == 3 and results['img'].std() > 5


# In memory


def views_of(dataset: ImageFolder) -> list[tuple]:
    """Keyed views, label and meta information of all samples."""
    found = []
    for index in range(len(dataset)):
        sample = dataset[SampleKey(index, epoch=2, seed=31)]
        info = sample['data_samples']
        found.append(
            (
                [view.tolist() for view in sample['inputs']],
                info.metainfo,
                info.get('gt_label').tolist(),
            )
        )
    return found


VIEWS = [
    dict(type='LoadImage'),
    dict(
        type='MultiView',
        num_views=2,
        transforms=[[dict(type='RandomResizedCrop', size=8)]],
    ),
    dict(type='PackViews'),
]


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    """Two roots with six good images of six sizes and a broken one, last."""
    for i in range(3):
        write_image(tmp_path / f'one/cat/{i}.png', i, height=20 + i)
        write_image(tmp_path / f'two/dog/{i}.jpg', 3 + i, width=30 + i)
    touch(tmp_path, 'two/dog/3.jpg')
    return [tmp_path / 'one', tmp_path / 'two']


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(lazy_init=True),
        dict(serialize_data=False),
        dict(indices=4),
        dict(indices=-4),
        dict(indices=[6, 0, 4, 6]),
    ],
)
def test_images_in_memory_are_those_of_the_files(
    roots: list[Path], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = views_of(ImageFolder(roots, VIEWS, **options))
    dataset = ImageFolder(roots, VIEWS, in_memory=True, **options)
    dataset.full_init()
    for module in (loading, image_memory):
        monkeypatch.setattr(module, 'read_rgb', None)  # no file is read again
    assert views_of(dataset) == expected
    assert len(dataset.memory.ends) == len(expected)
    copied = pickle.loads(pickle.dumps(dataset))
    assert views_of(copied) == expected


def test_list_files_in_memory(roots: list[Path]) -> None:
    for root, name in zip(roots, ('cat/1.png', 'dog/2.jpg')):
        (root / 'list.txt').write_text(f'{name} 5\n')
    lists: Any = dict(ann_file=['list.txt'] * 2)
    assert views_of(ImageFolder(roots, VIEWS, in_memory=True, **lists)) == (
        views_of(ImageFolder(roots, VIEWS, **lists))
    )


def test_subsets_share_the_block(roots: list[Path]) -> None:
    dataset = ImageFolder(roots, VIEWS[:1], in_memory=True)
    subset = dataset.get_subset([4, 2])
    assert subset.memory is dataset.memory
    for i, whole in enumerate([4, 2]):
        np.testing.assert_array_equal(
            subset[SampleKey(i, 0, 0)]['img'],
            dataset[SampleKey(whole, 0, 0)]['img'],
        )


def test_nobody_writes_into_the_block(roots: list[Path]) -> None:
    def blacken(results: dict) -> dict:
        results['img'][:] = 0
        return results

    dataset = ImageFolder(roots, [*VIEWS[:1], blacken], in_memory=True)
    with pytest.raises(ValueError, match='read-only'):
        dataset[0]


def test_broken_image_in_memory_in_test_mode(roots: list[Path]) -> None:
    dataset = ImageFolder(roots, VIEWS, in_memory=True, test_mode=True)
    with pytest.raises(UnreadableImage, match='3.jpg: the file is empty'):
        dataset[6]


def test_header_that_is_wrong(
    roots: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_memory, '_header_shape', lambda path: (20, 60))
    dataset = ImageFolder(roots[0], VIEWS[:1], in_memory=True, test_mode=True)
    assert dataset[0]['img'].shape == (20, 60, 3)
    with pytest.raises(
        UnreadableImage,
        match=r'1.png: \(21, 60\) pixels, '
        r'but its header says \(20, 60\)',
    ):
        dataset[1]


def test_images_that_do_not_fit_into_memory(
    roots: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    num_bytes = 3 * (60 * (20 + 21 + 22) + 40 * (30 + 31 + 32))
    monkeypatch.setattr(image_memory, 'free_bytes', lambda: 2 * num_bytes)
    ImageFolder(roots, in_memory=True)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    ImageFolder(roots, in_memory=True)
    monkeypatch.setattr(image_memory, 'free_bytes', lambda: 2 * num_bytes - 1)
    monkeypatch.setattr(image_memory, 'read_rgb', None)  # known beforehand
    with pytest.raises(
        MemoryError,
        match=r'needs 0.0 GB in each of 2 ranks '
        r'.* but 0.0 GB of memory are free. Set it to False.*`indices`',
    ):
        ImageFolder(roots, in_memory=True)


def test_free_memory_is_that_of_the_machine() -> None:
    free = image_memory.free_bytes()
    if not os.path.exists('/proc/meminfo'):
        assert free is None
        return
    total = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    assert free is not None and total / 1000 < free < total
