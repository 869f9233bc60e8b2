"""Write a report as Markdown, and as HTML from a template."""

import base64
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from swav_plugin.engine.page import read_template

from .report import NOTHING, lay_out

# What Markdown would take for a mark of its own: in any place, or at the edge
# of a word, before a link's address, or in the name of a character.
_MARKS = re.compile(r'[\\`*<>|~]|(?<!\w)_|_(?!\w)|\](?=[(:\[])|&(?=#?\w+;)')


def escape(words: str) -> str:
    """Write words for Markdown, so that it shows them as they are.

    >>> escape('a|b <i> *new*, swav_resnet50'), escape('two\\nlines')
    ('a\\\\|b \\\\<i\\\\> \\\\*new\\\\*, swav_resnet50', 'two lines')
    """
    return _MARKS.sub(r'\\\g<0>', ' '.join(words.split()))


def code(words: str) -> str:
    """Write words for Markdown as code.

    >>> code('python train.py'), code('a`b')
    ('`python train.py`', '`` a`b ``')
    """
    words = ' '.join(words.split())
    if '`' not in words:
        return f'`{words}`'
    longest = max(map(len, re.findall('`+', words)))
    fence = '`' * (longest + 1)
    return f'{fence} {words} {fence}'


def text(cell: Any) -> str:
    """Print a cell.

    >>> text(61.254), text('feature5'), text(None)
    ('61.25', 'feature5', '-')
    """
    if cell is None:
        return NOTHING
    return cell if isinstance(cell, str) else f'{cell:.2f}'


def heading(suite: dict[str, Any], entry: dict[str, Any]) -> str:
    """Name the benchmark of an entry, the network, and a set of the user."""
    if entry['status'] == 'skipped':
        return entry['benchmark']  # for every network
    told = f'{entry["benchmark"]}, {suite["subjects"][entry["subject"]]}'
    return told + f', on {entry["data"]}' * entry['is_stand_in']


def describe_entry(entry: dict[str, Any]) -> str:
    """Say how an entry was measured, apart from its numbers' protocols."""
    parts = [
        entry['config'],
        *entry['notes'],
        duration(entry['seconds']),
        f'swav_plugin {", ".join(entry["versions"])}',
    ]
    return '; '.join(parts) + '.'


def duration(seconds: float) -> str:
    """Put seconds into words.

    >>> duration(59.4), duration(3661)
    ('59 s', '1 h 1 min')
    """
    if seconds < 100:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    if minutes < 60:
        return f'{minutes} min'
    return f'{minutes // 60} h {minutes % 60} min'


def to_markdown(suite: dict[str, Any]) -> str:
    """Write a report as Markdown.

    Args:
        suite: As the head of `report` describes it.
    """
    report = lay_out(suite)
    lines = [f'# {escape(report.title)}', '', report.summary]
    if report.missing:
        lines.append('What was not is listed at the end, with the reason.')
    lines.append('')
    lines += _items(report.checkpoint)
    for section in report.sections:
        lines += ['', f'## {escape(section.title)}', '']
        lines += [escape(section.note), '']
        lines += _table(
            ['Network', *section.columns],
            [[row.label, *map(text, row.cells)] for row in section.rows],
        )
    if report.gains:
        lines += ['', '## Against random initialization', '']
        lines += _table(
            ['Table', 'Column', 'Random', 'Pretrained', 'Gain'],
            [
                [
                    title,
                    column,
                    text(before),
                    text(after),
                    f'{after - before:+.2f}',
                ]
                for title, column, before, after in report.gains
            ],
            text_columns=(0, 1),
        )
    lines += ['', '## How each number came about', '']
    lines += _items(report.setting)
    for entry in report.done:
        lines += [
            '',
            f'### {escape(heading(suite, entry))}',
            '',
            escape(describe_entry(entry)),
        ]
        lines += ['', code(entry['command']), '']
        lines += _table(
            ['Result', 'Value', 'Protocol'],
            [
                [result['name'], text(result['value']), result['protocol']]
                for result in entry['results']
            ],
            text_columns=(0, 2),
        )
        pictures = entry.get('pictures', ())
        lines += [''] * bool(pictures)
        lines += [f'![{escape(name)}](<{quote(name)}>)' for name in pictures]
    if report.missing:
        lines += ['', '## Not measured', '']
    for entry in report.missing:
        first, *rest = entry['reason'].splitlines()
        reason = f'{heading(suite, entry)}: {entry["status"]}, {first}'
        lines.append(f'- {escape(reason)}')
        lines += [''] * bool(rest) + [f'      {line}' for line in rest]
    return '\n'.join(lines) + '\n'


def _items(about: dict[str, Any]) -> list[str]:
    """Write things to tell as a list."""
    return [f'- {escape(f"{key}: {value}")}' for key, value in about.items()]


def _table(
    titles: list[str],
    rows: list[list[str]],
    text_columns: Sequence[int] = (0,),
) -> list[str]:
    """Write a Markdown table; numbers are right-aligned.

    Args:
        titles: Titles of the columns.
        rows: Cells.
        text_columns: Indices of the columns that hold words.
    """
    marks = [
        '---' if index in text_columns else '--:'
        for index in range(len(titles))
    ]
    return [_line(cells) for cells in (titles, marks, *rows)]


def _line(cells: list[str]) -> str:
    """Write a line of a Markdown table."""
    return f'| {" | ".join(map(escape, cells))} |'


def to_html(suite: dict[str, Any], folder: str | os.PathLike = '.') -> str:
    """Write a report as one HTML file that needs no other.

    Args:
        suite: As the head of `report` describes it.
        folder: What the pictures of entries are relative to; they are put in.
    """
    template = read_template(Path(__file__).with_name('report.html.j2'))
    return template.render(
        report=lay_out(suite),
        text=text,
        describe_entry=describe_entry,
        heading=lambda entry: heading(suite, entry),
        picture=lambda name: _data_url(Path(folder, name)),
    )


def _data_url(path: Path) -> str:
    """Return a JPEG file as an address that holds it."""
    content = base64.b64encode(path.read_bytes()).decode()
    return f'data:image/jpeg;base64,{content}'
