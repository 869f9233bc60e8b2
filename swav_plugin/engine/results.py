"""Numbers and how they came about: what a `results.json` holds."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from swav_plugin.checkpoints.atomic import write_atomic

from .walk import walk_config

RESULTS = 'results.json'


class Result(NamedTuple):
    """A number and how it came about.

    Args:
        name: Such as 'avgpool/knn10_top1'.
        value: In percent.
        protocol: A dataclass, whose `str` says it in a sentence. A plain
            sentence will do, but a report can't find its number by fields.
    """

    name: str
    value: float
    protocol: Any

    def to_dict(self) -> dict[str, Any]:
        """Return what `results.json` says of this number.

        >>> Result('mIoU', 40.0, 'after iteration 3 of 3').to_dict()['fields']
        {}
        """
        fields: dict[str, Any] = {}
        if is_dataclass(self.protocol) and not isinstance(self.protocol, type):
            fields = asdict(self.protocol)
        return dict(
            name=self.name,
            value=self.value,
            protocol=str(self.protocol),
            fields=fields,
        )


def write_results(path: str | Path, results: Iterable[Result]) -> None:
    """Write numbers to a file that is there whole, or not at all."""
    rows = [result.to_dict() for result in results]
    # Configs may hold classes in place of their names.
    text = json.dumps(rows, indent=2, default=str)
    write_atomic(path, text)


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """Read numbers as `Result.to_dict` gives them.

    `fields` is missing from files of earlier versions.
    """
    return json.loads(Path(path).read_text(encoding='utf-8'))


def describe_unreadable(num_training: int | None, num_test: int) -> str:
    """Say how many images were left out, if any; None is not known.

    >>> describe_unreadable(2, 1)
    ', unreadable images left out: 2 training and 1 test'
    >>> describe_unreadable(None, 0)
    ''
    """
    parts = [
        f'{number} {kind}'
        for number, kind in ((num_training, 'training'), (num_test, 'test'))
        if number
    ]
    if not parts:
        return ''
    return f', unreadable images left out: {" and ".join(parts)}'


def data_roots(dataset: Any) -> str:
    """Name the folders that a dataset's config reads.

    >>> data_roots(dict(type='ImageFolder', data_root='data/imagenet/train'))
    'data/imagenet/train'
    >>> data_roots(dict(datasets=[dict(data_root='a'), dict(data_root='b')]))
    'a, b'
    """
    found: dict[str, None] = {}  # keeps the order
    for _, node in walk_config(dataset):
        roots = node.get('data_root') if isinstance(node, Mapping) else None
        if roots:
            one_or_more = (
                roots if isinstance(roots, (list, tuple)) else [roots]
            )
            found.update(dict.fromkeys(map(str, one_or_more)))
    return ', '.join(found)
