"""Numbers of the benchmark suite as the page lays them out.

Pure functions: the dict that ``tools/benchmarks/run_suite.py`` writes as
``results.json`` goes in, Markdown comes out; HTML: ``report_html.py``.
"""

from fnmatch import fnmatch
from typing import Any, NamedTuple

PAGE = 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96, mmselfsup'
NOTHING = '-'


class Column(NamedTuple):
    """A column of a table and the result that fills it.

    Args:
        title: As on the page.
        benchmark: Of the suite.
        results: Patterns of names in its results; the first that fits counts.
    """

    title: str
    benchmark: str
    results: tuple[str, ...]


class Table(NamedTuple):
    """A table of the page.

    Args:
        title: As on the page.
        note: What the numbers are.
        columns: Without the first, which has the names of the rows.
        references: Published numbers, as published, by the name of their
            row; in the order of the columns, '-' where there is none.
    """

    title: str
    note: str
    columns: list[Column]
    references: dict[str, str]


def _top1(benchmark: str, **features: str) -> list[Column]:
    """Columns of linear classifiers on features, by title."""
    return [
        Column(
            title,
            benchmark,
            (f'{feature}/top1_best_by_val', f'{feature}/top1'),
        )
        for title, feature in features.items()
    ]


def _svm(by: str) -> list[Column]:
    """Columns of SVMs whose layer or cost is chosen by 'test' or 'cv'."""
    full = f'svm_map_best_by_{by}', '*/svm_map'  # the latter of one layer
    return [
        Column('Best Layer', 'svm', full),
        Column('SVM', 'svm', full),
        *(
            Column(f'k={k}', 'svm', (f'*/svm_k{k}_map_by_{by}',))
            for k in (1, 2, 4, 8, 16, 32, 64, 96)
        ),
    ]


def _boxes_and_masks(benchmark: str) -> list[Column]:
    """Columns of COCO's numbers for boxes, then for masks."""
    return [
        Column(f'{name}({kind})', benchmark, (f'coco/{key}_{result}',))
        for kind, key in (('Box', 'bbox'), ('Mask', 'segm'))
        for name, result in (
            ('mAP', 'mAP'),
            ('AP50', 'mAP_50'),
            ('AP75', 'mAP_75'),
        )
    ]


_MAPS = {f'Feature{i}': f'feature{i}' for i in range(1, 6)}

# The order of the page; what it does not have stands at the end.
TABLES = [
    Table(
        'VOC SVM / Low-shot SVM',
        'mAP of linear SVMs on VOC07. As on the page, the best layer and the '
        'cost of low-shot SVMs are chosen on the test set; low-shot SVMs see '
        'the layer that is best in cross-validation.',
        _svm('test'),
        {
            PAGE: 'feature5 87.00 44.68 55.41 67.64 73.67 78.14 81.58 83.98 '
            '85.15'
        },
    ),
    Table(
        'VOC SVM / Low-shot SVM, chosen without the test set',
        'The same with layer and cost chosen on training images.',
        _svm('cv'),
        {},
    ),
    Table(
        'ImageNet Linear Evaluation',
        'Top-1 of linear classifiers on frozen features: feature maps pooled '
        'to 8,192 or 9,216 numbers, and AvgPool.',
        _top1('linear_mhead', **_MAPS) + _top1('linear', AvgPool='avgpool'),
        {
            PAGE: '16.98 34.96 49.26 65.98 70.74 70.47',
            '200 epochs, batch 256, facebookresearch/swav': '- - - - - 72.7',
        },
    ),
    Table(
        'Places205 Linear Evaluation',
        'Top-1 of linear classifiers on frozen features.',
        _top1('places205', **_MAPS),
        {PAGE: '23.33 35.45 43.13 51.98 55.09'},
    ),
    Table(
        'iNaturalist2018 Linear Evaluation',
        'Top-1 of linear classifiers on frozen features. The page names it, '
        'without numbers.',
        _top1('inaturalist2018', **_MAPS),
        {},
    ),
    Table(
        'ImageNet Nearest-Neighbor Classification',
        'Top-1 of weighted votes among the nearest training images.',
        [
            Column(f'k={k}', 'knn', (f'avgpool/knn{k}_top1',))
            for k in (10, 20, 100, 200)
        ],
        {PAGE: '60.5 60.6 59.0 57.6'},
    ),
    Table(
        'Pascal VOC 2007 + 2012 Detection',
        'Faster R-CNN, ResNet-50 C4, 24,000 iterations. AP50, AP (the mean '
        'of AP50 to AP95) and AP75 with 11 points, as in VOC2007; the others '
        "COCO's way.",
        [
            Column(title, 'faster_rcnn_c4', (result,))
            for title, result in (
                ('AP50', 'pascal_voc/AP50'),
                ('AP', 'pascal_voc/mAP'),
                ('AP75', 'pascal_voc/AP75'),
                ('COCO AP50', 'coco/bbox_mAP_50'),
                ('COCO AP', 'coco/bbox_mAP'),
                ('COCO AP75', 'coco/bbox_mAP_75'),
            )
        ],
        {PAGE: '77.64 - - - - -'},
    ),
    Table(
        'COCO2017 Detection and Instance Segmentation',
        'Mask R-CNN, ResNet-50 FPN, 12 epochs.',
        _boxes_and_masks('mask_rcnn_fpn_1x'),
        {PAGE: '40.2 60.5 43.9 36.3 57.5 38.8'},
    ),
    Table(
        'COCO2017 Detection and Instance Segmentation, C4',
        'Mask R-CNN, ResNet-50 C4, 12 epochs. Not on the page.',
        _boxes_and_masks('mask_rcnn_c4_1x'),
        {},
    ),
    Table(
        'Pascal VOC 2012 + Aug Segmentation',
        'FCN, ResNet-50 with dilation, 20,000 iterations.',
        [Column('mIoU', 'fcn_voc12aug', ('mIoU',))],
        {PAGE: '63.73'},
    ),
    Table(
        'Cityscapes Segmentation',
        'FCN, ResNet-50 with dilation, 40,000 iterations. The page names it, '
        'without numbers.',
        [Column('mIoU', 'fcn_cityscapes', ('mIoU',))],
        {},
    ),
    Table(
        'ImageNet with few labels',
        'All weights trained on 1 % or 10 % of the labels. Not on the page.',
        [
            Column(
                f'{share} % Top-{top}',
                f'semisup_{share}percent',
                (f'accuracy/top{top}',),
            )
            for share in (1, 10)
            for top in (1, 5)
        ],
        {'SwAV paper, 800 epochs': '53.9 78.5 70.2 89.9'},
    ),
    Table(
        'CIFAR-10',
        'Top-1 after training all weights. Not on the page.',
        [Column('Top-1', 'cifar10', ('accuracy/top1',))],
        {},
    ),
]


