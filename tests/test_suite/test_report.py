"""The suite's report, as Markdown and as HTML that is parsed."""

import base64
import copy
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from swav_plugin.suite.report import (
    TABLES,
    compare,
    find_result,
    table_rows,
    to_markdown,
)
from swav_plugin.suite.report_html import draw, to_html

PAGE = 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96, mmselfsup'


def entry(benchmark: str, subject: str, **results: float) -> dict[str, Any]:
    """An entry of a suite, with the names of its results unquoted."""
    names = {name.replace('__', '/'): value for name, value in results.items()}
    return dict(
        benchmark=benchmark,
        subject=subject,
        status='done',
        data='imagenet',
        is_stand_in=False,
        config=f'configs/{benchmark}.py',
        notes=[],
        command=f'python test.py {benchmark}',
        seconds=75.0,
        results=[
            dict(name=name, value=value, protocol=f'how {name}')
            for name, value in names.items()
        ],
    )


@pytest.fixture
def suite() -> dict[str, Any]:
    """KNN of two networks, SVM of one, and two that were not measured."""
    svm = entry(
        'svm',
        'pretrained',
        feature4__svm_map=80.5,
        feature5__svm_map=84.25,
        svm_map_best_by_test=84.25,
        svm_map_best_by_cv=80.5,
        feature4__svm_k1_map_by_test=40.0,
        feature4__svm_k1_map_by_cv=39.0,
    )
    svm['results'][2]['protocol'] = 'feature5, the best feature <by test>'
    svm['results'][3]['protocol'] = 'feature4, the best feature|by folds'
    skipped = [
        dict(
            entry('places205', subject),
            status='skipped',
            reason='there is no folder data/places205',
        )
        for subject in ('pretrained', 'random')
    ]
    failed = dict(
        entry('linear', 'pretrained'),
        status='failed',
        reason='exit status 1\n<oom>',
    )
    return dict(
        checkpoint=dict(Checkpoint='w.pth', Network='ResNet-50'),
        setting=dict(Software='torch 2 & more'),
        subjects=dict(pretrained='net', random='random initialisation'),
        entries=[
            entry(
                'knn',
                'pretrained',
                avgpool__knn10_top1=61.25,
                avgpool__knn10_top5=80.0,
                avgpool__knn20_top1=60.5,
            ),
            entry('knn', 'random', avgpool__knn10_top1=5.0),
            svm,
            *skipped,
            failed,
        ],
    )


def section(markdown: str, title: str) -> list[str]:
    """The lines of a section of a Markdown file that are not empty."""
    _, _, after = markdown.partition(f'## {title}\n')
    return [line for line in after.partition('\n## ')[0].splitlines() if line]


def test_markdown(suite: dict[str, Any]) -> None:
    text = to_markdown(suite)
    assert text.splitlines()[:5] == [
        '# Benchmarks of net',
        '',
        '- Checkpoint: w.pth',
        '- Network: ResNet-50',
        '- Software: torch 2 & more',
    ]
    assert section(text, 'ImageNet Nearest-Neighbor Classification')[1:] == [
        '| Network | k=10 | k=20 | k=100 | k=200 |',
        '| --- | --: | --: | --: | --: |',
        '| net | 61.25 | 60.50 | - | - |',
        '| random initialisation | 5.00 | - | - | - |',
        f'| {PAGE} | 60.5 | 60.6 | 59.0 | 57.6 |',
    ]
    svm = section(text, 'VOC SVM / Low-shot SVM')
    assert svm[3] == '| net | feature5 | 84.25 | 40.00 | - ' + '| - ' * 6 + '|'
    assert svm[5] == (
        f'| {PAGE} | feature5 | 87.00 | 44.68 | 55.41 | 67.64 | 73.67 | 78.14 '
        '| 81.58 | 83.98 | 85.15 |'
    )
    honest = section(
        text, 'VOC SVM / Low-shot SVM, chosen without the test set'
    )
    assert honest[3].startswith('| net | feature4 | 80.50 | 39.00 | - ')
    assert len(honest) == 5  # nothing was published
    assert section(text, 'Against random initialisation')[2:] == [
        '| ImageNet Nearest-Neighbor Classification | k=10 | 5.00 | 61.25 | '
        '+56.25 |'
    ]
    assert section(text, 'Not measured') == [
        '- places205: skipped, there is no folder data/places205',
        '- linear, net: failed, exit status 1',
        '      <oom>',
    ]
    how = section(text, 'How each number came about')
    assert how[:6] == [
        '### knn, net',
        'configs/knn.py; 75 s.',
        '`python test.py knn`',
        '| Result | Value | Protocol |',
        '| --- | --: | --- |',
        '| avgpool/knn10_top1 | 61.25 | how avgpool/knn10_top1 |',
    ]
    # Cells stay cells.
    assert (
        '| svm_map_best_by_cv | 80.50 | feature4, the best feature\\|by '
        'folds |'
    ) in how


