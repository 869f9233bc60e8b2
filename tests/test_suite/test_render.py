"""A report as Markdown, and as HTML that is parsed."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from swav_plugin.suite.benchmarks import MMSELFSUP
from swav_plugin.suite.render import to_html, to_markdown
from tests.test_suite.reports import entry, example


@pytest.fixture
def suite() -> dict[str, Any]:
    return example()


def section(markdown: str, title: str) -> list[str]:
    """The lines of a section of a Markdown file that are not empty."""
    _, _, after = markdown.partition(f'## {title}\n')
    return [line for line in after.partition('\n## ')[0].splitlines() if line]


def test_markdown(suite: dict[str, Any]) -> None:
    text = to_markdown(suite)
    assert text.splitlines()[:7] == [
        '# Benchmarks of net',
        '',
        '2 of 4 benchmarks measured.',
        'What was not is listed at the end, with the reason.',
        '',
        '- Checkpoint: w.pth',
        '- Network: ResNet-50',
    ]
    assert section(text, 'ImageNet Nearest-Neighbor Classification')[1:] == [
        '| Network | k=10 | k=20 | k=100 | k=200 |',
        '| --- | --: | --: | --: | --: |',
        '| net | 61.25 | 60.50 | - | - |',
        '| random initialization | 5.00 | - | - | - |',
        f'| {MMSELFSUP} | 60.5 | 60.6 | 59.0 | 57.6 |',
    ]
    svm = section(text, 'VOC SVM / Low-shot SVM')
    assert svm[3] == '| net | feature5 | 84.25 | 40.00 | - ' + '| - ' * 6 + '|'
    assert svm[4] == (
        f'| {MMSELFSUP} | feature5 | 87.00 | 44.68 | 55.41 | 67.64 | 73.67 | '
        '78.14 | 81.58 | 83.98 | 85.15 |'
    )
    assert section(text, 'Against random initialization')[2:] == [
        '| ImageNet Nearest-Neighbor Classification | k=10 | 5.00 | 61.25 | '
        '+56.25 |'
    ]
    assert section(text, 'Not measured') == [
        '- places205: skipped, there is no folder data/places205',
        '- linear, net: failed, exit status 1',
        '      <oom>',
    ]
    how = section(text, 'How each number came about')
    assert how[:7] == [
        '- Software: torch 2 & more',
        '### knn, net',
        'configs/knn.py; 75 s; swav_plugin 0.2.0.',
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


HOSTILE = (
    'a|b`c`<script>alert(1)</script> *bold* _it_ ~~gone~~ [x](y) &lt; \\| '
    '# no <!-- x --> ``two``'
)


def hostile_suite() -> dict[str, Any]:
    """A suite whose every name is full of marks and line breaks."""
    name = HOSTILE + '\nnext line'
    knn = entry('knn', 'pretrained', {'avgpool/knn10_top1': 61.25})
    (result,) = knn['results']
    result.update(protocol=name, fields=dict(feature='avgpool', k=10, top=1))
    knn.update(
        data=name,
        is_stand_in=True,
        notes=[name],
        command=f'python {name}',
        pictures=['a <b>.jpg'],
    )
    failed = dict(
        entry('linear', 'pretrained', {}), status='failed', reason=name
    )
    return dict(
        checkpoint={'Checkpoint': name, name: 'x'},
        setting=dict(Command=name),
        subjects=dict(pretrained=name),
        entries=[knn, failed],
    )


def test_names_stay_names_in_markdown() -> None:
    """As a reader of CommonMark shows them, which knows none of this code."""
    markdown_it = pytest.importorskip('markdown_it')
    reader = markdown_it.MarkdownIt('commonmark')
    reader.enable(['table', 'strikethrough'])
    tokens = reader.parse(to_markdown(hostile_suite()))
    blocks = [token for token in tokens if token.type == 'inline']
    words = ' '.join((HOSTILE + ' next line').split())
    shown = []
    for block in blocks:
        for token in block.children:
            # The summary has two lines.
            assert token.type in (
                'text',
                'code_inline',
                'image',
                'softbreak',
            ), token
        shown.append(''.join(token.content for token in block.children))
    assert f'Benchmarks of {words}' in shown
    assert f'Checkpoint: {words}' in shown and f'{words}: x' in shown
    assert f'{words}, on {words}' in shown  # in a cell of the first table
    assert f'python {words}' in shown
    assert f'linear, {words}: failed, {HOSTILE}' in shown
    assert shown.count(words) == 1  # the protocol, in a cell
    heads = [token.tag for token in tokens if token.type == 'heading_open']
    assert heads == ['h1', 'h2', 'h2', 'h3', 'h2']
    rows = [token for token in tokens if token.type == 'tr_open']
    cells = [token for token in tokens if token.type in ('td_open', 'th_open')]
    assert (len(rows), len(cells)) == (3 + 2, 3 * 5 + 2 * 3)
    (image,) = [
        token
        for block in blocks
        for token in block.children
        if token.type == 'image'
    ]
    assert image.attrs['src'] == 'a%20%3Cb%3E.jpg'
    assert image.content == r'a \<b\>.jpg'
    assert not [token for token in tokens if token.type == 'html_block']


def test_names_stay_names_in_html(tmp_path: Path) -> None:
    suite = hostile_suite()
    suite['entries'][0].pop('pictures')
    page = parse(to_html(suite, tmp_path))
    assert 'script' not in page.texts and 'b' in page.texts
    assert f'{HOSTILE}\nnext line' in page.texts['dd']
    assert page.texts['h1'] == [f'Benchmarks of {HOSTILE}\nnext line']


def test_measured_comes_first_and_the_rest_last(suite: dict[str, Any]) -> None:
    headings = [
        line.removeprefix('## ')
        for line in to_markdown(suite).splitlines()
        if line.startswith('## ')
    ]
    assert headings == [
        'ImageNet Nearest-Neighbor Classification',
        'VOC SVM / Low-shot SVM',
        'VOC SVM / Low-shot SVM, chosen without the test set',
        'Against random initialization',
        'How each number came about',
        'Not measured',
    ]
    page = parse(to_html(suite))
    assert page.texts['h2'] == headings
    suite['entries'] = suite['entries'][:2]
    for text in (to_markdown(suite), to_html(suite)):
        assert 'Not measured' not in text and 'What was not' not in text


def test_notes_are_told(suite: dict[str, Any]) -> None:
    suite['entries'][0].update(
        data='nette', is_stand_in=True, notes=['10 classes']
    )
    text = to_markdown(suite)
    knn = section(text, 'ImageNet Nearest-Neighbor Classification')
    assert 'not to be compared with published rows' in knn[0]
    assert knn[3] == '| net, on nette | 61.25 | 60.50 | - | - |'
    assert 'configs/knn.py; 10 classes; 75 s; swav_plugin 0.2.0.' in text


def test_no_comparison_without_random(suite: dict[str, Any]) -> None:
    del suite['subjects']['random']
    suite['entries'] = [
        one for one in suite['entries'] if one['subject'] == 'pretrained'
    ]
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
        # Style and title of each bar, style and title of each mark.
        self.bars: list[tuple[str, str]] = []
        self.marks: list[tuple[str, str]] = []

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        found = {name: value or '' for name, value in attrs}
        self.sources += [
            found[name] for name in ('src', 'href') if name in found
        ]
        kind = found.get('class', '').partition(' ')[0]
        if kind in ('bar', 'mark'):
            bars = self.bars if kind == 'bar' else self.marks
            bars.append((found['style'], found['title']))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == 'tr':
            self.rows.append([])
        if tag in ('td', 'th'):
            self.rows[-1].append('')

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        tag = self.open[-1] if self.open else ''
        if tag in ('td', 'th'):
            self.rows[-1][-1] += data
        self.texts.setdefault(tag, []).append(data)


def parse(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


def test_html_has_what_markdown_has(suite: dict[str, Any]) -> None:
    page = parse(to_html(suite))
    assert page.sources == ['#missing']  # one file
    rows = [
        line[2:-2].split(' | ')
        for line in to_markdown(suite).splitlines()
        if line.startswith('| ') and not line.startswith('| ---')
    ]
    numbers = {re.sub(r'\\(.)', r'\1', cell) for row in rows for cell in row}
    shown = {cell for row in page.rows for cell in row}
    # Which are in one column of the HTML.
    apart = {'Table', 'Column', 'ImageNet Nearest-Neighbor Classification'}
    assert numbers - shown == apart
    assert 'feature5, the best feature <by test>' in shown
    assert ': failed, exit status 1\n<oom>' in page.texts['li']
    assert page.texts['dd'] == ['w.pth', 'ResNet-50', 'torch 2 & more']


def test_bars_have_the_width_of_their_number(suite: dict[str, Any]) -> None:
    page = parse(to_html(suite))
    assert page.bars[:3] == [
        ('width: 76.56%', 'net: 61.25'),
        ('width: 6.25%', 'random initialization: 5.00'),
        ('width: 75.62%', 'net: 60.50'),
    ]
    assert page.marks[:2] == [
        ('left: 75.62%', f'{MMSELFSUP}: 60.50'),
        ('left: 75.75%', f'{MMSELFSUP}: 60.60'),
    ]


def test_pictures_are_inside(suite: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / 'run').mkdir()
    contents = [b'one', b'two']
    names = ['run/1.jpg', 'run/2.jpg']
    for name, content in zip(names, contents):
        (tmp_path / name).write_bytes(content)
    suite['entries'].append(
        dict(entry('fcn_voc12aug', 'random', {'mIoU': 4.0}), pictures=names)
    )
    page = parse(to_html(suite, tmp_path))
    head = 'data:image/jpeg;base64,'
    assert [
        base64.b64decode(source.removeprefix(head))
        for source in page.sources
        if source.startswith(head)
    ] == contents
    assert page.texts['figcaption'] == ['fcn_voc12aug, random initialization']
    assert section(to_markdown(suite), 'How each number came about')[-2:] == [
        f'![{name}](<{name}>)' for name in names
    ]
