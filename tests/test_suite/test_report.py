"""Check the layout of a report: results first, the rest with reasons."""

import copy
from typing import Any

import pytest

from swav_plugin.suite.benchmarks import BENCHMARKS, MMSELFSUP, UPSTREAM
from swav_plugin.suite.render import heading
from swav_plugin.suite.report import (
    Report,
    Section,
    find_result,
    lay_out,
)
from tests.test_suite.reports import entry, example

KNN = 'ImageNet Nearest-Neighbor Classification'
SVM = 'VOC SVM / Low-shot SVM'
LINEAR = 'ImageNet Linear Evaluation'


@pytest.fixture
def suite() -> dict[str, Any]:
    """KNN of two networks, SVM of one, and two that were not measured."""
    return example()


def sections(suite: dict[str, Any]) -> dict[str, Section]:
    return {section.title: section for section in lay_out(suite).sections}


def cells(section: Section, kind: str = 'pretrained') -> dict[str, Any]:
    """The cells of a row by column."""
    (row,) = (row for row in section.rows if row.kind == kind)
    return dict(zip(section.columns, row.cells, strict=True))


def test_tables_hold_what_was_measured(suite: dict[str, Any]) -> None:
    found = sections(suite)
    assert [*found] == [KNN, SVM, f'{SVM}, chosen without the test set']
    assert [row[:2] for row in found[KNN].rows] == [
        ('net', 'pretrained'),
        ('random initialization', 'random'),
        (MMSELFSUP, 'published'),
    ]
    assert [row.cells for row in found[KNN].rows] == [
        [61.25, 60.5, None, None],
        [5.0, None, None, None],
        ['60.5', '60.6', '59.0', '57.6'],
    ]
    # A network that was not measured has no row.
    assert [row.kind for row in found[SVM].rows] == ['pretrained', 'published']
    assert cells(found[SVM]) == {
        'Best Layer': 'feature5',
        'SVM': 84.25,
        'k=1': 40.0,
        **{f'k={k}': None for k in (2, 4, 8, 16, 32, 64, 96)},
    }
    assert (
        found[SVM].rows[1].cells
        == (
            'feature5 87.00 44.68 55.41 67.64 73.67 78.14 81.58 83.98 85.15'
        ).split()
    )


def test_layer_and_cost_chosen_without_the_test_set(
    suite: dict[str, Any],
) -> None:
    section = sections(suite)[f'{SVM}, chosen without the test set']
    chosen = cells(section)
    assert (chosen['Best Layer'], chosen['SVM']) == ('feature4', 80.5)
    assert chosen['k=1'] == 39.0
    assert len(section.rows) == 1  # nothing was published


def test_a_single_layer_is_the_best(suite: dict[str, Any]) -> None:
    svm = suite['entries'][2]
    svm['results'] = svm['results'][:1]
    for title in (SVM, f'{SVM}, chosen without the test set'):
        chosen = cells(sections(suite)[title])
        assert (chosen['Best Layer'], chosen['SVM']) == ('feature4', 80.5)
        assert chosen['k=1'] is None


def test_nothing_is_read_out_of_names_and_sentences(
    suite: dict[str, Any],
) -> None:
    expected = lay_out(suite).sections
    for each in suite['entries'][:3]:
        for result in each['results']:
            result.update(name='x', protocol='x')
    for before, after in zip(expected, lay_out(suite).sections, strict=True):
        assert before[:4] == after[:4]


def test_what_was_not_measured_is_one_list(suite: dict[str, Any]) -> None:
    report = lay_out(suite)
    assert [
        (each['benchmark'], each['status']) for each in report.missing
    ] == [('places205', 'skipped'), ('linear', 'failed')]
    assert report.summary == '2 of 4 benchmarks measured.'
    assert {each['benchmark'] for each in report.done} == {'knn', 'svm'}


def test_columns_of_other_benchmarks_are_left_out(
    suite: dict[str, Any],
) -> None:
    """AvgPool is measured alone: no dashes for Feature1 to Feature5."""
    suite['entries'].append(
        entry('linear', 'pretrained', {'avgpool/top1': 70.0})
    )
    section = sections(suite)[LINEAR]
    assert section.columns == ['AvgPool']
    assert [row.cells for row in section.rows] == [[70.0], ['70.47'], ['72.7']]
    suite['entries'][-1] = entry(
        'linear_mhead', 'pretrained', {'feature1/top1': 17.0}
    )
    section = sections(suite)[LINEAR]
    assert section.columns == [f'Feature{i}' for i in range(1, 6)]
    # Only AvgPool has a second published number.
    assert UPSTREAM not in [row.name for row in section.rows]


def test_a_table_without_a_number_takes_no_room(suite: dict[str, Any]) -> None:
    for each in suite['entries']:
        if each['benchmark'] == 'knn':
            each['results'] = []
    assert KNN not in sections(suite)


def test_best_of_several_rates_counts(suite: dict[str, Any]) -> None:
    suite['entries'] = [
        entry('linear', 'pretrained', {'avgpool/top1': 1.0}),
        entry(
            'linear_mhead',
            'pretrained',
            {
                'feature1/top1': 2.0,
                'feature2/lr0.1/top1': 3.0,
                'feature2/top1_best_by_val': 4.0,
            },
        ),
    ]
    assert [*cells(sections(suite)[LINEAR]).values()] == [
        2.0,
        4.0,
        None,
        None,
        None,
        1.0,
    ]
    column = BENCHMARKS['linear_mhead'].columns[1]
    found = find_result(suite['entries'][1]['results'], column)
    assert found is not None and found['name'] == 'feature2/top1_best_by_val'
    assert find_result(suite['entries'][0]['results'], column) is None


