"""Draw curves as SVG, for pages and for files of their own."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple
from unicodedata import east_asian_width

WIDTH, HEIGHT = 420, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 30, 36
_ROW = 16  # of the legend
_MOST_POINTS = 600  # of a line; more cannot be seen
_MOST_MARKED = 60  # points with a dot of their own
_MOST_LETTERS = 52  # of a text, as wide as a chart in an average font
# Mid-tones, which can be told apart on white and on black.
COLORS = (
    '#3b7ddd',
    '#e0702f',
    '#2f9e6b',
    '#c4528f',
    '#8d6fd1',
    '#a98a1d',
    '#2aa5b8',
    '#cf4a4a',
    '#7d8b3a',
    '#6f7f94',
    '#9c6b4a',
    '#5566cc',
)
Point = tuple[float, float]
Place = Callable[[Point], Point]  # of a chart: where it is drawn
Parts = list[str]


class Line(NamedTuple):
    """A line of a chart: its name and its points, in order of x."""

    name: str
    points: Sequence[Point]


def draw_lines(
    title: str,
    lines: Sequence[Line],
    levels: Mapping[str, float] = {},
    x_label: str = 'iteration',
) -> str:
    """Draw lines over one pair of axes.

    Points that are not finite are left out. Colors of text and axes are those
    of the page, where it sets --ink, --soft and --line.

    Args:
        title: Above the chart.
        lines: At least one with a point.
        levels: Values with a dashed line across the chart, by name.
        x_label: What x counts.

    Returns:
        An <svg> element, which is also a file of its own.

    >>> 'ln K' in draw_lines('loss', [Line('', [(1, 4.)])], {'ln K': 4.1})
    True
    """
    shown = [line._replace(points=_thin(line.points)) for line in lines]
    points = [point for line in shown for point in line.points]
    ys = [y for _, y in points] + [*levels.values()]
    first, last = (each(x for x, _ in points) for each in (min, max))
    # It counts something: there is no epoch 1.5.
    x_ticks = ticks(first, last, 8, least_step=1)
    x_ticks = [x for x in x_ticks if first <= x <= last]
    y_ticks = ticks(min(ys), max(ys), 5)
    names = [line.name for line in shown if line.name]
    height = HEIGHT + _ROW * (len(names) if len(names) > 1 else 0)

    def place(point: Point) -> Point:
        low, high = y_ticks[0], y_ticks[-1]
        wide = WIDTH - _LEFT - _RIGHT
        tall = HEIGHT - _TOP - _BOTTOM
        share = (point[0] - first) / (last - first) if last > first else 0.5
        return (
            _LEFT + wide * share,
            _TOP + tall * (high - point[1]) / (high - low),
        )

    parts = [
        _text(_LEFT, 16, title, 'start', 'font-weight: 600'),
        *_grid(x_ticks, y_ticks, place),
        _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 4, x_label, 'middle'),
    ]
    for name, y in levels.items():
        parts += _level(name, y, place)
    for index, line in enumerate(shown):
        parts += _line(line, COLORS[index % len(COLORS)], place)
    if len(names) > 1:
        parts += _legend(names)
    return svg(title, WIDTH, height, parts)


def svg(title: str, width: float, height: float, parts: Iterable[str]) -> str:
    """Put parts into an <svg> element that is as wide as there is room."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'aria-label="{escape(title)}" '
        f'viewBox="0 0 {width:g} {height:g}" style="width: 100%; '
        'font: 12px system-ui, sans-serif; color: var(--ink, #1c2430)">'
        + ''.join(parts)
        + '</svg>'
    )


def ticks(
    low: float, high: float, most: int, least_step: float = 0
) -> list[float]:
    """Return round numbers, from the last below to the first above a range.

    Args:
        low: The least value.
        high: The greatest.
        most: About how many steps.
        least_step: The steps are as large at least.

    >>> ticks(0.3, 4.2, 5), ticks(7., 7., 5)
    ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0])
    >>> ticks(1, 3, 8), ticks(1, 3, 8, least_step=1)
    ([1.0, 1.5, 2.0, 2.5, 3.0], [1, 2, 3])
    """
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        around = abs(low) / 7 or 1.0
        low, high, most = low - around, high + around, 2
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) <= m * step * most)
    step = max(step, least_step)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _thin(points: Sequence[Point]) -> list[Point]:
    """Leave out points that are not finite, or too close to be seen."""
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    step = math.ceil(len(finite) / _MOST_POINTS) or 1
    kept = finite[::step]
    return kept if kept[-1:] == finite[-1:] else [*kept, finite[-1]]


