"""Look at what is installed. Nothing here imports what may be missing."""

import platform
import re
from collections.abc import Iterator
from importlib.metadata import (
    PackageNotFoundError,
    distribution,
    version,
)
from importlib.util import find_spec
from typing import NamedTuple

from swav_plugin.compat.stack import (
    check_distributions,
    downstream_hint,
    is_onedl,
    providers,
)


class Fact(NamedTuple):
    """What was found of one thing.

    Args:
        status: OK, WARN, MISSING or FAILED.
        name: The thing.
        text: What was found.
        remedy: What to do, if anything.
        stops: No training can start.
    """

    status: str
    name: str
    text: str
    remedy: str = ''
    stops: bool = False


# Without these nothing runs: distribution, module.
_NEEDED = {
    'torch': 'torch',
    'torchvision': 'torchvision',
    'numpy': 'numpy',
    'Pillow': 'PIL',
    'filelock': 'filelock',
    'jinja2': 'jinja2',
    'pyyaml': 'yaml',
    'safetensors': 'safetensors',
}

# Without these something does not, and what that is.
_USEFUL = {
    'numba': 'views are the same without it, but take several times as long',
    'scikit-learn': 'only for the digits of the demo',
    'matplotlib': 'only for the pictures of the demo',
}
_DOWNSTREAM = {
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
}


def look_at_packages() -> Iterator[Fact]:
    """Yield a fact for each package, the needed ones first."""
    wanted = _requirements()
    yield _judge('python', platform.python_version(), wanted.get('python', []))
    for name, module in _NEEDED.items():
        found = _version(name)
        if found is None and find_spec(module) is None:
            remedy = f"pip install '{name}{','.join(wanted.get(name, []))}'"
            yield Fact('MISSING', name, 'not installed', remedy, stops=True)
        else:
            yield _judge(name, found, wanted.get(name, []))
    yield from _openmmlab(wanted)
    for name, why in _USEFUL.items():
        found = _version(name)
        if found is None:
            yield Fact('MISSING', name, why, f'pip install {name}')
        else:
            yield _judge(name, found, wanted.get(name, []))


def _openmmlab(wanted: dict[str, list[str]]) -> Iterator[Fact]:
    """Yield facts of the OpenMMLab packages, of either family."""
    try:
        check_distributions()
    except ImportError as error:
        yield Fact('MISSING', 'OpenMMLab', str(error), stops=True)
        return
    for module, names in providers().items():
        found = _version(names[0]) if names else None
        specs = wanted.get(names[0], []) if names else []
        yield _judge(module, found, specs)
    for module, both in _DOWNSTREAM.items():
        found = next(filter(None, map(_version, both)), None)
        if found is None and find_spec(module) is None:
            what = dict(mmdet='detection', mmseg='segmentation')[module]
            text = f'only for the benchmarks of {what}'
            yield Fact('MISSING', module, text, downstream_hint())
        else:
            yield _judge(module, found, [])


def _version(name: str) -> str | None:
    """Return the version of a distribution; None if pip knows none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _requirements() -> dict[str, list[str]]:
    """Return what swav_plugin asks of others: 'torch' -> ['>=2.1'].

    {} for a checkout that is not installed.
    """
    try:
        ours = distribution('swav_plugin')
    except PackageNotFoundError:
        return {}
    family = 'onedl' if is_onedl() else 'official'
    wanted = {'python': (ours.metadata['Requires-Python'] or '').split(',')}
    for line in ours.requires or ():
        extra = re.search(r"extra == ['\"](.*)['\"]", line)
        match = re.match(r'([\w.-]+)\s*\(?([^;)]*)', line)
        if match and (extra is None or extra[1] in (family, 'demo')):
            specs = [spec.strip() for spec in match[2].split(',')]
            wanted.setdefault(match[1], []).extend(filter(None, specs))
    return wanted


def _judge(name: str, found: str | None, specs: list[str]) -> Fact:
    """Compare a version with what is asked for."""
    if found is None:
        return Fact('OK', name, 'version unknown, not installed by pip')
    unfit = [spec for spec in specs if not _fits(found, spec)]
    if not unfit:
        return Fact('OK', name, found)
    text = f'{found}, but {" and ".join(unfit)} is needed'
    if name == 'python':
        return Fact('WARN', name, text, 'make an environment with another')
    remedy = f"pip install '{name}{','.join(specs)}'"
    return Fact('WARN', name, text, remedy)


def _fits(found: str, spec: str) -> bool:
    """Return whether a version is in a range.

    >>> _fits('2.14.1+cpu', '>=2.3'), _fits('0.11.0', '<0.11')
    (True, False)
    """
    match = re.fullmatch(r'(>=|<)([\d.]+)', spec)
    numbers = re.match(r'\d+(\.\d+)*', found)
    if match is None or numbers is None:
        return True
    limit = [int(part) for part in match[2].split('.')]
    given = [int(part) for part in numbers[0].split('.')][: len(limit)]
    return given >= limit if match[1] == '>=' else given < limit
