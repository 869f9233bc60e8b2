"""`swav cluster` and `swav neighbours`: what they write and refuse."""

import csv
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from swav_plugin.__main__ import main
from swav_plugin.apis import extract_features, get_model
from swav_plugin.inference import gallery
from swav_plugin.inference.cluster_output import describe_spread, find_classes
from swav_plugin.inference.clusters import Clusters
from swav_plugin.inference.files import read_features
from swav_plugin.inference.images import LoadedImages
from tests.test_inference.networks import (
    COLORS,
    MODEL,
    network_for,
    write_colors,
)

Run = Callable[..., tuple[int | str | None, str]]


@pytest.fixture(scope='module')
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colors(tmp_path_factory.mktemp('data') / 'colors')


@pytest.fixture(scope='module')
def network(
    colors: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, ...]:
    """A checkpoint, and the options that go with it."""
    folder = tmp_path_factory.mktemp('network')
    model = network_for(colors)
    torch.save(dict(state_dict=model.state_dict()), folder / 'swav.pth')
    Config(dict(model=MODEL, default_scope='swav_plugin')).dump(
        folder / 'config.py'
    )
    return str(folder / 'swav.pth'), '--config', str(folder / 'config.py')


@pytest.fixture
def run(
    network: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command on the network; return the exit code and the output."""

    def call(name: str, *arguments: object) -> tuple[int | str | None, str]:
        weights, *config = network
        words = [name, weights, *map(str, arguments), *config, '--size', '32']
        monkeypatch.setattr(sys, 'argv', ['swav', *words])
        try:
            main()
        except SystemExit as end:
            return end.code, capsys.readouterr().err
        return 0, capsys.readouterr().out

    return call


def read(path: Path) -> list[dict[str, str]]:
    """Read a table."""
    with open(
        path, encoding='utf-8', errors='surrogateescape', newline=''
    ) as file:
        return [*csv.DictReader(file)]


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return bytes and time of each file of a folder."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


@pytest.mark.parametrize('how', ['--link', '--copy'])
def test_images_are_sorted_by_group(
    how: str, run: Run, colors: Path, tmp_path: Path
) -> None:
    before = contents(colors)
    code, told = run('cluster', colors, tmp_path / 'out', '--groups', 3, how)
    assert code == 0
    assert told.startswith('24 images; 6 of 7 prototypes have images\n')
    assert 'groups: purity 100.0%, NMI 1.000, ARI 1.000' in told
    rows = read(tmp_path / 'out/clusters.csv')
    assert [row['file'] for row in rows] == sorted(
        os.path.join(color, f'{i}.png') for color in COLORS for i in range(8)
    )
    shutil.move(tmp_path / 'out', tmp_path / 'moved')  # links are absolute
    for group in range(3):
        of_group = [row for row in rows if row['group'] == str(group)]
        folder = tmp_path / f'moved/groups/{group}'
        # Each color has files of the same names: 0.png to 7.png.
        assert len({row['file'].split(os.sep)[0] for row in of_group}) == 1
        names = {os.path.basename(row['file']) for row in of_group}
        assert {path.name for path in folder.iterdir()} == names
        for row in of_group:
            path = folder / os.path.basename(row['file'])
            assert path.is_symlink() == (how == '--link')
            assert path.read_bytes() == (colors / row['file']).read_bytes()
            assert 0 < float(row['confidence']) <= 1
            assert 0 <= float(row['distance']) <= 2
    assert contents(colors) == before


def test_names_that_collide_get_numbers(
    run: Run, colors: Path, tmp_path: Path
) -> None:
    long = 'x' * 251 + '.png'
    for name in ('a', 'b', 'c'):
        folder = tmp_path / 'images' / name
        folder.mkdir(parents=True)
        shutil.copy(colors / 'red/0.png', folder / 'same.png')
        shutil.copy(colors / 'red/0.png', folder / long)
    shutil.copy(colors / 'red/0.png', tmp_path / 'images/c/SAME.PNG')
    out = tmp_path / 'out'
    assert run('cluster', tmp_path / 'images', out, '--copy')[0] == 0
    (folder,) = (out / 'prototypes').iterdir()
    # Which of c/SAME.PNG and c/same.png comes first is up to sorting.
    assert {path.name.lower() for path in folder.iterdir()} == {
        'same.png',
        'same-2.png',
        'same-3.png',
        'same-4.png',
        long,
        'x' * 249 + '-2.png',
        'x' * 249 + '-3.png',
    }


def test_page_needs_nothing_else_and_escapes_names(
    run: Run, colors: Path, tmp_path: Path
) -> None:
    images = tmp_path / 'images'
    odd = ['<script>alert(1)</script>'.replace('/', '_'), '"&\'', 'über\n2']
    for name, color in zip(odd, COLORS):
        shutil.copytree(colors / color, images / name)
    (images / os.fsdecode(b'\xff')).mkdir()  # not UTF-8
    shutil.copy(colors / 'red/0.png', images / os.fsdecode(b'\xff/\xfe.png'))
    assert run('cluster', images, tmp_path / 'out')[0] == 0
    page = (tmp_path / 'out/index.html').read_text(encoding='utf-8')
    assert '<script' not in page and '&lt;script&gt;' in page
    sources = re.findall(r'src="([^"]*)', page)
    # The first two images of each color are on prototypes of their own.
    assert len(sources) == 25
    assert all(s.startswith('data:image/jpeg;base64,') for s in sources)
    assert 'http' not in page and 'url(' not in page and 'href' not in page
    assert '1 prototype has no images: 6.' in page
    names = {row['file'] for row in read(tmp_path / 'out/clusters.csv')}
    assert os.fsdecode(b'\xff/\xfe.png') in names
    assert os.path.join('über\n2', '0.png') in names
    assert len(read_features(tmp_path / 'out/features.npy').files) == 25


def test_page_stays_small(
    run: Run,
    colors: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        'swav_plugin.inference.cluster_output.MAX_PICTURES', 12
    )
    monkeypatch.setattr(gallery, 'MAX_PICTURES', 12)
    assert run('cluster', colors, tmp_path / 'out')[0] == 0
    page = (tmp_path / 'out/index.html').read_text()
    assert page.count('<img') <= 12
    assert 'The 3 largest of 6 prototypes are shown' in page
    assert len(read(tmp_path / 'out/clusters.csv')) == 24


def test_balanced_is_even(run: Run, colors: Path, tmp_path: Path) -> None:
    assert run('cluster', colors, tmp_path / 'out', '--balanced')[0] == 0
    page = (tmp_path / 'out/index.html').read_text()
    assert '<dd>balanced</dd>' in page
    rows = read(tmp_path / 'out/clusters.csv')
    assert {row['group'] for row in rows} == {''}


def test_neighbors_of_each_image(
    run: Run, colors: Path, tmp_path: Path
) -> None:
    shutil.copytree(colors, tmp_path / 'images')
    copied = tmp_path / 'images/red/copy of 3.png'
    shutil.copy(colors / 'red/3.png', copied)
    out = tmp_path / 'out'
    arguments = ('--k', 4, '--duplicates', '1')
    code, told = run('neighbours', tmp_path / 'images', out, *arguments)
    assert code == 0
    assert 'near-duplicates: 2 images in 1 group, similarity 1' in told
    rows = read(out / 'neighbours.csv')
    assert len(rows) == 25 * 4
    for row in rows:
        assert row['query'] != row['file']
    first = {row['query']: row for row in rows if row['rank'] == '1'}
    assert first['red/3.png']['file'] == 'red/copy of 3.png'
    assert float(first['red/3.png']['similarity']) > 1 - 1e-5
    pairs = [
        (row['group'], row['file']) for row in read(out / 'duplicates.csv')
    ]
    assert pairs == [('0', 'red/3.png'), ('0', 'red/copy of 3.png')]
    page = (out / 'index.html').read_text()
    assert page.count('<img') == 25 * 5 + 2


def test_neighbors_of_queries(run: Run, colors: Path, tmp_path: Path) -> None:
    inside = colors / 'green/2.png'
    elsewhere = tmp_path / 'elsewhere.png'
    Image.new('RGB', (40, 40), COLORS['blue']).save(elsewhere)
    code, told = run(
        'neighbours',
        colors,
        tmp_path / 'out',
        '--query',
        inside,
        '--query',
        elsewhere,
        '--k',
        99,
    )
    assert code == 0
    rows = read(tmp_path / 'out/neighbours.csv')
    found = {
        str(query): [row['file'] for row in rows if row['query'] == str(query)]
        for query in (inside, elsewhere)
    }
    assert 'green/2.png' not in found[str(inside)]
    assert len({*found[str(inside)]}) == 23
    # All pairs of a large folder take long, and nobody asked for them.
    assert 'near-duplicates' not in told
    assert not (tmp_path / 'out/duplicates.csv').exists()


def test_a_limit_that_is_too_low_is_told(
    run: Run, colors: Path, tmp_path: Path
) -> None:
    code, told = run(
        'neighbours', colors, tmp_path / 'out', '--duplicates', '0.01'
    )
    assert code == 0
    assert 'the largest group has 24 of 24 images' in told
    assert 'needs a higher --duplicates' in told


def test_unreadable_images_are_left_out(
    run: Run, colors: Path, tmp_path: Path
) -> None:
    shutil.copytree(colors, tmp_path / 'images')
    (tmp_path / 'images/red/broken.png').write_bytes(b'\x89PNG')
    assert run('cluster', tmp_path / 'images', tmp_path / 'out')[0] == 0
    assert len(read(tmp_path / 'out/clusters.csv')) == 24


@pytest.mark.parametrize('command', ['cluster', 'neighbours'])
def test_mistakes_end_in_one_line(
    command: str,
    run: Run,
    colors: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, broken = tmp_path / 'out', tmp_path / 'broken.png'
    out.mkdir()
    broken.write_bytes(b'')
    mistakes = {
        (colors, out): f'{out} exists already',
        (colors, colors / 'out'): f'{colors / "out"} is inside {colors}',
        (colors, ''): 'OUT is empty',
        (tmp_path / 'no', tmp_path / 'new'): f'no image {tmp_path / "no"}',
        (out, tmp_path / 'new'): f'no images in {out}',
        (colors, broken / 'out'): f'{broken} is a file; give another name',
    }
    of_command: dict[str, dict[tuple[object, ...], str]] = dict(
        cluster={
            ('--groups', 0): '--groups 0: give 1 or more',
            ('--groups', 8): 'got 8 groups, but the network has 7 prototypes',
        },
        neighbours={
            ('--duplicates', 2): 'got 2.0 as the least similarity',
            ('--k', 0): 'got k=0 neighbors',
            ('--query', 'no.jpg'): 'there is no image no.jpg',
            ('--query', broken): '1 of 1 images cannot be read',
        },
    )
    options = {
        ('--batch-size', 0): '--batch-size 0: give 1 or more',
        ('--gpus', 0): '--gpus 0: give 1 or more',
        **of_command[command],
    }
    for option, message in options.items():
        mistakes[(colors, tmp_path / 'new', *option)] = message
    # All are found before any image is computed.
    monkeypatch.setattr('swav_plugin.inference.parts.run_batches', None)
    for arguments, message in mistakes.items():
        code, told = run(command, *arguments)
        assert code == 2, arguments
        last = told.splitlines()[-1]
        assert last.startswith(f'swav {command}: error: ')
        assert message in last
        assert 'Traceback' not in told
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ['broken.png', 'out']


def test_an_error_while_writing_leaves_nothing(
    run: Run,
    colors: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, 'No space left on device')

    arguments = ('cluster', colors, tmp_path / 'out', '--copy')
    with monkeypatch.context() as patch:
        patch.setattr('shutil.copy2', full)
        code, told = run(*arguments)
    assert code == 2 and 'No space left on device' in told
    assert [path.name for path in tmp_path.iterdir()] == ['.out.parts']
    # Features were not lost; what cannot be known before is told after them.
    monkeypatch.setattr('swav_plugin.inference.parts.run_batches', no_batches)
    code, told = run(*arguments, '--groups', 7)
    assert code == 2
    assert 'got 7 groups, but only 6 prototypes have images' in told
    assert run(*arguments, '--groups', 6)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ['out']


def no_batches(*args: Any) -> Iterator[Any]:
    """Compute nothing, in place of `run_batches`."""
    assert not args[2], 'features are computed once more'
    return iter([])


@pytest.mark.parametrize('command', ['cluster', 'neighbours'])
def test_a_stopped_command_goes_on(
    command: str,
    run: Run,
    colors: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[int] = []
    load = LoadedImages.__getitem__

    def stop_at_18(self: LoadedImages, index: int) -> Any:
        loaded.append(index)
        if len(loaded) == 18:
            raise KeyboardInterrupt
        return load(self, index)

    monkeypatch.setattr(LoadedImages, '__getitem__', stop_at_18)
    arguments = (command, colors, tmp_path / 'out', '--batch-size', 1)
    code, told = run(*arguments)
    assert code == 130 and told.endswith('goes on where it ended\n')
    assert run(*arguments)[0] == 0
    assert loaded[18:] == [*range(16, 24)]
    assert run(command, colors, tmp_path / 'whole', '--batch-size', 1)[0] == 0
    table = 'clusters.csv' if command == 'cluster' else 'neighbours.csv'
    assert read(tmp_path / 'out' / table) == read(tmp_path / 'whole' / table)


@pytest.mark.parametrize('command', ['cluster', 'neighbours'])
def test_features_are_computed_once(
    command: str,
    run: Run,
    colors: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that the command has left, and those of `swav extract`."""
    own, written = tmp_path / 'out/features.npy', tmp_path / 'written.npy'
    assert run(command, colors, tmp_path / 'out')[0] == 0
    layer = 'embedding' if command == 'cluster' else 'avgpool'
    assert run('extract', colors, written, '--layer', layer)[0] == 0
    first, second = read_features(own), read_features(written)
    assert torch.equal(first.features, second.features)
    assert first.files == second.files
    # Links to the same images, and one that is new.
    (tmp_path / 'linked').mkdir()
    for name in COLORS:
        (tmp_path / 'linked' / name).symlink_to(colors / name)
    shutil.copy(colors / 'red/0.png', tmp_path / 'linked/red.png')
    monkeypatch.setattr('swav_plugin.inference.parts.run_batches', None)
    for number, (folder, features) in enumerate(
        [(colors, own), (colors, written), (tmp_path / 'linked', own)]
    ):
        out = tmp_path / str(number)
        assert run(command, folder, out, '--features', features)[0] == 0
        assert 'from ' + str(features) in (out / 'index.html').read_text()
        for table in (tmp_path / 'out').glob('*.csv'):
            assert (out / table.name).read_text() == table.read_text()


def test_features_of_something_else_are_refused(
    run: Run,
    network: tuple[str, ...],
    colors: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights, *config = network
    other = get_model(config[1], 'cpu', checkpoint=weights)
    torch.manual_seed(1)
    torch.nn.init.normal_(other.neck.projection[0].weight)
    for name, model, layer in (
        ('other', other, 'embedding'),
        ('wide', other, 'avgpool'),
    ):
        out = tmp_path / f'{name}.npy'
        extract_features(model, str(colors), layer, 32, out=out)
    (tmp_path / 'cut.npy').write_bytes(out.read_bytes()[:-9])
    np.save(tmp_path / 'flat.npy', np.zeros(24, np.float32))
    np.save(tmp_path / 'object.npy', np.array([None]), allow_pickle=True)
    (tmp_path / 'empty.npy').touch()
    for name in ('cut', 'flat', 'object', 'empty'):
        shutil.copy(tmp_path / 'wide.txt', tmp_path / f'{name}.txt')
    np.save(tmp_path / 'nameless.npy', np.zeros((24, 16), np.float32))
    arguments = ('cluster', colors, tmp_path / 'new', '--features')
    for name, message in (
        ('no.npy', 'there is no file'),
        ('nameless.npy', 'there is no file .*/nameless.txt'),
        ('flat.npy', r'float32 array of shape \(24,\)'),
        ('cut.npy', 'cut.npy is damaged'),
        ('empty.npy', 'empty.npy is damaged'),
        ('object.npy', 'object.npy is damaged.*objects'),
        ('other.txt', "ends with '.txt'"),
        (
            'wide.npy',
            "has features of width 64, but 'embedding' of this .* 16",
        ),
        ('other.npy', 'is not of this network: .* differs'),
    ):
        code, told = run(*arguments, tmp_path / name)
        assert code == 2
        assert re.search(message, told.splitlines()[-1]), told
    code, told = run(
        'cluster', colors / 'red', *arguments[2:], tmp_path / 'other.npy'
    )
    assert code == 2 and '16 images that you did not name, such as' in told
    assert not (tmp_path / 'new').exists()


def test_classes_are_below_train_and_val() -> None:
    files = ['train/cat/a/1.png', 'train/dog/2.png', 'val/cat/3.png']
    for prefix in ('', 'images/', 'Train2017/'):
        paths = [f'{prefix}{file}' for file in files]
        expected = None if prefix == 'images/' else ['cat', 'dog', 'cat']
        assert find_classes(paths) == expected
    # Images without classes; and a class that is only called like a split.
    assert find_classes(['train/1.png', 'val/2.png']) is None
    assert find_classes(['train/1.png', 'bus/2.png']) == ['train', 'bus']
    assert find_classes(['0/1.png', '1/2.png']) == ['0', '1']
    assert find_classes(['1.png', 'bus/2.png']) is None


@pytest.mark.parametrize(
    'count, is_told', [(24, True), (13, True), (12, False)]
)
def test_a_collapse_is_told(count: int, is_told: bool) -> None:
    prototype = torch.zeros(24, dtype=torch.int64)
    prototype[count:] = torch.arange(1, 25 - count)
    nothing = torch.zeros(24)
    told = describe_spread(Clusters(prototype, nothing, nothing, [], 30))
    assert ('are on one prototype: ' in told) == is_told
    assert (f'{count / 24:.0%} of the images are on one' in told) == is_told