def test_numbers_on_other_data_say_so(suite: dict[str, Any]) -> None:
    suite['entries'][0].update(
        data='nette', is_stand_in=True, notes=['10 classes']
    )
    text = to_markdown(suite)
    knn = section(text, 'ImageNet Nearest-Neighbor Classification')
    assert knn[0].endswith(
        'Measured on nette, which stands in for the data '
        'of the page: not to be compared with published '
        'rows.'
    )
    assert knn[3] == '| net, on nette | 61.25 | 60.50 | - | - |'
    assert 'configs/knn.py; 10 classes; 75 s.' in text
    assert 'stands in' not in section(text, 'VOC SVM / Low-shot SVM')[0]


def test_best_of_several_rates_counts(suite: dict[str, Any]) -> None:
    (linear,) = (
        table
        for table in TABLES
        if table.title == 'ImageNet Linear Evaluation'
    )
    entries = [
        entry('linear', 'pretrained', avgpool__top1=1.0),
        entry(
            'linear_mhead',
            'pretrained',
            feature1__top1=2.0,
            feature2__lr0_1__top1=3.0,
            feature2__top1_best_by_val=4.0,
        ),
    ]
    suite['entries'] = entries
    assert table_rows(suite, linear)[0].cells == [
        2.0,
        4.0,
        None,
        None,
        None,
        1.0,
    ]
    found = find_result(entries, linear.columns[1])
    assert found is not None and found['name'] == 'feature2/top1_best_by_val'
    assert find_result(entries[:1], linear.columns[1]) is None


def test_no_comparison_without_random(suite: dict[str, Any]) -> None:
    assert len(compare(suite)) == 1
    del suite['subjects']['random']
    suite['entries'] = [
        one for one in suite['entries'] if one['subject'] == 'pretrained'
    ]
    assert compare(suite) == []
    assert 'Against random' not in to_markdown(suite) + to_html(suite)


