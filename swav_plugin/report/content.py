"""What a report shows, and what it lacks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.verdict import OK, WARN
from swav_plugin.inference.gallery import Section

from .embedding_map import Map
from .measured import Measured


class Missing(NamedTuple):
    """A part of the page that is not there, and why."""

    part: str
    reason: str


class Warned(NamedTuple):
    """What a part of the page warns of."""

    part: str
    text: str


@dataclass
class Report:
    """What the page shows, in its order.

    Args:
        title: What was trained.
        health: 'OK', 'WARN', 'COLLAPSED', 'too early', or '' if it was not
            recorded.
        verdict: The numbers of that, and the remedy.
        stopping: The epoch with the highest stopping score.
        progress: How far the run has come.
        starts: A line for each start of the run.
        facts: What the run is, by name.
        config: The whole config.
        charts: <svg> elements.
        measured: Benchmarks.
        sample: Which images the pictures are of.
        sections: Pictures.
        map: Of the embeddings.
        missing: What is not there.
        warnings: What the parts of the page warn of.
    """

    title: str
    health: str = ''
    verdict: str = ''
    stopping: str = ''
    progress: str = ''
    starts: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    config: str = ''
    charts: list[str] = field(default_factory=list)
    measured: Measured = Measured([], [])
    sample: str = ''
    sections: list[Section] = field(default_factory=list)
    map: Map | None = None
    missing: list[Missing] = field(default_factory=list)
    warnings: list[Warned] = field(default_factory=list)

    @property
    def state(self) -> str:
        """Return the verdict of the page: the worst of health and warnings."""
        if self.warnings and self.health in (OK, ''):
            return WARN
        return self.health

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Make a part; an error in it only leaves it out."""
        try:
            yield
        except (CheckpointError, OSError, UsageError, ValueError) as error:
            self.missing.append(Missing(name, str(error)))
        except Exception as error:  # of a model or a pipeline of the user
            reason = f'{type(error).__name__}: {error}'
            self.missing.append(Missing(name, reason))
