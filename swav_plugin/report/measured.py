"""Find the numbers that were measured of a run's checkpoints."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from swav_plugin.checkpoints.digests import noted_digests
from swav_plugin.datasets.check import published_images
from swav_plugin.engine.results import RESULTS
from swav_plugin.suite.benchmarks import BENCHMARKS
from swav_plugin.suite.report import Section, find_result, lay_out

# Of a work dir: itself, the folder of a log, and a folder of those.
_FOLDERS = ('', '*/', '*/*/')


class Measured(NamedTuple):
    """What was measured.

    Attributes:
        tables: Beside published rows.
        others: Results on sets that nothing was published on, as
            `Result.to_dict` gives them, with the folder that has them.
    """

    tables: list[Section]
    others: list[dict[str, Any]]


def find_measured(work_dir: Path) -> Measured:
    """Find the results of `swav suite` and `swav test`.

    Those of `swav test` are in folders of the work dir. A suite may also be
    beside it, if it measured a checkpoint that is in the work dir.
    """
    work_dir = work_dir.resolve()
    tables: list[Section] = []
    plain: list[tuple[Path, list[dict[str, Any]]]] = []
    for folder in _FOLDERS:
        for path in sorted(work_dir.glob(folder + RESULTS), reverse=True):
            content = _read(path)
            if isinstance(content, list):
                plain.append((path, content))
            elif _is_suite(content):
                tables += lay_out(content).sections
    digests = noted_digests(work_dir)
    for path in sorted(work_dir.parent.glob(f'*/{RESULTS}')):
        content = _read(path)
        if path.parent != work_dir and _is_suite(content):
            if content['checkpoint'].get('SHA-256') in digests:
                tables += lay_out(content).sections
    entries = [entry for _, rows in plain for entry in _entries(rows)]
    if entries:
        tables += lay_out(
            dict(
                checkpoint={},
                setting={},
                subjects=dict(pretrained=work_dir.name),
                entries=entries,
            )
        ).sections
    told = [id(row) for entry in entries for row in entry['results']]
    others = [
        dict(row, folder=str(path.parent.relative_to(work_dir)))
        for path, rows in plain
        for row in rows
        if _is_result(row) and id(row) not in told
    ]
    return Measured(tables, others)


def _read(path: Path) -> Any:
    """Read a file; None if it is none of ours."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None


def _is_suite(content: Any) -> bool:
    """Check that it is what `suite.report` describes."""
    parts = ('checkpoint', 'setting', 'subjects', 'entries')
    return isinstance(content, dict) and all(part in content for part in parts)


def _is_result(row: Any) -> bool:
    return isinstance(row, dict) and {'name', 'value', 'protocol'} <= {*row}


def _entries(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make entries of a suite of results on sets with published numbers."""
    entries = []
    for name, benchmark in BENCHMARKS.items():
        counts = {*published_images(benchmark.data.name).values()}
        own = [
            row
            for row in rows
            if _is_result(row) and counts and counts <= _numbers(row)
        ]
        if any(find_result(own, column) for column in benchmark.columns):
            entries.append(
                dict(
                    benchmark=name,
                    subject='pretrained',
                    data=benchmark.data.name,
                    is_stand_in=False,
                    config=f'configs/benchmarks/{benchmark.config}',
                    status='done',
                    notes=[],
                    command='',
                    seconds=0.0,
                    versions=[],
                    results=own,
                )
            )
    return entries


def _numbers(row: dict[str, Any]) -> set[int]:
    """Return the numbers of images in the protocol of a result."""
    fields = row.get('fields') or {}
    return {
        value
        for key, value in fields.items()
        if key.startswith('num_') and key.endswith('_images')
    }
