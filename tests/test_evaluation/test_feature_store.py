"""Rows in files of several ranks, folders that appear whole, keys."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dist import all_gather_object
from torch import nn

from swav_plugin.evaluation.feature_store import (
    META,
    Labels,
    ShardedRows,
    ShardWriter,
    check_finite,
    find_fault,
    hash_images,
    hash_modules,
    open_rows,
    share,
    write_meta,
    writing,
)
from tests.distributed import run_on_ranks


def test_rows_of_shards_are_those_of_one_tensor() -> None:
    whole = torch.arange(20.0).view(10, 2)
    rows = ShardedRows([whole[:3], whole[3:3], whole[3:4], whole[4:]])
    assert len(rows) == 10 and rows.shape == (10, 2)
    for start in range(11):
        for stop in range(11):
            assert torch.equal(rows[start:stop], whole[start:stop])
    assert torch.equal(rows[:], whole) and torch.equal(rows[-2:], whole[-2:])
    with pytest.raises(ValueError, match='without step 2'):
        rows[::2]


def _shares(rank: int, num_images: int, batch_size: int) -> range:
    return share(num_images, batch_size)


@pytest.mark.parametrize('num_images, batch_size', [(11, 2), (2, 4), (8, 2)])
def test_every_image_has_one_rank(num_images: int, batch_size: int) -> None:
    shares = run_on_ranks(_shares, 3, num_images, batch_size)
    assert [i for part in shares for i in part] == [*range(num_images)]
    # Batches are those of a single rank.
    assert all(part.start % batch_size == 0 for part in shares if len(part))


def _write(rank: int, folder: Path, fail: bool) -> None:
    rows = torch.arange(14.0).view(7, 2)
    own = share(7, 2)
    with writing(folder, 'token') as unfinished:
        assert unfinished != folder and not folder.exists()
        writer = ShardWriter(unfinished, len(own), 'float16')
        for start in range(own.start, own.stop, 2):
            writer.write(rows[start : min(start + 2, own.stop)])
        if fail:
            raise KeyError('broken')
        checksums = {
            name: checksum
            for part in all_gather_object(writer.close())
            for name, checksum in part.items()
        }
        if rank == 0:
            write_meta(unfinished, 7, checksums, dict(feature='avgpool'))
    read = open_rows(folder)
    assert torch.equal(read[:], rows.half())


# With 5 ranks and 4 batches one rank has nothing to write.
@pytest.mark.parametrize('world_size', [1, 3, 5])
def test_ranks_write_what_all_of_them_read(
    world_size: int, tmp_path: Path
) -> None:
    run_on_ranks(_write, world_size, tmp_path / 'a/b', False)
    # Later, with any number of ranks.
    assert torch.equal(
        open_rows(tmp_path / 'a/b')[:], torch.arange(14.0).view(7, 2).half()
    )
    assert [path.name for path in (tmp_path / 'a').iterdir()] == ['b']


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match='broken'):
        _write(0, tmp_path / 'b', True)
    assert not [*tmp_path.iterdir()]


def test_the_first_of_two_runs_stays(tmp_path: Path) -> None:
    folder = tmp_path / 'b'
    with writing(folder, 'mine') as unfinished:
        (unfinished / META).write_text('mine')
        folder.mkdir()
        (folder / META).write_text('theirs')
    assert (folder / META).read_text() == 'theirs'
    assert [path.name for path in tmp_path.iterdir()] == ['b']


def test_rows_that_are_not_there_are_missed(tmp_path: Path) -> None:
    _write(0, tmp_path / 'b', False)
    next((tmp_path / 'b').glob('*.npy')).unlink()
    with pytest.raises(FileNotFoundError, match='0 of 7'):
        open_rows(tmp_path / 'b')
    assert find_fault(tmp_path / 'b', 7, 'float16') == 'files are missing'


def spoil_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def save_objects(path: Path) -> None:
    np.save(path, np.array([object()] * 7), allow_pickle=True)


@pytest.mark.parametrize(
    'name, spoil, fault',
    [
        ('00000.npy', spoil_byte, '00000.npy has changed since it was'),
        ('00000.npy', Path.unlink, 'files are missing'),
        (
            '00000.npy',
            lambda path: os.truncate(path, 140),
            'they cannot be read (V',
        ),
        (
            '00000.npy',
            lambda path: os.truncate(path, 0),
            'they cannot be read (EOF',
        ),
        ('00000.npy', save_objects, 'they cannot be read (V'),
        (
            '00000.npy',
            lambda path: np.save(path, np.zeros((7, 2))),
            '00000.npy has torch.float64',
        ),
        (
            '00000.npy',
            lambda path: np.save(path, np.zeros(7, np.float16)),
            'they cannot be read (Index',
        ),
        (
            META,
            lambda path: path.write_text('{"num_'),
            'they cannot be read (JSON',
        ),
        (META, lambda path: path.write_text('{}'), 'they cannot be read (Key'),
        (META, lambda path: path.write_bytes(b'\xff\xfe'), 'they cannot'),
        (
            META,
            lambda path: path.write_text('[7]'),
            'they cannot be read (Type',
        ),
        (
            META,
            lambda path: path.write_text('{"num_rows": 8, "checksums": {}}'),
            'meta.json says 8 images, not 7',
        ),
        (META, Path.unlink, 'files are missing'),
    ],
)
def test_faults_of_files_are_found(
    name: str, spoil: Callable, fault: str, tmp_path: Path
) -> None:
    folder = tmp_path / 'b'
    _write(0, folder, False)
    assert find_fault(folder, 7, 'float16') is None
    found = find_fault(folder, 7, 'float32')
    assert found == '00000.npy has torch.float16 (7, 2)'
    np.save(folder / '00001.npy', np.zeros((7, 2), np.float16))  # not listed
    assert find_fault(folder, 7, 'float16') is None
    spoil(folder / name)
    found = find_fault(folder, 7, 'float16')
    assert found is not None and found.startswith(fault), found


def test_numbers_that_a_file_cannot_hold_are_refused() -> None:
    """In one line: which feature, of which images, what to do."""
    paths = [f'{number}.jpg' for number in range(6)]
    rows = torch.ones(6, 3)
    check_finite(rows, 'float16', 'avgpool', paths)
    rows[4, 1] = 70000
    check_finite(rows, 'float32', 'avgpool', paths)
    with pytest.raises(ValueError) as error:
        check_finite(rows, 'float16', 'avgpool', paths)
    assert str(error.value) == (
        'avgpool is not finite in float16 for 1 of a batch of 6 images, '
        "4.jpg: its largest number is 7e+04; set dtype='float32'."
    )
    rows[:4] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    with pytest.raises(ValueError) as error:
        check_finite(rows, 'float32', 'feature5', paths)
    assert str(error.value).startswith(
        'feature5 is not finite in float32 for 4 of a batch of 6 images, '
        '0.jpg, 1.jpg, 2.jpg, ...: the weights are broken'
    )


def test_any_change_of_a_module_changes_its_hash() -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    first = hash_modules([network()])
    assert hash_modules([network()]) == first
    changed = [network() for _ in range(5)]
    changed[0][0].weight.data[0, 0, 0, 0] += 1e-6
    changed[1][1].running_mean[2] = 1
    changed[2][0].stride = (2, 2)
    changed[3].double()
    changed[4][1].eps = 1e-3
    hashes = {hash_modules([network]) for network in changed}
    assert len(hashes | {first}) == 6


def test_any_change_of_an_image_changes_the_hash(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in 'ab']
    for path in paths:
        Path(path).write_text('x')
        os.utime(path, (1, 1))
    labels = torch.tensor([0, 1])
    hashes = [hash_images(paths, labels)]
    assert hash_images(paths, labels) == hashes[0]
    hashes.append(hash_images(paths[::-1], labels))
    hashes.append(hash_images(paths, 1 - labels))
    os.utime(paths[0], (2, 2))
    hashes.append(hash_images(paths, labels))
    Path(paths[1]).write_text('xy')
    os.utime(paths[1], (1, 1))
    hashes.append(hash_images(paths, labels))
    assert len(set(hashes)) == len(hashes) == 5


def test_classes_are_counted_by_names_else_by_labels() -> None:
    values = torch.tensor([0, 2])
    assert Labels('s', values).num_classes == 3
    assert Labels('s', values, ('a', 'b', 'c', 'd')).num_classes == 4
    assert Labels('s', torch.zeros(2, 20)).num_classes == 20
