"""Read the curves of a run, which may have been resumed, from its logs."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from swav_plugin.engine.hooks.health import HEALTH

SCALARS = 'scalars.json'
Curve = dict[int, float]  # the iteration -> the value
# What mmengine adds to the numbers of a validation.
_NOT_MEASURED = ('step', 'time', 'data_time', 'memory')


class History(NamedTuple):
    """What the logs of a work dir hold, by iteration.

    Attributes:
        train: Losses, learning rate, health and speed, by name.
        measured: The numbers of validations, by name.
        health: The rows of `HealthHook`, one for each epoch, in order.
    """

    train: dict[str, Curve]
    measured: dict[str, Curve]
    health: list[dict[str, Any]]

    @property
    def iterations(self) -> set[int]:
        """Return the iterations that something was logged of."""
        steps = {row['step'] for row in self.health}
        return steps.union(*self.train.values())

    @property
    def first_iter(self) -> int:
        """Return the first iteration that was logged; 0 if none was."""
        return min(self.iterations, default=0)

    @property
    def last_iter(self) -> int:
        """Return the last iteration that was logged; 0 if none was."""
        return max(self.iterations, default=0)

    def health_curve(self, name: str) -> Curve:
        """Return one number of the health, of each epoch that has it."""
        return {
            row['step']: row[name]
            for row in self.health
            if _is_number(row.get(name))
        }


def read_history(work_dir: Path) -> History:
    """Read all logs of a work dir.

    Each start of a run has a log of its own, in a folder that is named by the
    time. What a later one has logged takes the place of all that an earlier
    one had from that iteration on.
    """
    history = History({}, {}, [])
    for folder in sorted(work_dir.glob('*/vis_data')):
        later = read_start(folder / SCALARS)
        if not later.iterations:
            continue
        first = later.first_iter
        for old, new in (
            (history.train, later.train),
            (history.measured, later.measured),
        ):
            for name in {*old, *new}:
                kept = old.get(name, {}).items()
                old[name] = {k: v for k, v in kept if k < first}
                old[name] |= new.get(name, {})
        kept_rows = [row for row in history.health if row['step'] < first]
        history = history._replace(health=kept_rows + later.health)
    return history


def read_start(scalars: Path) -> History:
    """Read the log of one start of a run.

    Args:
        scalars: Its scalars.json; the health is beside it.
    """
    train: defaultdict[str, Curve] = defaultdict(dict)
    measured: defaultdict[str, Curve] = defaultdict(dict)
    last = 0
    for row in _rows(scalars):
        is_health = any(name.startswith('health/') for name in row)
        step = row.get('step' if is_health else 'iter')
        if type(step) is int:
            # The step of a validation may be an epoch.
            last, curves = max(last, step), train
        elif last:
            step, curves = last, measured
        else:  # that of an epoch which an earlier start has trained
            continue
        for name, value in row.items():
            if _is_number(value) and name not in _NOT_MEASURED:
                curves[name][step] = value
    health = [
        row
        for row in _rows(scalars.with_name(HEALTH))
        if type(row.get('step')) is int
    ]
    return History(dict(train), dict(measured), health)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log; a killed run may leave half a line."""
    if not path.is_file():
        return
    for line in path.read_text(encoding='utf-8', errors='replace').split('\n'):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float))
    return is_number and not isinstance(value, bool) and math.isfinite(value)
