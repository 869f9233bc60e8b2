"""The page of a small run with hostile names, and what it takes from where."""

import base64
import io
import json
import math
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from PIL import Image

from swav_plugin.__main__ import main
from swav_plugin.apis import assign_clusters, extract_features, get_model
from swav_plugin.commands import train
from swav_plugin.engine.agreement import Preempted
from swav_plugin.engine.config import load_config
from swav_plugin.engine.errors import UsageError
from swav_plugin.inference.clusters import Clusters
from swav_plugin.registry import DATASETS
from swav_plugin.report import ReportHook
from swav_plugin.report.content import Report, Warned
from swav_plugin.report.history import History, read_history
from swav_plugin.report.learned import Images
from swav_plugin.report.page import lay_out, to_html, write_report
from swav_plugin.report.record import (
    describe_code,
    describe_starts,
    end_recorded,
    read_record,
)
from swav_plugin.report.samples import (
    compute_features,
    draw_views,
    sample_dataset,
    spread,
)
from swav_plugin.report.stopping import describe_best_epoch
from tests.test_faults.recipe import draw_images, write_config
from tests.test_suite.reports import example

from .test_browser import BROWSER, brightness, look

CLASSES = ('<script>alert(1)', '猫 & "x"', "a'b")
VOID = {'meta', 'img', 'line', 'rect', 'polyline'}
REPORT_ON = "\ndefault_hooks['report'] = dict(type='ReportHook')\n"


class Page(HTMLParser):
    """A page as a list of elements: tag, attributes, text and parents."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[SimpleNamespace] = []
        self._open: list[SimpleNamespace] = []
        self.text = path.read_text(encoding='utf-8')
        self.feed(self.text)
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        element = SimpleNamespace(
            tag=tag, attrs=dict(attrs), text='', parents=[*self._open]
        )
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:  # a circle without a name
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def find(self, tag: str, **attrs: str) -> list[SimpleNamespace]:
        """Elements with a tag and attributes; `class_` and `id` are two."""
        wanted = {key.rstrip('_'): value for key, value in attrs.items()}
        return [
            each
            for each in self.elements
            if each.tag == tag and wanted.items() <= each.attrs.items()
        ]

    def inside(self, tag: str, parent: SimpleNamespace) -> list:
        return [each for each in self.find(tag) if parent in each.parents]

    def strips(self, title: str) -> list[SimpleNamespace]:
        (section,) = self.find('div', id=title)
        return self.inside('article', section)

    def missing(self) -> dict[str, str]:
        (section,) = self.find('section', id='missing')
        parts = (e.text.partition(': ') for e in self.inside('li', section))
        return {part: reason for part, _, reason in parts}


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images in three class folders, and one that is none."""
    folder = tmp_path_factory.mktemp('images')
    drawn = draw_images(folder / 'flat')
    for number, path in enumerate(sorted(drawn.iterdir())):
        target = folder / 'train' / CLASSES[number % 3]
        target.mkdir(parents=True, exist_ok=True)
        path.rename(target / f"{number}'><img src=x onerror=alert(1)>.jpg")
    (target / 'broken.jpg').write_bytes(b'not an image')
    return folder / 'train'


