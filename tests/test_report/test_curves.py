"""Curves as SVG."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from swav_plugin.report.curves import (
    HEIGHT,
    WIDTH,
    Line,
    draw_lines,
    elide,
    ticks,
)

SVG = '{http://www.w3.org/2000/svg}'


def _points(svg: ElementTree.Element) -> list[list[tuple[float, float]]]:
    return [
        [
            (float(x), float(y))
            for x, _, y in (
                p.partition(',') for p in line.get('points', '').split()
            )
        ]
        for line in svg.iter(f'{SVG}polyline')
    ]


def test_points_are_where_their_numbers_are() -> None:
    text = draw_lines(
        'a <b> & "c"',
        [
            Line('<run 1>', [(10, 4.0), (20, 3.0), (30, 2.0)]),
            Line('run 2', [(10, 2.0), (20, float('nan')), (30, 2.0)]),
        ],
        {'ln K = 4.09': 4.0},
    )
    svg = ElementTree.fromstring(text)  # a file of its own
    assert svg.get('aria-label') == 'a <b> & "c"'
    first, second = _points(svg)
    assert len(second) == 2
    # Evenly from left to right, and from the highest value down.
    assert first[1][0] - first[0][0] == pytest.approx(
        first[2][0] - first[1][0], abs=0.1
    )
    assert first[1][1] - first[0][1] == pytest.approx(
        first[2][1] - first[1][1], abs=0.1
    )
    assert first[2][1] == second[0][1] > first[0][1]
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in first)
    level = next(
        each
        for each in svg.iter(f'{SVG}line')
        if 'dasharray' in each.get('style', '')
    )
    assert float(level.get('y1', '')) == first[0][1]
    words = [each.text for each in svg.iter(f'{SVG}text')]
    assert {'<run 1>', 'run 2', 'ln K = 4.09', '10', '30'} <= {*words}
    told = [each.text for each in svg.iter(f'{SVG}title')]
    assert '<run 1>, 20: 3' in told


def test_one_point_and_a_constant_line_can_be_drawn() -> None:
    for points in ([(5, 0.0)], [(1, 7.0), (2, 7.0)]):
        (drawn,) = _points(
            ElementTree.fromstring(draw_lines('', [Line('', points)]))
        )
        assert len(drawn) == len(points)


def test_a_long_line_is_thinned_to_its_end() -> None:
    points = [(i, float(i % 7)) for i in range(20_001)]
    text = draw_lines('', [Line('', points)])
    (drawn,) = _points(ElementTree.fromstring(text))
    assert 500 < len(drawn) < 700
    assert '<circle' not in text and len(text) < 20_000
    last = _points(ElementTree.fromstring(draw_lines('', [Line('', points)])))
    assert drawn[-1] == last[0][-1] and drawn[-1][0] == pytest.approx(408)


@pytest.mark.parametrize(
    ('low', 'high'), [(0, 1), (-3.2, 8.9), (1e-7, 3e-7), (2.0, 2.0), (0, 0)]
)
def test_ticks_enclose_the_values(low: float, high: float) -> None:
    found = ticks(low, high, 5)
    assert found[0] <= low and found[-1] >= high
    assert 2 <= len(found) <= 8
    steps = {round(b - a, 12) for a, b in zip(found, found[1:])}
    assert len(steps) == 1
    assert re.match('[125](e|$)', f'{steps.pop():.0e}'.replace('e+00', ''))


def test_what_is_counted_has_whole_numbers() -> None:
    """There is no iteration 1.5, also where there are few of them."""
    for last in (1, 2, 3, 5, 9):
        points = [(float(x), 0.5) for x in range(1, last + 1)]
        drawn = draw_lines('a', [Line('', points)])
        numbers = re.findall(r'text-anchor="middle"[^>]*>([\d.]+)<', drawn)
        assert numbers and all('.' not in each for each in numbers)


def test_long_names_are_cut_and_told_in_full() -> None:
    name = 'a/' + 'very_' * 20 + 'long_name'
    lines = [Line(name, [(1.0, 2.0)]), Line('b', [(1.0, 3.0)])]
    drawn = draw_lines(name, lines)
    assert drawn.count(f'<title>{name}</title>') == 2
    (shown, _) = re.findall('>(a/[^<]*…[^<]*name)<', drawn)
    assert len(shown) == 52
    # Twice as wide, half as many.
    assert len(elide('\u732b' * 60, 52)) == 26
