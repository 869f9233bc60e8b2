"""Walk over the dicts and lists of a config."""

from collections.abc import Iterator, Mapping
from typing import Any


def walk_config(
    node: Any, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield a node of a config and all below it, outer ones first.

    Args:
        node: A dict, a list, or a value in one of them.
        above: The keys that lead to it.

    Yields:
        The keys that lead to a node, and the node. In a list the keys are
        '0', '1' and so on.

    >>> for keys, node in walk_config(dict(a=[1, dict(b=2)])):
    ...     print('.'.join(keys), node)
     {'a': [1, {'b': 2}]}
    a [1, {'b': 2}]
    a.0 1
    a.1 {'b': 2}
    a.1.b 2
    """
    yield above, node
    if isinstance(node, Mapping):
        children = [*node.items()]
    elif isinstance(node, (list, tuple)):
        children = [*enumerate(node)]
    else:
        return
    for key, child in children:
        yield from walk_config(child, (*above, str(key)))


def dicts_of(node: Any) -> list[Any]:
    """Return all dicts of a config, outer ones first, each once."""
    dicts = [
        child for _, child in walk_config(node) if isinstance(child, dict)
    ]
    return [*{id(each): each for each in dicts}.values()]