def _grid(x_ticks: list[float], y_ticks: list[float], place: Place) -> Parts:
    """Draw lines across the chart, and the numbers on both axes."""
    parts = []
    for y in y_ticks:
        _, top = place((0, y))
        parts.append(_across(top, 'stroke: var(--line, #dfe4ea)'))
        parts.append(_text(_LEFT - 6, top + 4, number(y), 'end'))
    for x in x_ticks:
        left, top = place((x, y_ticks[0]))
        parts.append(_text(left, top + 16, number(x), 'middle'))
    return parts


def _level(name: str, y: float, place: Place) -> Parts:
    """Draw a dashed line across the chart, with its name at the right."""
    _, top = place((0, y))
    dashed = 'stroke: var(--soft, #5b6675); stroke-dasharray: 5 4'
    return [
        _across(top, dashed),
        _text(WIDTH - _RIGHT, top - 5, name, 'end'),
    ]


def _across(top: float, style: str) -> str:
    """Draw a line from the left to the right of a chart."""
    return (
        f'<line x1="{_LEFT}" y1="{top:.1f}" x2="{WIDTH - _RIGHT}" '
        f'y2="{top:.1f}" style="{style}"/>'
    )


def _line(line: Line, color: str, place: Place) -> Parts:
    """Draw a line; a few points get a dot each, which tells its numbers."""
    placed = [place(point) for point in line.points]
    path = ' '.join(f'{x:.1f},{y:.1f}' for x, y in placed)
    parts = [
        f'<polyline points="{path}" fill="none" stroke="{color}" '
        'stroke-width="1.7" stroke-linejoin="round"/>'
    ]
    if len(placed) <= _MOST_MARKED:
        name = f'{line.name}, ' if line.name else ''
        for (left, top), (x, y) in zip(placed, line.points):
            told = escape(f'{name}{number(x)}: {y:.4g}')
            parts.append(
                f'<circle cx="{left:.1f}" cy="{top:.1f}" r="2.4" '
                f'fill="{color}"><title>{told}</title></circle>'
            )
    return parts


def _legend(names: list[str]) -> Parts:
    """Name the lines, one below the other."""
    parts = []
    for index, name in enumerate(names):
        top = HEIGHT + _ROW * index
        parts.append(
            f'<rect x="{_LEFT}" y="{top}" width="12" height="9" '
            f'fill="{COLORS[index % len(COLORS)]}"/>'
        )
        parts.append(_text(_LEFT + 18, top + 9, name, 'start'))
    return parts


def _text(x: float, y: float, words: str, anchor: str, style: str = '') -> str:
    """Write words, as many as fit; `style` is for those that stand out."""
    style = style or 'fill: var(--soft, #5b6675)'
    shown = elide(words, _MOST_LETTERS)
    full = '' if shown == words else f'<title>{escape(words)}</title>'
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
        f'fill="currentColor" style="{style}">{escape(shown)}{full}</text>'
    )


def elide(words: str, most: int) -> str:
    """Leave out the middle of long names: both ends tell them apart.

    Args:
        words: The name.
        most: How many letters fit; those of Chinese take two places.

    >>> elide('work_dirs/a_long_name/loss', 16), elide('loss', 16)
    ('work_dir…me/loss', 'loss')
    """
    widths = [1 + (east_asian_width(each) in 'WF') for each in words]
    if sum(widths) <= most:
        return words
    room = [0, 0]
    for end, order in enumerate((widths, widths[::-1])):
        left = most // 2 - end
        for width in order:
            left -= width
            if left < 0:
                break
            room[end] += 1
    return f'{words[: room[0]]}…{words[len(words) - room[1] :]}'


def number(value: float) -> str:
    """Print a number in few characters.

    >>> number(20000.), number(0.5), number(0.00012), number(0.)
    ('20,000', '0.5', '0.00012', '0')
    """
    if abs(value) >= 1000:
        return f'{value:,.0f}'
    return f'{value:.4g}'