class Row(NamedTuple):
    """A row of a table: numbers measured, or text, or None."""

    name: str
    cells: list
    kind: str  # 'pretrained', 'random' or 'reference'
    is_stand_in: bool = False  # measured on other data than the page's


def find_result(entries: list[dict], column: Column) -> dict | None:
    """The result that fills a column, if it was measured.

    Args:
        entries: Of one network.
        column: Of a table.
    """
    for entry in entries:
        if entry['benchmark'] == column.benchmark:
            for pattern in column.results:
                for result in entry.get('results', ()):
                    if fnmatch(result['name'], pattern):
                        return result
    return None


def table_rows(suite: dict, table: Table) -> list[Row]:
    """The rows of a table: what was measured, then what was published.

    Args:
        suite: What ``results.json`` holds.
        table: One of `TABLES`.
    """
    rows = []
    for subject, name in suite['subjects'].items():
        entries = [
            entry for entry in suite['entries'] if entry['subject'] == subject
        ]
        of_table = entries_of(entries, table)
        others = sorted(
            {entry['data'] for entry in of_table if entry.get('is_stand_in')}
        )
        if others:
            name += f', on {", ".join(others)}'
        cells = [_cell(of_table, column) for column in table.columns]
        rows.append(Row(name, cells, subject, bool(others)))
    return rows + [
        Row(name, numbers.split(), 'reference')
        for name, numbers in table.references.items()
    ]


def entries_of(entries: list[dict], table: Table) -> list[dict]:
    """The entries whose results fill a table."""
    benchmarks = {column.benchmark for column in table.columns}
    return [entry for entry in entries if entry['benchmark'] in benchmarks]


def _cell(entries: list[dict], column: Column) -> Any:
    """The number in a cell, or the name of a layer, or None."""
    result = find_result(entries, column)
    if result is None or column.title != 'Best Layer':
        return None if result is None else result['value']
    # "feature5, the best feature ...": as VOC07SVM words it.
    return result['protocol'].partition(',')[0]


def note_of(table: Table, rows: list[Row]) -> str:
    """What is to be said of a table."""
    others = [
        row.name.rpartition(', on ')[2] for row in rows if row.is_stand_in
    ]
    if not others:
        return table.note
    return (
        f'{table.note} Measured on {others[0]}, which stands in for the '
        'data of the page: not to be compared with published rows.'
    )


