"""The tools of tools/analysis_tools, run in this process."""

import argparse
import json
import runpy
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from swav_plugin.engine.config import load_config
from swav_plugin.registry import MODELS
from tests.conftest import REPO_ROOT

from ..test_faults.recipe import draw_images, write_config

TOOLS = REPO_ROOT / 'tools/analysis_tools'
CONFIGS = REPO_ROOT / 'configs'
RECIPE = 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py'
KNN = 'benchmarks/classification/knn_imagenet.py'
Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture) -> Run:
    """Run a tool; gives what it prints."""

    def call(name: str, *args: object) -> str:
        runpy.run_path(str(TOOLS / f'{name}.py'))['main']([*map(str, args)])
        return capsys.readouterr().out

    return call


@pytest.fixture
def refuse(run: Run, capsys: pytest.CaptureFixture) -> Run:
    """Run a tool that has to fail; gives its one line."""

    def call(name: str, *args: object) -> str:
        with pytest.raises(SystemExit) as caught:
            run(name, *args)
        assert caught.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return call


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config, 12 images in two class folders, and a checkpoint."""
    folder = tmp_path_factory.mktemp('analysis')
    for name in ('cat', 'dog'):
        draw_images(folder / 'images' / name, 6)
    write_config(folder / 'config.py', folder / 'images')
    torch.manual_seed(0)
    model = MODELS.build(load_config(str(folder / 'config.py')).model)
    torch.save(model.state_dict(), folder / 'model.pth')
    return folder


def test_every_tool_has_help(run: Run, capsys: pytest.CaptureFixture) -> None:
    names = sorted(path.stem for path in TOOLS.glob('*.py'))
    assert len(names) == 7
    for name in names:
        with pytest.raises(SystemExit) as caught:
            run(name, '--help')
        assert caught.value.code == 0
        assert f'{name}.py ' in capsys.readouterr().out


def test_every_option_of_a_tool_has_help(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsers = []

    def stop(parser: argparse.ArgumentParser, *args: object) -> None:
        parsers.append(parser)
        sys.exit()

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', stop)
    for path in TOOLS.glob('*.py'):
        with pytest.raises(SystemExit):
            run(path.stem)
    assert len(parsers) == 7
    for parser in parsers:
        for action in parser._actions:
            assert action.help, f'{parser.description}: {action.dest}'


def test_pictures_of_views(folder: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / 'new/views'
    run('browse_views', folder / 'config.py', '-o', out, '-n', 3)
    files = sorted(out.iterdir())
    assert [path.name for path in files] == [
        '000000-0.png',
        '000006-0.png',
        '000011-5.png',
    ]
    # The photo and 2 views of 32 px, 2 views of 16 px, enlarged by 4.
    assert Image.open(files[0]).size == (4 * (3 * 32 + 2 * 16) + 4 * 4, 128)
    # As swav train takes it, with --data in place of the recipe's folder.
    config = tmp_path / 'config.py'
    write_config(config, tmp_path / 'elsewhere/train')
    options = ['-n', '1', '-m', 'transformed', '--data', folder / 'images']
    run('browse_views', config, '-o', out, *options)
    assert Image.open(files[0]).size == (4 * (2 * 32 + 2 * 16) + 3 * 4, 128)


def test_mistakes_in_looking_at_views(
    folder: Path, tmp_path: Path, refuse: Run
) -> None:
    config = folder / 'config.py'
    key = 'train_dataloader.dataset.data_root=no/such'
    assert "data_root 'no/such' is not a folder" in refuse(
        'browse_views', config, '--cfg-options', key
    )
    assert 'no val_dataloader' in refuse('browse_views', config, '-p', 'val')
    assert '--data no/such does not exist' in refuse(
        'browse_views', config, '--data', 'no/such'
    )
    knn, images = CONFIGS / KNN, folder / 'images'
    key = 'test_dataloader.dataset.data_root=FOLDER'
    assert key in refuse('browse_views', knn, '-p', 'test', '--data', images)
    assert '--show-number 0' in refuse('browse_views', config, '-n', '0')


def test_page_of_prototypes(
    folder: Path, tmp_path: Path, run: Run, refuse: Run
) -> None:
    page = tmp_path / 'gallery.html'
    arguments = [folder / 'model.pth', folder / 'images', page]
    options = ['--config', folder / 'config.py', '--size', '32']
    run('prototype_gallery', *arguments, *options)
    text = page.read_text()
    assert text.count('data:image/jpeg') == 12
    assert 'Prototype ' in text and 'cat' in text
    assert 'exists already' in refuse('prototype_gallery', *arguments)


def test_parameters_and_flops(folder: Path, run: Run, refuse: Run) -> None:
    """The counts themselves are tested in test_models/test_complexity.py."""
    config = folder / 'config.py'
    printed = run('count_parameters', config).splitlines()
    table = {row.split()[0]: row.split()[1:] for row in printed}
    assert table['head.prototypes'] == [str(20 * 16), '0', '0']
    # 2 views of a queue of 32 embeddings, and how full it is.
    assert table['head.queue'] == ['0', '0', f'{2 * 32 * 16 + 1:,}']

    # Large ones, since three digits are printed; nothing is computed.
    key = 'train_dataloader.dataset.pipeline.1.sizes=[1024, 512]'
    options = ['--cfg-options', key]
    lines = run('get_flops', config, *options).splitlines()
    numbers = [float(line.split()[-2].replace(',', '')) for line in lines]
    large, small, image, step = numbers
    assert lines[0].startswith('2 of 1024x1024 px')
    assert lines[1].startswith('2 of 512x512 px')
    assert large == pytest.approx(4 * small, abs=0.005)
    assert image == pytest.approx(2 * large + 2 * small, abs=0.003)
    assert step == pytest.approx(3 * 8 * image, abs=0.02)
    shape = ['--shape', '1024']
    (alone, *_) = run('get_flops', config, *shape, *options).splitlines()
    assert float(alone.split()[-2]) == large
    linear = CONFIGS / 'benchmarks/classification/knn_imagenet.py'
    assert 'has a ImageClassifier' in refuse('get_flops', linear)


@pytest.mark.parametrize('style', ['old', 'new'])
def test_printed_config_is_the_config(
    style: str, tmp_path: Path, run: Run
) -> None:
    path = CONFIGS / 'selfsup/swav' / RECIPE
    if style == 'new':
        path = tmp_path / 'mine.py'
        path.write_text(
            'from mmengine.config import read_base\n'
            'with read_base():\n'
            '    from swav_plugin.configs._base_.models.swav_resnet18 '
            'import *\n'
        )
    key = 'model.head.epsilon=0.03'
    printed = run('print_config', path, '--cfg-options', key)
    read = Config.fromstring(printed, '.py')
    assert read.to_dict() == load_config(str(path), [key]).to_dict()
    assert read.model.head.epsilon == 0.03 and read.model.type == 'SwAV'


def test_config_with_a_mistake_is_not_printed(refuse: Run) -> None:
    recipe = CONFIGS / 'selfsup/swav' / RECIPE
    line = refuse('print_config', recipe, '--cfg-options', 'model.hed.a=1')
    assert 'hed' in line and 'head' in line
    assert 'there is no config no.py' in refuse('print_config', 'no.py')


def write_log(work_dir: Path, name: str, rows: list[dict]) -> Path:
    """Write the log of one start of a run."""
    path = work_dir / name / 'vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return path


def heights(svg: str) -> list[list[float]]:
    """The heights of the points of each line, from the top."""
    root = ElementTree.fromstring(svg)
    lines = root.iter('{http://www.w3.org/2000/svg}polyline')
    return [
        [float(point.split(',')[1]) for point in line.attrib['points'].split()]
        for line in lines
    ]


def test_curves_of_several_runs(tmp_path: Path, run: Run, refuse: Run) -> None:
    for number, name in enumerate(('one', 'other')):
        rows = [
            dict(iter=i, step=i, loss=4 - i - number, ln_K=4.0)
            for i in (1, 2, 3)
        ]
        log = write_log(tmp_path / name, '20260101_000000', rows)
    # Resumed after iteration 1: these two count.
    again = [dict(iter=i, step=i, loss=2.0, ln_K=4.0) for i in (2, 3)]
    write_log(tmp_path / 'one', '20260102_000000', again)
    out = tmp_path / 'curves.svg'
    runs = [tmp_path / 'one', log]
    run('plot_curves', *runs, '--out', out)
    svg = out.read_text()
    first, second = heights(svg)
    assert first[0] < first[1] == first[2]  # 3, 2, 2
    assert second[0] == first[1]  # 2, 1, 0
    assert second[2] - second[1] == pytest.approx(second[1] - second[0], abs=1)
    assert 'ln K = 4.00' in svg and '>one loss<' in svg
    run('plot_curves', *runs, '--out', out, '--legend', 'A & B', 'C')
    assert '>A &amp; B<' in out.read_text()

    line = refuse('plot_curves', *runs, '--keys', 'los')
    assert "no 'los'" in line and 'loss' in line
    assert 'give 2 names' in refuse('plot_curves', *runs, '--legend', 'A')
    assert '.svg' in refuse('plot_curves', *runs, '--out', 'a.png')
    (tmp_path / 'empty').mkdir()
    assert 'no log' in refuse('plot_curves', tmp_path / 'empty')
    line = refuse('plot_curves', tmp_path / 'nothing')
    assert f'there is no {tmp_path}/nothing; give a work dir, or' in line


def test_curves_of_a_log_alone(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied from its work dir, or one of several starts."""
    rows = [dict(iter=i, step=i, loss=4.0 - i) for i in (1, 2, 3)]
    log = write_log(tmp_path / 'one', '20260101_000000', rows)
    write_log(tmp_path / 'one', '20260102_000000', rows[:1])
    run('plot_curves', log, '--out', tmp_path / 'a.svg')
    assert len(heights((tmp_path / 'a.svg').read_text())[0]) == 3
    monkeypatch.chdir(tmp_path)
    log.rename('scalars.json')
    run('plot_curves', 'scalars.json', '--out', 'b.svg')
    svg = (tmp_path / 'b.svg').read_text()
    assert len(heights(svg)[0]) == 3 and '>scalars loss, 3: 1<' in svg


def test_map_of_embeddings(folder: Path, tmp_path: Path, run: Run) -> None:
    pytest.importorskip('sklearn')
    options = ['--config', folder / 'config.py', '--size', '32']
    model, images = folder / 'model.pth', folder / 'images'
    run('visualize_embeddings', model, images, tmp_path / 'a.html', *options)
    page = (tmp_path / 'a.html').read_text()
    assert page.count('<circle') == 12
    assert '>cat (6)<' in page and '>dog (6)<' in page
    title = f't-SNE of 12 images of {images}'
    assert f'<title>{title}</title>' in page and f'<h1>{title}</h1>' in page
    # As the map of a report: in the dark, on a phone, and by touch.
    assert 'prefers-color-scheme: dark' in page and 'width=device' in page
    assert page.count('class="dot" tabindex') == 12
    options += ['--max-num-samples', '10']
    out = tmp_path / 'b.html'
    run('visualize_embeddings', model, f'{images}/**/*.jpg', out, *options)
    page = out.read_text()  # a pattern has no class folders
    assert page.count('<circle') == 10 and 'prototype ' in page