class Page(HTMLParser):
    """Rows of tables, texts by tag, and whether tags are closed in order."""

    VOID = ('meta', 'br', 'img')

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.texts: dict[str, list[str]] = {}
        self.sources: list[str] = []

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        self.sources += [
            value or '' for name, value in attrs if name in ('src', 'href')
        ]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == 'tr':
            self.rows.append([])
        if tag in ('td', 'th'):
            self.rows[-1].append('')

    def handle_startendtag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        """Nothing to close."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        tag = self.open[-1] if self.open else ''
        if tag in ('td', 'th'):
            self.rows[-1][-1] += data
        self.texts.setdefault(tag, []).append(data)


def test_html_has_what_markdown_has(suite: dict[str, Any]) -> None:
    text = to_html(suite)
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.sources == []  # one file
    rows = [
        line[2:-2].split(' | ')
        for line in to_markdown(suite).splitlines()
        if line.startswith('| ') and not line.startswith('| ---')
    ]
    numbers = {cell.replace('\\|', '|') for row in rows for cell in row}
    shown = {cell for row in page.rows for cell in row}
    # Which are in one column of the HTML.
    apart = {'Table', 'Column', 'ImageNet Nearest-Neighbor Classification'}
    assert numbers - shown == apart
    assert page.texts['h2'] == [
        *(table.title for table in TABLES),
        'Against random initialisation',
        'Not measured',
        'How each number came about',
    ]
    assert 'feature5, the best feature <by test>' in shown
    assert ': failed, exit status 1\n<oom>' in page.texts['li']


def test_pictures_are_inside(suite: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / 'run').mkdir()
    contents = [b'one', b'two']
    names = ['run/1.jpg', 'run/2.jpg']
    for name, content in zip(names, contents):
        (tmp_path / name).write_bytes(content)
    suite['entries'].append(
        dict(entry('fcn_voc12aug', 'random', mIoU=4.0), pictures=names)
    )
    page = Page()
    page.feed(to_html(suite, tmp_path))
    page.close()
    assert page.open == []
    head = 'data:image/jpeg;base64,'
    assert [
        base64.b64decode(source.removeprefix(head)) for source in page.sources
    ] == contents
    assert page.texts['figcaption'] == ['fcn_voc12aug, random initialisation']
    assert section(to_markdown(suite), 'How each number came about')[-2:] == [
        f'![{name}](<{name}>)' for name in names
    ]


def test_columns_of_detection_and_segmentation(suite: dict[str, Any]) -> None:
    found = {
        'pascal_voc/AP50': 1.0,
        'pascal_voc/mAP': 2.0,
        'pascal_voc/AP75': 3.0,
        'coco/bbox_mAP_50': 4.0,
        'coco/bbox_mAP': 5.0,
        'coco/bbox_mAP_75': 6.0,
    }
    boxes = [f'coco/bbox_mAP{end}' for end in ('', '_50', '_75')]
    masks = [f'coco/segm_mAP{end}' for end in ('', '_50', '_75')]
    suite['entries'] = [
        entry('faster_rcnn_c4', 'pretrained', **found),
        entry(
            'mask_rcnn_fpn_1x',
            'pretrained',
            **dict(zip(boxes + masks, (7.0, 8.0, 9.0, 10.0, 11.0, 12.0))),
        ),
        entry(
            'mask_rcnn_c4_1x',
            'pretrained',
            **dict(zip(masks + boxes, (7.0, 8.0, 9.0, 10.0, 11.0, 12.0))),
        ),
        entry('fcn_voc12aug', 'pretrained', aAcc=0.0, mIoU=13.0),
        entry('fcn_cityscapes', 'pretrained', aAcc=0.0, mIoU=14.0),
    ]
    rows = {table.title: table_rows(suite, table) for table in TABLES}
    of = {title: rows[title][0].cells for title in rows}
    assert of['Pascal VOC 2007 + 2012 Detection'] == [1, 2, 3, 4, 5, 6]
    assert of['COCO2017 Detection and Instance Segmentation'] == [
        7,
        8,
        9,
        10,
        11,
        12,
    ]
    assert of['COCO2017 Detection and Instance Segmentation, C4'] == [
        10,
        11,
        12,
        7,
        8,
        9,
    ]
    assert of['Pascal VOC 2012 + Aug Segmentation'] == [13]
    assert of['Cityscapes Segmentation'] == [14]
    for title, of_title in rows.items():
        for row in of_title:
            (columns,) = (
                table.columns for table in TABLES if table.title == title
            )
            assert len(row.cells) == len(columns), row


def bars(suite: dict[str, Any], title: str) -> ElementTree.Element:
    """The plot of a table, parsed as XML."""
    (table,) = (table for table in TABLES if table.title == title)
    return ElementTree.fromstring(draw(table, table_rows(suite, table)))


def test_bars_are_as_high_as_numbers(suite: dict[str, Any]) -> None:
    title = 'ImageNet Nearest-Neighbor Classification'
    plot = bars(suite, title)
    height = {}
    for bar in plot.iter('rect'):
        for name in bar.iter('title'):
            height[name.text] = float(bar.attrib['height'])
    assert [*height] == [
        'net: 61.25',
        'random initialisation: 5.00',
        'net: 60.50',
    ]
    for name, pixels in height.items():
        number = float(name.partition(': ')[2])
        # 192 px are 80, the tens of 20 above the largest number.
        assert pixels == pytest.approx(192 * number / 80, abs=0.06)
    lines = [
        line
        for line in plot.iter('line')
        if line.attrib.get('class') == 'reference' and len(line)
    ]
    # Only of columns that were measured.
    assert [line[0].text for line in lines] == [
        f'{PAGE}: 60.50',
        f'{PAGE}: 60.60',
    ]
    y_of_60_5, y_of_60_6 = (float(line.attrib['y1']) for line in lines)
    assert y_of_60_5 - y_of_60_6 == pytest.approx(0.24, abs=0.11)


def test_no_published_lines_on_other_data(suite: dict[str, Any]) -> None:
    other = copy.deepcopy(suite)
    other['entries'][0].update(data='nette', is_stand_in=True)
    title = 'ImageNet Nearest-Neighbor Classification'
    for case, count in ((suite, 3), (other, 0)):  # one is in the legend
        assert (
            sum(
                line.attrib.get('class') == 'reference'
                for line in bars(case, title).iter('line')
            )
            == count
        )


def test_no_plot_of_nothing(suite: dict[str, Any]) -> None:
    (table,) = (table for table in TABLES if table.title == 'CIFAR-10')
    assert draw(table, table_rows(suite, table)) == ''
