"""The report of the benchmark suite as one HTML file, plots included."""

import base64
import math
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from .report import (
    TABLES,
    Row,
    Table,
    by_status,
    compare,
    describe,
    entries_of,
    heading,
    note_of,
    table_rows,
    text,
)

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c2430;
  --soft: #5b6675; --line: #dfe4ea; --band: #f4f6f9; --pretrained: #2563c4;
  --random: #a3adba; --reference: #c2570c; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d;
  --ink: #e6eaf0; --soft: #9aa6b4; --line: #323a44; --band: #1c2229;
  --pretrained: #6ea4f5; --random: #66717e; --reference: #f0954f; } }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.2rem 4rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .2rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
p { margin: .2rem 0 .8rem; color: var(--soft); }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr);
  gap: 0 1rem; font-size: .9rem; }
dt { color: var(--soft); }
dd { margin: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; white-space: normal;
  min-width: 13rem; }
th { color: var(--soft); font-weight: 600; }
tr.pretrained td { font-weight: 600; background: var(--band); }
tr.reference td { color: var(--soft); }
li { white-space: pre-wrap; }
th.words, td.words { text-align: left; white-space: normal;
  min-width: 20rem; }
code { font-size: .85em; }
figure { display: flex; flex-wrap: wrap; gap: .5rem; margin: .8rem 0; }
figcaption { flex-basis: 100%; color: var(--soft); font-size: .875rem; }
img { max-width: 100%; height: auto; }
svg { width: 100%; max-width: 45rem; height: auto; display: block;
  margin: .6rem 0 1rem; }