@pytest.fixture(scope='module')
def run(
    images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The work dir of two epochs, with the page that training wrote."""
    folder = tmp_path_factory.mktemp('run')
    config = write_config(folder / '<i>small.py', images, REPORT_ON)
    with pytest.MonkeyPatch.context() as patch:
        work_dir = folder / 'work & <b>'
        argv = ['train.py', config, '--work-dir', str(work_dir)]
        patch.setattr(sys, 'argv', argv)
        train.main()
    return work_dir


@pytest.fixture(scope='module')
def written(run: Path) -> Page:
    return Page(run / 'report.html')


def _checkpoint(run: Path) -> Path:
    return Path((run / 'last_checkpoint').read_text())


def _model(run: Path) -> torch.nn.Module:
    (config,) = run.glob('*.py')
    return get_model(config, 'cpu', checkpoint=_checkpoint(run))


def _dataset(run: Path) -> BaseDataset:
    (config,) = run.glob('*.py')
    loader = load_config(str(config)).train_dataloader
    return DATASETS.build(loader.dataset.to_dict())


@pytest.mark.skipif(not BROWSER, reason='needs Chromium')
def test_the_page_fits_a_phone(run: Path, tmp_path: Path) -> None:
    page = (run / 'report.html').read_text()
    for is_dark in (False, True):
        seen = look(page, tmp_path, 390, is_dark)
        assert seen['page'] <= seen['window'] == 390
        assert (brightness(seen['paper']) < 128) == is_dark


def test_the_page_needs_nothing_and_runs_nothing(written: Page) -> None:
    assert not written.find('script') and not written.find('link')
    for each in written.elements:
        assert not any(name.startswith('on') for name in each.attrs)
        for name in ('src', 'href', 'xlink:href'):
            address = each.attrs.get(name, '#')
            assert address.startswith(('#', 'data:image/jpeg;base64,'))
    assert 'url(' not in written.text and '@import' not in written.text
    assert {each.text for each in written.find('i')} == {''}
    assert 'prefers-color-scheme: dark' in written.find('style')[0].text
    (viewport,) = written.find('meta', name='viewport')
    assert 'width=device-width' in viewport.attrs['content']
    # Every anchor leads somewhere.
    ids = {each.attrs.get('id') for each in written.elements}
    anchors = {each.attrs['href'][1:] for each in written.find('a')}
    assert anchors <= ids and {'run', 'curves', 'map', 'missing'} <= anchors


def test_head_says_what_and_how_it_is(run: Path, written: Page) -> None:
    (title,) = written.find('h1')
    assert title.text == '<i>small.py'
    (path,) = run.glob('*/vis_data/health.json')
    last = json.loads(path.read_text().splitlines()[-1])
    (head,) = written.find('header', id='head')
    state = written.inside('span', head)[0]
    assert state.text == 'too early' and last['state'] == 'OK'
    assert last['message'].removeprefix(f'{last["state"]}, ') in head.text
    assert '2 of 2 epochs, finished' in head.text
    # The last line of the training says it, too.
    best = describe_best_epoch(run, read_history(run))
    assert 'stopping score after epoch ' in best and best in head.text
    (log,) = run.glob('*/*.log')
    assert log.read_text().splitlines()[-1].endswith(f' - H{best[1:]}')


def test_facts_and_config(run: Path, images: Path, written: Page) -> None:
    names = [each.text for each in written.find('dt')]
    values = [each.text for each in written.find('dd')]
    facts = dict(zip(names, values))
    assert facts['Data'] == f'41 images in 3 folders of {images}'
    assert facts['Batch'].startswith('8 per process x 1 process x 2 accum')
    assert facts['Length'] == '2 epochs of 5 iterations'
    assert facts['Seed'] == '31'
    assert facts['Code'] == describe_code()
    assert f'torch {torch.__version__}' in facts['Software']
    assert facts['Checkpoint'] == str(_checkpoint(run))
    assert facts['Unreadable images'].startswith('1, listed in ')
    assert facts['Start'].startswith('Begun 20')
    assert ' from the beginning; ended 20' in facts['Start']
    assert facts['Start'].endswith(
        ' at iteration 10 of 10 (epoch 2): finished'
    )
    assert not {'Begun', 'Ended'} & {*facts}
    assert ' cores of ' in facts['Hardware']
    (config,) = written.find('pre')
    assert 'num_prototypes=20' in config.text
    assert config.parents[-1].tag == 'details'


def test_curves(run: Path, written: Page) -> None:
    (section,) = written.find('section', id='curves')
    charts = {
        each.attrs['aria-label']: each
        for each in written.inside('svg', section)
    }
    assert [*charts][:2] == ['loss', 'learning rate']
    assert 'effective rank of embeddings (RankMe)' in charts
    assert f'ln K = {math.log(20):.2f}' in charts['loss'].text
    (path,) = run.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    losses = [row['loss'] for row in rows if 'loss' in row]
    told = [each.text for each in written.inside('title', charts['loss'])]
    assert told == [f'{i}: {x:.4g}' for i, x in enumerate(losses, start=1)]
    assert len(losses) == 10
    (path,) = run.glob('*/vis_data/health.json')
    row = json.loads(path.read_text().splitlines()[-1])
    assert 'queue_overlap' in row
    # One chart or a line of one for each number.
    for title, names in (
        ('stopping score: higher should be better', ['stopping_score']),
        ('number of prototypes', ['effective_prototypes', 'dead_prototypes']),
        ('largest share of images on one prototype', ['largest_share']),
        (
            'entropy, share of ln K',
            ['prediction_entropy_share', 'code_entropy_share'],
        ),
        (
            'cosine between prototypes',
            ['prototype_cosine_mean', 'prototype_cosine_max'],
        ),
        ('spread of embeddings: 1 is even, 0 none', ['embedding_std']),
        ('what queue and batch have in common', ['queue_overlap']),
        ('gradient norm', ['gradient_norm']),
    ):
        told = [e.text for e in written.inside('title', charts[title])][1::2]
        for point, name in zip(told, names, strict=True):
            assert point.endswith(f'10: {row[name]:.4g}'), title


def test_without_scalars_the_health_is_drawn_and_the_rest_missing(
    run: Path, tmp_path: Path
) -> None:
    """Only TensorBoard had the losses."""
    work_dir = shutil.copytree(run, tmp_path / 'w')
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    path.unlink()
    report = lay_out(work_dir)
    assert len(report.charts) == 9
    (missing,) = (each for each in report.missing if each.part == 'Curves')
    assert missing.reason.startswith('no loss, learning rate or kNN, since')
    assert "needs dict(type='LocalVisBackend')" in missing.reason
    assert report.health and report.progress == '2 of 2 epochs, finished'


def test_views_are_those_that_training_got(
    images: Path, written: Page
) -> None:
    strips = written.strips('Views')
    assert len(strips) == 6
    (first, *_) = strips
    pictures = written.inside('img', first)
    sizes = []
    for picture in pictures[1:]:
        content = base64.b64decode(picture.attrs['src'].partition(',')[2])
        with Image.open(io.BytesIO(content)) as view:
            sizes.append(view.size)
    assert sizes == [(32, 32), (32, 32), (16, 16), (16, 16)]
    assert pictures[1].attrs['alt'].startswith('view 1 of ')


def test_views_go_through_pipeline_and_preprocessor(
    run: Path, images: Path
) -> None:
    dataset, model = _dataset(run), _model(run)
    sample = sample_dataset(dataset, 5)
    drawn = list(
        draw_views(
            dataset.pipeline, model.data_preprocessor, sample.samples, 31, 2
        )
    )
    assert len(drawn) == 2
    for index, views in drawn:
        info = sample.samples[index]
        from swav_plugin.datasets import SampleKey

        key = SampleKey(info['sample_idx'], epoch=0, seed=31)
        expected = dataset[key]['inputs']
        for view, pixels in zip(views, expected, strict=True):
            assert np.array_equal(
                np.asarray(view), pixels.permute(1, 2, 0).numpy()
            )


def test_prototypes_are_those_of_swav_cluster(
    run: Path, images: Path, written: Page
) -> None:
    model = _model(run)
    files = [str(path) for path in sorted(images.rglob('[0-9]*.jpg'))]
    clusters = assign_clusters(model, files)
    counts = Counter(clusters.prototype.tolist())
    strips = written.strips('Prototypes')
    assert len(strips) == len(counts)
    for strip in strips:
        title = written.inside('h3', strip)[0].text
        number = int(title.removeprefix('Prototype '))
        told = written.inside('p', strip)[0].text
        assert told.startswith(f'{counts[number]} image')
        shown = {each.attrs['alt'] for each in written.inside('img', strip)}
        own = {
            str(Path(file).relative_to(images))
            for file, each in zip(files, clusters.prototype.tolist())
            if each == number
        }
        assert len(shown) == min(12, len(own)) and shown <= own
    (section,) = written.find('div', id='Prototypes')
    assert f'{len(counts)} of 20 prototypes have images' in section.text
    assert 'purity' in section.text


def test_neighbors_are_the_nearest(
    run: Path, images: Path, written: Page
) -> None:
    files = [str(path) for path in sorted(images.rglob('[0-9]*.jpg'))]
    features, _ = extract_features(_model(run), files)
    unit = torch.nn.functional.normalize(features, dim=1)
    cosines = (unit @ unit.T).fill_diagonal_(-1)
    names = [str(Path(file).relative_to(images)) for file in files]
    strips = written.strips('Neighbors')
    assert len(strips) == 12
    for strip in strips:
        query, nearest, *others = [
            each.attrs['alt'] for each in written.inside('img', strip)
        ]
        row = cosines[names.index(query)]
        assert row[names.index(nearest)] == pytest.approx(
            float(row.max()), abs=1e-5
        )
        assert len(others) == 6


def test_map_has_each_image_in_the_color_of_its_class(
    images: Path, written: Page
) -> None:
    (section,) = written.find('section', id='map')
    circles = written.inside('circle', section)
    assert len(circles) == 40
    kinds = Counter(path.parent.name for path in images.rglob('[0-9]*.jpg'))
    legend = [
        each.text
        for each in written.inside('span', section)
        if each.parents[-1].attrs.get('class') == 'kinds'
    ]
    assert sorted(legend) == sorted(f'{k} ({n})' for k, n in kinds.items())
    assert len({each.attrs['fill'] for each in circles}) == 3
    told = [each.text for each in written.inside('title', section)]
    assert len({*told}) == 40
    assert all(line.split(': ')[0] in kinds for line in told)
    # A dot that is tapped gets the focus, and with it shows its name.
    dots = written.find('g', class_='dot')
    assert len(dots) == 40 and section in dots[0].parents
    for dot, line in zip(dots, told):
        assert dot.attrs['tabindex'] == '-1'
        kind, name = (e.text for e in written.inside('tspan', dot))
        assert line == f'{kind}: {name}'
    assert '.dot:focus text' in written.find('style')[0].text
    assert 'or tap it' in section.text


def test_what_is_missing_has_a_reason(written: Page) -> None:
    missing = written.missing()
    assert {*missing} == {'Images', 'Benchmarks'}
    assert missing['Images'].startswith('1 image of 41 cannot be read: ')
    assert 'broken.jpg' in missing['Images']
    assert missing['Benchmarks'].startswith('nothing was measured: swav suite')


def _swav(
    monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> int | str | None:
    argv = ['swav', 'report', *map(str, arguments)]
    monkeypatch.setattr(sys, 'argv', argv)
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0


def test_without_pictures_or_a_checkpoint_the_rest_is_there(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """A folder of logs alone, beside a suite of another checkpoint."""
    logs = tmp_path / 'logs'
    for path in run.glob('*/vis_data'):
        shutil.copytree(path, logs / path.parent.name / 'vis_data')
    (logs / 'suite').mkdir()
    (logs / 'suite/results.json').write_text(json.dumps(example()))
    assert _swav(monkeypatch, logs, '--no-images') == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == str(logs / 'report.html')
    found = Page(logs / 'report.html')
    assert not found.find('img') and len(found.find('svg')) >= 11
    missing = found.missing()
    assert {*missing} == {'Hardware, versions and commit', 'Pictures'}
    assert len(told) == 3
    (benchmarks,) = found.find('section', id='benchmarks')
    assert '60.5' in benchmarks.text  # published
    (head,) = found.find('header', id='head')
    assert '2 of 2 epochs, finished' in head.text

    out = tmp_path / 'out/other.html'
    assert _swav(monkeypatch, logs, '--max-images', 12, '--out', out) == 0
    found = Page(out)
    assert 'there is none in' in found.missing()['Checkpoint']
    assert len(found.strips('Views')) == 6
    assert not found.find('div', id='Prototypes')


def test_images_of_ones_own(
    run: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flat = draw_images(tmp_path / 'flat', 12)
    out = tmp_path / 'r.html'
    options = ['--images', flat, '--out', out, '--checkpoint']
    assert _swav(monkeypatch, run, *options, _checkpoint(run)) == 0
    found = Page(out)
    names = {path.name for path in flat.iterdir()}
    shown = {each.attrs['alt'] for each in found.find('img')}
    assert {name for name in shown if not name.startswith('view')} == names
    # They need not be those that the network was trained on.
    (views,) = found.find('div', id='Views')
    assert f'Views of {flat}, made as in training' in views.text
    assert f'All 12 images of {flat}. The network need not' in found.text
    assert 'the network got' not in found.text
    (section,) = found.find('section', id='map')
    assert 'prototype ' in section.text  # no classes
    assert len(found.inside('circle', section)) == 12


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['{}/none'], 'there is no folder {}/none'),
        (['{}/empty'], '{}/empty has no log of a run; give the --work-dir'),
        (['{}/w', '--out', '{}/a.pth'], 'give a name that ends with .html'),
        (['{}/w', '--out', '{}/d.html'], '{}/d.html is a folder'),
        (['{}/w', '--max-images', '0'], '--max-images 0: give 1 or more'),
        (['{}/w', '--images', '{}/no'], 'there is no image {}/no'),
        (['{}/w', '--checkpoint', '{}/no.pth'], 'no.pth'),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    for name in ('empty', 'd.html', 'w/1/vis_data'):
        (tmp_path / name).mkdir(parents=True)
    given = [each.format(tmp_path) for each in arguments]
    assert _swav(monkeypatch, *given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('report: error: ') or 'swav report' in line
    assert message.format(tmp_path) in line


def test_an_error_in_the_report_ends_no_run(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError('no\nroom')

    monkeypatch.setattr('swav_plugin.report.record.record_run', fail)
    said: list[str] = []
    runner = SimpleNamespace(logger=SimpleNamespace(warning=said.append))
    hook = ReportHook()
    hook.before_train(runner)
    hook.after_train(runner)
    assert said == ['The report was not written: RuntimeError: no room'] * 2
    with pytest.raises(ValueError, match='report=None'):
        ReportHook(max_seconds=0)


def test_the_network_stops_when_the_time_is_over(
    run: Path, images: Path
) -> None:
    sample = sample_dataset(_dataset(run), 40)
    model = _model(run)
    found = compute_features(model, sample, seconds=0)
    assert len(found.indices) + len(found.unreadable) == 16  # a batch
    assert {*found.indices} <= {*range(16)}
    # The embeddings of both are the same, so a shorter time changes no image.
    every = compute_features(model, sample)
    places = [every.indices.index(i) for i in found.indices]
    assert torch.allclose(every.pooled[places], found.pooled, atol=1e-6)


def test_each_beginning_of_the_sample_is_spread() -> None:
    order = spread(1000, 100)
    assert len({*order}) == 100 == len(order)
    assert order == spread(1000, 100)  # the same each time
    for num in (25, 50):
        assert {each // 250 for each in order[:num]} == {0, 1, 2, 3}
    assert sorted(spread(3, 100)) == [0, 1, 2]


def test_images_in_memory_are_shown(tmp_path: Path) -> None:
    """A set without files, such as CIFAR-10, has addresses in their place."""

    class Arrays(list):
        metainfo = dict(classes=('a', 'b'))

        def get_data_info(self, index: int) -> dict:
            return dict(img=self[index], gt_label=index % 2, sample_idx=index)

    pixels = [np.full((8, 8, 3), 20 * i, np.uint8) for i in range(12)]
    sample = sample_dataset(SimpleNamespace(dataset=Arrays(pixels)), 5)
    assert sample.total == 12 and sample.images.classes is not None
    for file, name in zip(sample.images.files, sample.images.names):
        content = base64.b64decode(file.partition(',')[2])
        with Image.open(io.BytesIO(content)) as img:
            value = np.asarray(img).mean()
        assert abs(value - 20 * int(name.split()[-1])) < 3


def test_logs_of_no_training_do_not_count(run: Path, tmp_path: Path) -> None:
    """`swav test` writes into the same work dir, with another config."""
    work_dir = shutil.copytree(run, tmp_path / 'w')
    before = lay_out(work_dir)
    later = work_dir / '29990101_000000/vis_data'
    later.mkdir(parents=True)
    (later / 'config.py').write_text("model = dict(type='FeatureModel')")
    (later / 'scalars.json').write_text('{"knn20_top1": 5.0, "step": 0}\n')
    after = lay_out(work_dir)
    assert 'FeatureModel' not in after.config
    assert after == before


def test_a_start_that_noted_nothing(run: Path, tmp_path: Path) -> None:
    """Nothing that an earlier one noted is taken for its own."""
    work_dir = shutil.copytree(run, tmp_path / 'w')
    before = lay_out(work_dir)
    assert before.progress.endswith(', finished')
    assert len(before.starts) == 1
    later = work_dir / '29990101_000000/vis_data'
    later.mkdir(parents=True)
    (config,) = run.glob('*/vis_data/config.py')
    text = config.read_text().replace('max_epochs=2', 'max_epochs=9')
    (later / 'config.py').write_text(text)
    (later / 'scalars.json').write_text('{"loss": 1.0, "iter": 11}\n')
    after = lay_out(work_dir)
    assert after.progress == '2 of 9 epochs, not finished'
    assert after.starts[0] == before.starts[0]
    assert after.starts[1].startswith(
        'Resumed 2999-01-01 00:00 from iteration 10; last heard of '
    )
    assert after.starts[1].endswith(
        ' at iteration 11: killed, or not ended yet'
    )
    assert any('of the last start' in each.part for each in after.missing)


def test_too_early_is_not_ok(run: Path, tmp_path: Path) -> None:
    work_dir = shutil.copytree(run, tmp_path / 'w')
    report = lay_out(work_dir)
    assert report.state == 'too early'
    assert report.verdict.startswith('after 10 iterations too early to tell')


def _start(work_dir: Path, name: str, last: int, **record: object) -> None:
    """The log of a start up to an iteration and, maybe, what it noted."""
    folder = work_dir / name
    (folder / 'vis_data').mkdir(parents=True)
    row = dict(loss=1.0, iter=last, step=last)
    (folder / 'vis_data/scalars.json').write_text(json.dumps(row))
    if record:
        content = dict(facts=dict(Config=record.pop('config', 'a.py')))
        content |= dict(max_iters=560, iters_per_epoch=28) | record
        (folder / 'run.json').write_text(json.dumps(content))


def test_each_start_has_its_line(tmp_path: Path) -> None:
    _start(
        tmp_path,
        '20260101_060000',
        290,
        first_iter=0,
        iter=300,
        end='stopped by SIGTERM',
        ended='2026-01-01 06:20',
    )
    _start(tmp_path, '20260101_070000', 450, first_iter=300, iter=300)
    os.utime(tmp_path / '20260101_070000/vis_data/scalars.json', (0, 0))
    _start(
        tmp_path,
        '20260101_080000',
        560,
        first_iter=448,
        iter=560,
        has_ended=True,
        end='finished',
        ended='2026-01-01 08:10',
    )
    epoch = time.strftime('%Y-%m-%d %H:%M', time.localtime(0))
    assert describe_starts(tmp_path) == [
        'Begun 2026-01-01 06:00 from the beginning; ended 2026-01-01 06:20 '
        'at iteration 300 of 560 (epoch 11): stopped by SIGTERM',
        f'Resumed 2026-01-01 07:00 from iteration 300; last heard of {epoch} '
        'at iteration 450 of 560 (epoch 17): killed',
        'Resumed 2026-01-01 08:00 from iteration 448; ended 2026-01-01 08:10 '
        'at iteration 560 of 560 (epoch 20): finished',
    ]
    page = tmp_path / 'r.html'
    write_report(tmp_path, page)
    found = Page(page)
    lines = [each.text for each in found.find('div', class_='start')]
    assert lines == describe_starts(tmp_path)
    assert 'Starts' in [each.text for each in found.find('dt')]


@pytest.mark.parametrize(
    ('error', 'end'),
    [
        (Preempted(signal.SIGUSR1, 'a.pth'), 'stopped by SIGUSR1, with a '),
        (KeyboardInterrupt(), 'interrupted by Ctrl-C'),
        (UsageError('no\nroom'), 'no room'),
        (RuntimeError('CUDA'), 'RuntimeError: CUDA'),
    ],
)
def test_how_a_run_ended_is_noted(
    error: BaseException, end: str, tmp_path: Path
) -> None:
    _start(tmp_path, '20260101_060000', 290, first_iter=0, iter=0)
    runner = SimpleNamespace(
        log_dir=tmp_path / '20260101_060000',
        iter=300,
        max_iters=560,
        train_loop=None,
    )
    with pytest.raises(type(error)), end_recorded(runner):
        raise error
    (line,) = describe_starts(tmp_path)
    assert f' at iteration 300 of 560: {end}' in line
    assert read_record(tmp_path)['has_ended'] is False


def test_a_planned_run_is_called_like_its_images(tmp_path: Path) -> None:
    name = '20260101_060000'
    _start(tmp_path, name, 5, first_iter=0, iter=0, config='plan.py')
    assert lay_out(tmp_path).title == f'{tmp_path.name}, as planned'
    config = tmp_path / name / 'vis_data/config.py'
    for root, title in (
        ('/data/holiday photos/', 'holiday photos'),
        ('/data/birds/train', 'birds/train'),
    ):
        dataset = f'dict(type="ImageFolder", data_root={root!r})'
        config.write_text(f'train_dataloader = dict(dataset={dataset})')
        assert lay_out(tmp_path).title == f'{title}, as planned'


def test_the_head_has_the_warnings_of_all_parts() -> None:
    warning = Warned('Prototypes', '100% of the images are on one prototype')
    for health, state in (
        ('OK', 'WARN'),
        ('', 'WARN'),
        ('too early', 'too early'),
        ('COLLAPSED', 'COLLAPSED'),
    ):
        report = Report('a', health=health, warnings=[warning])
        assert report.state == state
        assert Report('a', health=health).state == health
        head = to_html(report).partition('</header>')[0]
        assert warning.text in head and f'class="state {state}"' in head


def test_a_collapse_in_the_gallery_is_in_the_head(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All images on one prototype, while the health of training is OK."""
    rows = [dict(step=10, state='OK', message='OK, loss 0.5 ln K')]
    monkeypatch.setattr(
        'swav_plugin.report.page.read_history',
        lambda _: History({}, {}, rows),
    )

    def assign(head: torch.nn.Module, rows: torch.Tensor, files: list) -> Any:
        nothing = torch.zeros(len(files))
        return Clusters(nothing.long(), nothing, nothing, files, 20)

    monkeypatch.setattr('swav_plugin.report.learned.assign_embeddings', assign)
    report = lay_out(run, Images(most=12))
    assert report.health == 'OK' and report.state == 'WARN'
    (warned,) = report.warnings
    (section,) = (s for s in report.sections if s.title == warned.part)
    assert warned.text in section.note