def test_numbers_on_other_data_say_so(suite: dict[str, Any]) -> None:
    suite['entries'][0].update(data='nette', is_stand_in=True)
    found = sections(suite)
    assert found[KNN].rows[0].label == 'net, on nette'
    assert found[KNN].rows[1].label == 'random initialization'
    assert found[KNN].note.endswith(
        'Measured on a stand-in for the published dataset, nette: not to be '
        'compared with published rows.'
    )
    assert 'stand-in' not in found[SVM].note
    # Where nothing of a table is of the published set, its title says so.
    suite['entries'] = suite['entries'][:1]
    (table,) = lay_out(suite).sections
    assert table.title == f'nette, measured as for {KNN}'
    assert heading(suite, suite['entries'][0]) == 'knn, net, on nette'


def test_names_that_look_like_those_of_rows(suite: dict[str, Any]) -> None:
    suite['entries'][0].update(data='nette', is_stand_in=True)
    suite['subjects']['pretrained'] = 'a, on b'
    assert sections(suite)[SVM].rows[0].label == 'a, on b'
    assert 'nette: not' in sections(suite)[KNN].note


def test_gains_are_of_what_both_networks_have(suite: dict[str, Any]) -> None:
    assert lay_out(suite).gains == [(KNN, 'k=10', 5.0, 61.25)]
    del suite['subjects']['random']
    suite['entries'] = [
        one for one in suite['entries'] if one['subject'] == 'pretrained'
    ]
    assert lay_out(suite).gains == []


def test_a_table_of_several_versions_says_so(suite: dict[str, Any]) -> None:
    assert 'swav_plugin' not in sections(suite)[KNN].note
    suite['entries'][1]['versions'] = ['0.2.0', '0.3.0']
    found = sections(suite)
    assert found[KNN].note.endswith(
        ' Measured with swav_plugin 0.2.0 and 0.3.0.'
    )
    assert 'swav_plugin' not in found[SVM].note


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
    numbers = [float(number) for number in range(7, 13)]
    suite['entries'] = [
        entry(name, 'pretrained', results)
        for name, results in (
            ('faster_rcnn_c4', found),
            ('mask_rcnn_fpn_1x', dict(zip(boxes + masks, numbers))),
            ('mask_rcnn_c4_1x', dict(zip(masks + boxes, numbers))),
            ('fcn_voc12aug', {'aAcc': 0.0, 'mIoU': 13.0}),
            ('fcn_cityscapes', {'aAcc': 0.0, 'mIoU': 14.0}),
        )
    ]
    rows = {
        title: section.rows[0].cells
        for title, section in sections(suite).items()
    }
    assert rows == {
        'Pascal VOC 2007 + 2012 Detection': [1, 2, 3, 4, 5, 6],
        'COCO2017 Detection and Instance Segmentation': [
            *range(7, 13),
        ],
        'COCO2017 Detection and Instance Segmentation, C4': [
            10,
            11,
            12,
            7,
            8,
            9,
        ],
        'Pascal VOC 2012 + Aug Segmentation': [13],
        'Cityscapes Segmentation': [14],
    }


def test_bars_are_as_long_as_numbers(suite: dict[str, Any]) -> None:
    groups = sections(suite)[KNN].bars
    assert [group.title for group in groups] == ['k=10', 'k=20']
    # 80 is the full width: the next multiple of 20 above the largest number.
    assert [
        [(bar.kind, bar.label, bar.value) for bar in group.bars]
        for group in groups
    ] == [
        [
            ('pretrained', 'net', 61.25),
            ('random', 'random initialization', 5.0),
        ],
        [('pretrained', 'net', 60.5)],
    ]
    for group in groups:
        for bar in group.bars + group.marks:
            assert bar.share == pytest.approx(100 * bar.value / 80)
    # Published numbers, but only of columns that were measured.
    assert [
        [(mark.label, mark.value) for mark in group.marks] for group in groups
    ] == [[(MMSELFSUP, 60.5)], [(MMSELFSUP, 60.6)]]
    assert sections(suite)[KNN].legend == ['pretrained', 'random', 'published']


def test_no_published_marks_on_other_data(suite: dict[str, Any]) -> None:
    other = copy.deepcopy(suite)
    other['entries'][0].update(data='nette', is_stand_in=True)
    section = sections(other)[KNN]
    assert [group.marks for group in section.bars] == [[], []]
    assert section.legend == ['pretrained', 'random']


def test_zeros_have_bars(suite: dict[str, Any]) -> None:
    suite['entries'] = [entry('fcn_voc12aug', 'pretrained', {'mIoU': 0.0})]
    (group,) = sections(suite)['Pascal VOC 2012 + Aug Segmentation'].bars
    assert [bar.share for bar in group.bars] == [0]
    # Shared with the published number, which is not on other data.
    assert [mark.share for mark in group.marks] == [
        pytest.approx(100 * 63.73 / 80)
    ]


def test_a_suite_that_has_just_begun(suite: dict[str, Any]) -> None:
    suite['entries'] = [
        dict(each, status='waiting', reason='not yet run')
        for each in suite['entries'][:2]
    ]
    report = lay_out(suite)
    assert isinstance(report, Report)
    assert report.sections == [] and report.done == []
    assert report.summary == '0 of 1 benchmarks measured.'
    assert [each['subject'] for each in report.missing] == [
        'pretrained',
        'random',
    ]