svg text { fill: var(--soft); font-size: 12px; text-anchor: middle; }
svg .axis { text-anchor: end; }
svg .key { text-anchor: start; }
svg .value { fill: var(--ink); font-size: 11px; }
svg line { stroke: var(--line); }
svg .pretrained { fill: var(--pretrained); }
svg .random { fill: var(--random); }
svg .reference { stroke: var(--reference); stroke-width: 2.5; }
"""


def to_html(suite: dict, folder: str | os.PathLike = '.') -> str:
    """Lay a suite out as one HTML file that needs no other, with plots.

    Args:
        suite: As for `to_markdown`.
        folder: Where the pictures of entries lie, which are put in.
    """
    title = escape(f'Benchmarks of {suite["subjects"]["pretrained"]}')
    about = {**suite['checkpoint'], **suite['setting']}
    parts = [
        '<!DOCTYPE html>',
        '<html lang="en">',
        '<head>',
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f'<title>{title}</title>',
        f'<style>{_STYLE}</style>',
        '</head>',
        '<body><main>',
        f'<h1>{title}</h1>',
        '<dl>',
        *(
            f'<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>'
            for key, value in about.items()
        ),
        '</dl>',
    ]
    for table in TABLES:
        rows = table_rows(suite, table)
        titles = ['Network', *(column.title for column in table.columns)]
        parts += [
            f'<section><h2>{escape(table.title)}</h2>',
            f'<p>{escape(note_of(table, rows))}</p>',
            draw(table, rows),
            _table(
                titles,
                [[row.name, *map(text, row.cells)] for row in rows],
                [row.kind for row in rows],
            ),
            *_pictures(suite, table, Path(folder)),
            '</section>',
        ]
    compared = compare(suite)
    if compared:
        parts += [
            '<section><h2>Against random initialisation</h2>',
            _table(
                ['Number', 'Random', 'Pretrained', 'Gain'],
                [
                    [
                        f'{title}, {column}',
                        f'{before:.2f}',
                        f'{after:.2f}',
                        f'{after - before:+.2f}',
                    ]
                    for title, column, before, after in compared
                ],
            ),
            '</section>',
        ]
    done, missing = by_status(suite)
    if missing:
        parts += ['<section><h2>Not measured</h2>', '<ul>']
        parts += [
            f'<li><b>{escape(heading(suite, entry))}</b>: '
            f'{entry["status"]}, {escape(entry["reason"])}</li>'
            for entry in missing
        ]
        parts += ['</ul></section>']
    parts.append('<section><h2>How each number came about</h2>')
    for entry in done:
        parts += [
            f'<h3>{escape(heading(suite, entry))}</h3>',
            f'<p>{escape(describe(entry))}<br>'
            f'<code>{escape(entry["command"])}</code></p>',
            _table(
                ['Result', 'Value', 'Protocol'],
                [
                    [result['name'], text(result['value']), result['protocol']]
                    for result in entry['results']
                ],
            ),
        ]
    return '\n'.join([*parts, '</section>', '</main></body></html>', ''])


def _pictures(suite: dict, table: Table, folder: Path) -> list[str]:
    """What networks found in a few images, each network in a row."""
    parts = []
    for entry in entries_of(suite['entries'], table):
        files = [folder / name for name in entry.get('pictures', ())]
        if not files:
            continue
        images = ''.join(
            f'<img alt="{escape(file.stem)}" src="data:image/jpeg;base64,'
            f'{base64.b64encode(file.read_bytes()).decode()}">'
            for file in files
        )
        parts.append(
            f'<figure><figcaption>{escape(heading(suite, entry))}'
            f'</figcaption>{images}</figure>'
        )
    return parts


def _table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    kinds: Sequence[str] = (),
) -> str:
    """A table; its last column is one of words if its title is 'Protocol'."""
    ends = [''] * len(titles)
    if titles[-1] == 'Protocol':
        ends[-1] = ' class="words"'
    lines = [
        ''.join(
            f'<{tag}{end}>{escape(cell)}</{tag}>'
            for cell, end in zip(row, ends)
        )
        for tag, row in [('th', titles), *(('td', row) for row in rows)]
    ]
    classes = [''] + [f' class="{kind}"' for kind in kinds]
    classes += [''] * (len(lines) - len(classes))
    body = '\n'.join(
        f'<tr{name}>{line}</tr>' for name, line in zip(classes, lines)
    )
    return f'<div class="scroll"><table>\n{body}\n</table></div>'


def draw(table: Table, rows: Sequence[Row]) -> str:
    """Draw what was measured of a table as bars, an SVG; '' if nothing was.

    Published numbers are lines across the bars, but not where a network was
    measured on other data than theirs.
    """
    measured = [row for row in rows if row.kind != 'reference']
    places = [
        i
        for i, column in enumerate(table.columns)
        if any(isinstance(row.cells[i], float) for row in measured)
    ]
    if not places:
        return ''
    references = [row for row in rows if row.kind == 'reference']
    if any(row.is_stand_in for row in measured):
        references = []
    values = [
        number
        for row in [*measured, *references]
        for i in places
        if (number := _number(row.cells[i])) is not None
    ]
    top = 20 * math.ceil(max(*values, 1) / 20)
    left, right, high, low = 34, 712, 34, 226
    parts = [
        f'<svg viewBox="0 0 720 250" role="img" '
        f'aria-label="{escape(table.title)}">'
    ]

    def y_of(value: float) -> float:
        return low - (low - high) * value / top

    for tick in range(0, top + 1, 20):
        y = y_of(tick)
        parts += [
            f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text class="axis" x="{left - 6}" y="{y + 4:.1f}">{tick}</text>',
        ]
    step = (right - left) / len(places)
    width = min(34.0, 0.8 * step / len(measured))
    for number, place in enumerate(places):
        middle = left + step * (number + 0.5)
        parts.append(
            f'<text x="{middle:.1f}" y="{low + 17}">'
            f'{escape(table.columns[place].title)}</text>'
        )
        for j, row in enumerate(measured):
            value = _number(row.cells[place])
            if value is None:
                continue
            x = middle + width * (j - len(measured) / 2)
            y = y_of(value)
            parts += [
                f'<rect class="{row.kind}" x="{x + 1:.1f}" '
                f'y="{y:.1f}" width="{width - 2:.1f}" '
                f'height="{low - y:.1f}"><title>{escape(row.name)}: '
                f'{value:.2f}</title></rect>',
                f'<text class="value" x="{x + width / 2:.1f}" '
                f'y="{y - 4:.1f}">{value:.1f}</text>',
            ]
        for row in references:
            value = _number(row.cells[place])
            if value is not None:
                parts.append(
                    f'<line class="reference" x1="{middle - 0.42 * step:.1f}" '
                    f'x2="{middle + 0.42 * step:.1f}" y1="{y_of(value):.1f}" '
                    f'y2="{y_of(value):.1f}"><title>{escape(row.name)}: '
                    f'{value:.2f}</title></line>'
                )
    return '\n'.join([*parts, *_legend(measured, bool(references)), '</svg>'])


def _number(cell: Any) -> float | None:
    """The number in a cell, also in one that was published."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def _legend(measured: Sequence[Row], has_references: bool) -> list[str]:
    """What the colours of a plot mean."""
    parts, x = [], 34
    for row in measured:
        parts += [
            f'<rect class="{row.kind}" x="{x}" y="4" width="12" height="12"/>',
            f'<text class="key" x="{x + 17}" y="14">{row.kind}</text>',
        ]
        x += 100
    if has_references:
        parts += [
            f'<line class="reference" x1="{x}" x2="{x + 16}" y1="10" '
            'y2="10"/>',
            f'<text class="key" x="{x + 21}" y="14">published</text>',
        ]
    return parts