def text(cell: Any) -> str:
    """A cell as it is printed."""
    if cell is None:
        return NOTHING
    return cell if isinstance(cell, str) else f'{cell:.2f}'


def compare(suite: dict) -> list[tuple[str, str, float, float]]:
    """Each number of the tables beside that of a random network.

    Returns:
        Table, column, number at random initialisation, number of the
        checkpoint; only what was measured for both.
    """
    rows = []
    for table in TABLES:
        by_kind = {row.kind: row.cells for row in table_rows(suite, table)}
        pairs = zip(
            table.columns, by_kind.get('random', ()), by_kind['pretrained']
        )
        for column, before, after in pairs:
            if isinstance(before, float) and isinstance(after, float):
                rows.append((table.title, column.title, before, after))
    return rows


def to_markdown(suite: dict) -> str:
    """Lay a suite out as the page does, in Markdown.

    Args:
        suite: 'checkpoint' and 'setting', dicts of things to tell;
            'subjects', names of networks by 'pretrained' and 'random';
            'entries', dicts of 'benchmark', 'subject', 'status' ('done',
            'skipped' or 'failed'), 'reason', 'data', 'is_stand_in', 'config',
            'notes', 'command', 'seconds', 'results' and, where something
            was drawn, 'pictures', files below that of the report.
    """
    name = suite['subjects']['pretrained']
    lines = [f'# Benchmarks of {name}', '']
    lines += [
        f'- {key}: {value}'
        for about in (suite['checkpoint'], suite['setting'])
        for key, value in about.items()
    ]
    for table in TABLES:
        titles = ['Network', *(column.title for column in table.columns)]
        rows = table_rows(suite, table)
        lines += [
            '',
            f'## {table.title}',
            '',
            note_of(table, rows),
            '',
            _line(titles),
            _line(['---'] + ['--:'] * (len(titles) - 1)),
        ]
        lines += [_line([row.name, *map(text, row.cells)]) for row in rows]
    compared = compare(suite)
    if compared:
        lines += [
            '',
            '## Against random initialisation',
            '',
            _line(['Table', 'Column', 'Random', 'Pretrained', 'Gain']),
            _line(['---', '---', '--:', '--:', '--:']),
        ]
        lines += [
            _line(
                [
                    title,
                    column,
                    f'{before:.2f}',
                    f'{after:.2f}',
                    f'{after - before:+.2f}',
                ]
            )
            for title, column, before, after in compared
        ]
    done, missing = by_status(suite)
    if missing:
        lines += ['', '## Not measured', '']
        for entry in missing:
            first, *rest = entry['reason'].splitlines()
            lines.append(
                f'- {heading(suite, entry)}: {entry["status"]}, {first}'
            )
            lines += [''] * bool(rest) + [f'      {line}' for line in rest]
    lines += ['', '## How each number came about']
    for entry in done:
        lines += [
            '',
            f'### {heading(suite, entry)}',
            '',
            describe(entry),
            '',
            f'`{entry["command"]}`',
            '',
            _line(['Result', 'Value', 'Protocol']),
            _line(['---', '--:', '---']),
        ]
        lines += [
            _line([result['name'], text(result['value']), result['protocol']])
            for result in entry['results']
        ]
        pictures = [
            f'![{name}](<{name}>)' for name in entry.get('pictures', ())
        ]
        lines += [''] * bool(pictures) + pictures
    return '\n'.join(lines) + '\n'


def by_status(suite: dict) -> tuple[list[dict], list[dict]]:
    """Entries that are done, and the others; skipped ones once."""
    done = [entry for entry in suite['entries'] if entry['status'] == 'done']
    missing = [
        entry
        for entry in suite['entries']
        if entry['status'] != 'done'
        and (entry['status'], entry['subject']) != ('skipped', 'random')
    ]
    return done, missing


def heading(suite: dict, entry: dict) -> str:
    """What an entry is about."""
    if entry['status'] == 'skipped':
        return entry['benchmark']  # for every network
    return f'{entry["benchmark"]}, {suite["subjects"][entry["subject"]]}'


def describe(entry: dict) -> str:
    """How an entry was measured, beside the protocols of its numbers."""
    parts = [entry['config'], *entry['notes'], duration(entry['seconds'])]
    return '; '.join(parts) + '.'


def _line(cells: list[str]) -> str:
    """A line of a Markdown table."""
    escaped = [cell.replace('|', '\\|').replace('\n', ' ') for cell in cells]
    return f'| {" | ".join(escaped)} |'


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(59.4), duration(3661)
    ('59 s', '1 h 1 min')
    """
    if seconds < 100:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return (
        f'{minutes // 60} h {minutes % 60} min'
        if minutes >= 60
        else (f'{minutes} min')
    )
