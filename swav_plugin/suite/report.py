"""The report of a suite: what was measured, then what was not and why.

Pure functions. The dict that `results.json` holds goes in; `Report` is its
layout, from which `render` makes Markdown and HTML. That dict has

- 'checkpoint' and 'setting', dicts of things to tell;
- 'subjects', titles of networks by 'pretrained' and 'random';
- 'entries', dicts of 'benchmark', 'subject', 'data', 'is_stand_in', 'config'
  and 'status'. One that is 'done' has 'notes', 'command', 'seconds',
  'versions' of this package, 'results' (see `engine.results`) and, where
  something was drawn, 'pictures', paths relative to the report; any other has
  a 'reason'.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .benchmarks import BENCHMARKS, Column, Table

NOTHING = '-'
_STEP = 20  # bars end at the next multiple of it


class Row(NamedTuple):
    """A row of a table.

    Args:
        name: Name of the network.
        kind: 'pretrained', 'random' or 'published'.
        cells: Numbers that were measured, text, or None.
        data: The set that stood in for the published one; '' if none did.
    """

    name: str
    kind: str
    cells: list[Any]
    data: str = ''

    @property
    def label(self) -> str:
        """Name the network, and the data if it is not the published set."""
        return f'{self.name}, on {self.data}' if self.data else self.name


class Bar(NamedTuple):
    """A number as a bar: `share` of the width in %."""

    kind: str
    label: str
    value: float
    share: float


class BarGroup(NamedTuple):
    """The bars of one column; `marks` are published numbers across them."""

    title: str
    bars: list[Bar]
    marks: list[Bar]


class Section(NamedTuple):
    """A table with something measured in it.

    Args:
        title: Title of the table.
        note: What the numbers are.
        columns: Titles.
        rows: What was measured, then what was published.
        entries: The entries that its numbers come from.
    """

    title: str
    note: str
    columns: list[str]
    rows: list[Row]
    entries: list[dict[str, Any]]

    @property
    def bars(self) -> list[BarGroup]:
        """Lay out what was measured as bars, column by column."""
        return _lay_out_bars(self)

    @property
    def legend(self) -> list[str]:
        """Return the kinds of bars and marks, in the order of the rows."""
        shown = {
            bar.kind for group in self.bars for bar in group.bars + group.marks
        }
        kinds = dict.fromkeys(row.kind for row in self.rows)
        return [kind for kind in kinds if kind in shown]


class Report(NamedTuple):
    """Everything that a report shows, in its order.

    Args:
        title: Title of the report.
        checkpoint: Things to tell about it.
        setting: The same about the command and the machine.
        sections: Tables.
        gains: Table, column, number at random initialization and number of
            the checkpoint, of what was measured for both.
        done: Entries, for how each number came about.
        missing: Entries that were not measured.
    """

    title: str
    checkpoint: dict[str, Any]
    setting: dict[str, Any]
    sections: list[Section]
    gains: list[tuple[str, str, float, float]]
    done: list[dict[str, Any]]
    missing: list[dict[str, Any]]

    @property
    def summary(self) -> str:
        """Count what was measured."""
        done = {entry['benchmark'] for entry in self.done}
        missing = {entry['benchmark'] for entry in self.missing} - done
        return f'{len(done)} of {len(done | missing)} benchmarks measured.'


def lay_out(suite: dict[str, Any]) -> Report:
    """Arrange a suite for its reader."""
    done = [entry for entry in suite['entries'] if entry['status'] == 'done']
    tables = dict.fromkeys(
        column.table
        for benchmark in BENCHMARKS.values()
        for column in benchmark.columns
    )
    sections = [_section(suite, done, table) for table in tables]
    found = [section for section in sections if section is not None]
    return Report(
        title=f'Benchmarks of {suite["subjects"]["pretrained"]}',
        checkpoint=suite['checkpoint'],
        setting=suite['setting'],
        sections=found,
        gains=[gain for section in found for gain in _gains(section)],
        done=done,
        # What was skipped was so for every network: say it once.
        missing=[
            entry
            for entry in suite['entries']
            if entry['status'] != 'done'
            and (entry['status'], entry['subject']) != ('skipped', 'random')
        ],
    )


class _Filled(NamedTuple):
    """A column of a benchmark that was measured.

    Args:
        benchmark: Its name.
        column: A column of a table.
        published: Published cells by the name of their row.
    """

    benchmark: str
    column: Column
    published: dict[str, str]


def _section(
    suite: dict[str, Any], done: Sequence[dict[str, Any]], table: Table
) -> Section | None:
    """Fill a table; None if nothing of it was measured.

    Columns of benchmarks that were not measured are left out, and with them
    what was published of these.
    """
    measured = {entry['benchmark'] for entry in done}
    columns = [
        _Filled(name, column, benchmark.published_in(column))
        for name, benchmark in BENCHMARKS.items()
        for column in benchmark.columns
        if column.table == table and name in measured
    ]
    names = {each.benchmark for each in columns}
    entries = [entry for entry in done if entry['benchmark'] in names]
    rows = [
        _measured_row(subject, title, entries, columns)
        for subject, title in suite['subjects'].items()
    ]
    rows = [row for row in rows if {*row.cells} != {None}]
    if not columns or not rows:
        return None
    title, note = table.title, table.note
    stand_ins = dict.fromkeys(row.data for row in rows if row.data)
    if stand_ins and all(row.data for row in rows):
        title = f'{", ".join(stand_ins)}, measured as for {title}'
    if stand_ins:
        note += (
            f' Measured on a stand-in for the published dataset, '
            f'{", ".join(stand_ins)}: not to be compared with published rows.'
        )
    versions = dict.fromkeys(
        version for entry in entries for version in entry['versions']
    )
    if len(versions) > 1:
        note += f' Measured with swav_plugin {" and ".join(versions)}.'
    return Section(
        title,
        note,
        [each.column.title for each in columns],
        rows + _published_rows(columns),
        entries,
    )


def _measured_row(
    subject: str,
    title: str,
    entries: Sequence[dict[str, Any]],
    columns: Sequence[_Filled],
) -> Row:
    """Fill a row with what was measured of one network."""
    own = [entry for entry in entries if entry['subject'] == subject]
    stand_ins = {entry['data'] for entry in own if entry['is_stand_in']}
    cells = [_cell(own, each) for each in columns]
    return Row(title, subject, cells, ', '.join(sorted(stand_ins)))


def _published_rows(columns: Sequence[_Filled]) -> list[Row]:
    """Return the published rows that have a number in these columns."""
    titles = dict.fromkeys(
        title for each in columns for title in each.published
    )
    rows = [
        Row(
            title,
            'published',
            [each.published.get(title, NOTHING) for each in columns],
        )
        for title in titles
    ]
    return [row for row in rows if {*row.cells} != {NOTHING}]


def _cell(entries: Sequence[dict[str, Any]], filled: _Filled) -> Any:
    """Return what a column shows of a network; None if it has no result."""
    results = [
        result
        for entry in entries
        if entry['benchmark'] == filled.benchmark
        for result in entry['results']
    ]
    result = find_result(results, filled.column)
    if result is None:
        return None
    shows = filled.column.shows
    return result['value'] if shows == 'value' else result['fields'][shows]


def find_result(
    results: Sequence[dict[str, Any]], column: Column
) -> dict[str, Any] | None:
    """Find the result that fills a column.

    Args:
        results: The results of its benchmark.
        column: A column of a table.
    """
    for wanted in column.wanted:
        for result in results:
            known = {**result['fields'], 'name': result['name']}
            if wanted.items() <= known.items():
                return result
    return None


def _gains(section: Section) -> list[tuple[str, str, float, float]]:
    """Return the numbers that random networks have, too."""
    cells = {row.kind: row.cells for row in section.rows}
    pairs = zip(
        section.columns, cells.get('random', ()), cells.get('pretrained', ())
    )
    return [
        (section.title, column, before, after)
        for column, before, after in pairs
        if isinstance(before, float) and isinstance(after, float)
    ]


def _lay_out_bars(section: Section) -> list[BarGroup]:
    """Draw measured numbers as bars, and published ones as marks.

    No marks where a network was measured on other data than the published.
    """
    measured = [row for row in section.rows if row.kind != 'published']
    published = [row for row in section.rows if row.kind == 'published']
    if any(row.data for row in measured):
        published = []
    indices = [
        i
        for i in range(len(section.columns))
        if any(isinstance(row.cells[i], float) for row in measured)
    ]
    numbers = [
        number
        for row in measured + published
        for i in indices
        if (number := _number(row.cells[i])) is not None
    ]
    end = _STEP * max(1, math.ceil(max(numbers, default=0) / _STEP))

    def bars(rows: list[Row], i: int) -> list[Bar]:
        return [
            Bar(row.kind, row.label, number, 100 * number / end)
            for row in rows
            if (number := _number(row.cells[i])) is not None
        ]

    return [
        BarGroup(section.columns[i], bars(measured, i), bars(published, i))
        for i in indices
    ]


def _number(cell: Any) -> float | None:
    """Read the number in a cell, also in one that was published."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None
