"""The shape of the package: imports go down only, and nothing grows too large.

A room is a folder with all that is in it, or a file at the top. A file imports
from its own room or from lower ones, and no two files import each other. Every
import statement counts, also one inside a function, and every
`import_module('swav_plugin...')`. What a registry imports when a config first
asks for it is named by strings, and does not count.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from .conftest import REPO_ROOT

PACKAGE = REPO_ROOT / 'swav_plugin'
# Lowest first. `__init__` sets up what compat has before anything else runs.
ROOMS = [
    'compat',
    '__init__',
    'shipped',
    'checkpoints',
    'registry',
    'datasets',
    'models',
    'utils',
    'engine',
    'evaluation',
    'suite',
    'inference',
    'report',
    'configs',
    'apis',
    'commands',
    '__main__',
]
# By name, when somebody imports mmengine's loaders: `import swav_plugin` must
# make them safe, and must not import torch.
ARROW_UP = 'swav_plugin.compat.imports imports swav_plugin.checkpoints.loaders'
MAX_FUNCTION_LINES = 59  # without the docstring
MAX_FILE_LINES = 450
MAX_LOSS_LINES = 170

Graph = dict[str, set[str]]


def module_files(package: Path) -> dict[str, Path]:
    """Find the modules of a package: 'swav.engine.lars' -> its file.

    A folder counts as its __init__. Hidden folders link to configs and tools.
    """
    found = {}
    for path in sorted(package.rglob('*.py')):
        parts = path.relative_to(package.parent).with_suffix('').parts
        if not any(part.startswith('.') for part in parts):
            is_folder = parts[-1] == '__init__'
            found['.'.join(parts[:-1] if is_folder else parts)] = path
    return found


def imported_names(path: Path, name: str) -> Iterator[str]:
    """Yield full names of all that a module imports, wherever it does."""
    package = name if path.name == '__init__.py' else name.rpartition('.')[0]
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split('.')
            above = parts[: len(parts) - node.level + 1] if node.level else []
            source = '.'.join([*above, *filter(None, [node.module])])
            yield from (f'{source}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.Call):
            function = getattr(node.func, 'id', getattr(node.func, 'attr', ''))
            named = [getattr(each, 'value', None) for each in node.args[:1]]
            if function == 'import_module' and isinstance(named[0], str):
                yield named[0]


def import_graph(package: Path) -> Graph:
    """Find which modules of a package each of its modules imports."""
    files = module_files(package)
    graph: Graph = {name: set() for name in files}
    for name, path in files.items():
        for imported in imported_names(path, name):
            # `from a.b import c`: c is a module, or a name in one.
            while imported and imported not in files:
                imported = imported.rpartition('.')[0]
            if imported and imported != name:
                graph[name].add(imported)
    return graph


def room_of(module: str) -> str:
    """Return the room of a module.

    >>> room_of('swav_plugin.engine.hooks.swav'), room_of('swav_plugin')
    ('engine', '__init__')
    """
    return [*module.split('.'), '__init__'][1]


def arrows_up(graph: Graph) -> list[str]:
    """Name the imports from a higher room, and the files without a room."""
    unknown = {room_of(name): name for name in graph}
    return [
        f'{name} is in no room of {ROOMS}'
        for room, name in unknown.items()
        if room not in ROOMS
    ] + [
        f'{name} imports {imported}'
        for name, names in graph.items()
        for imported in sorted(names)
        if {room_of(name), room_of(imported)} <= {*ROOMS}
        and ROOMS.index(room_of(name)) < ROOMS.index(room_of(imported))
    ]


def cycles(graph: Mapping[str, set[str]]) -> list[str]:
    """Name one way around for each group of nodes that import each other."""
    reached = {name: _reach(graph, name) for name in graph}
    found = {}
    for name in sorted(graph):
        group = frozenset(n for n in reached[name] if name in reached[n])
        if group and group not in found:
            found[group] = ' -> '.join(_way_around(graph, name))
    return list(found.values())


def _reach(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """Return all nodes that can be reached from one, in one step or more."""
    found: set[str] = set()
    ahead = [start]
    while ahead:
        new = graph.get(ahead.pop(), set()) - found
        found |= new
        ahead += new
    return found


def _way_around(graph: Mapping[str, set[str]], start: str) -> list[str]:
    """Return a shortest path from a node back to itself."""
    paths = [[start]]
    seen: set[str] = set()
    for path in paths:
        for name in sorted(graph.get(path[-1], ())):
            if name == start:
                return [*path, name]
            if name not in seen:
                seen.add(name)
                paths.append([*path, name])
    raise AssertionError(f'{start} is not on a cycle')


def long_functions(path: Path, limit: int) -> list[str]:
    """Name the functions with more lines, not counting the docstring."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            count = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                text = node.body[0]
                assert text.end_lineno is not None
                count -= text.end_lineno - text.lineno + 1
            if count > limit:
                found.append(f'{path.name}: {node.name} has {count} lines')
    return found


def long_files(package: Path, limit: int) -> list[str]:
    """Name the files with more lines than that, whatever they are."""
    found = []
    for path in sorted(package.rglob('*.*')):
        name = str(path.relative_to(package))
        is_ours = not name.startswith('.') and '__pycache__' not in name
        if path.is_file() and is_ours:
            count = len(path.read_bytes().splitlines())
            if count > limit:
                found.append(f'{name} has {count} lines')
    return found


def test_imports_go_down_only() -> None:
    found = arrows_up(import_graph(PACKAGE))
    assert found == [ARROW_UP], '\n'.join(found)


def test_no_files_import_each_other() -> None:
    found = cycles(import_graph(PACKAGE))
    assert not found, '\n'.join(found)


def test_functions_are_short() -> None:
    found = [
        line
        for path in module_files(PACKAGE).values()
        for line in long_functions(path, MAX_FUNCTION_LINES)
    ]
    assert not found, '\n'.join(found)


def test_files_are_short() -> None:
    found = long_files(PACKAGE, MAX_FILE_LINES)
    found += [
        line
        for line in long_files(PACKAGE / 'models', MAX_LOSS_LINES)
        if line.startswith('swav_loss.py')
    ]
    assert not found, '\n'.join(found)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in good order, to be spoiled."""
    root = tmp_path / 'pkg'
    for name, text in {
        '__init__.py': 'import pkg.compat.stack\n',
        'registry.py': 'from pkg import checkpoints\n',
        'compat/__init__.py': '',
        'compat/stack.py': 'import os\n',
        'checkpoints/__init__.py': 'from .zoo import find\n',
        'checkpoints/zoo.py': 'from ..compat import stack\n',
        'engine/__init__.py': 'from .hooks import Hook\n',
        'engine/lars.py': 'import pkg\n',
        'engine/hooks/__init__.py': 'from .swav import Hook\n',
        'engine/hooks/swav.py': 'from ..lars import LARS\n',
        '.mim/tools/train.py': 'def broken(\n',
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_good_order_is_seen(package: Path) -> None:
    graph = import_graph(package)
    assert graph == {
        'pkg': {'pkg.compat.stack'},
        'pkg.registry': {'pkg.checkpoints'},
        'pkg.compat': set(),
        'pkg.compat.stack': set(),
        'pkg.checkpoints': {'pkg.checkpoints.zoo'},
        'pkg.checkpoints.zoo': {'pkg.compat.stack'},
        'pkg.engine': {'pkg.engine.hooks'},
        'pkg.engine.lars': {'pkg'},
        'pkg.engine.hooks': {'pkg.engine.hooks.swav'},
        'pkg.engine.hooks.swav': {'pkg.engine.lars'},
    }
    assert arrows_up(graph) == []
    assert cycles(graph) == []


@pytest.mark.parametrize(
    'text',
    [
        'from pkg.engine import lars',
        'from pkg.engine.lars import LARS',
        'from ..engine.lars import LARS',
        'def find():\n    import pkg.engine.lars',
        'class Zoo:\n    def find(self):\n        from .. import engine',
    ],
)
def test_an_arrow_up_is_named(package: Path, text: str) -> None:
    (package / 'checkpoints/zoo.py').write_text(text)
    (arrow,) = arrows_up(import_graph(package))
    assert arrow.startswith('pkg.checkpoints.zoo imports pkg.engine')


def test_a_new_room_is_named(package: Path) -> None:
    (package / 'util.py').write_text('')
    (unknown,) = arrows_up(import_graph(package))
    assert unknown.startswith('pkg.util is in no room')


def test_cycles_are_named(package: Path) -> None:
    (package / 'engine/cpu.py').write_text('from .hooks.swav import Hook')
    (package / 'engine/lars.py').write_text('def f():\n    from . import cpu')
    assert cycles(import_graph(package)) == [
        'pkg.engine.cpu -> pkg.engine.hooks.swav -> pkg.engine.lars '
        '-> pkg.engine.cpu'
    ]
    # A name that is not a module comes from the __init__, which imports all.
    (package / 'engine/lars.py').write_text('from . import Hook')
    assert cycles(import_graph(package)) == [
        'pkg.engine -> pkg.engine.hooks -> pkg.engine.hooks.swav '
        '-> pkg.engine.lars -> pkg.engine'
    ]


def test_long_files_are_named(package: Path) -> None:
    (package / 'suite').mkdir()
    (package / 'suite/report.html').write_text('<p>\n' * 4)
    assert long_files(package, 3) == ['suite/report.html has 4 lines']
    assert long_files(package, 4) == []


def test_long_functions_are_named(tmp_path: Path) -> None:
    path = tmp_path / 'a.py'
    path.write_text(
        'class A:\n'
        '    def short(self):\n'
        '        """Say something.\n\n        At length.\n        """\n'
        '        a = 1\n'
        '        return a\n'
        '    async def long(self):\n'
        '        def inner():\n'
        '            return 1\n'
        '        return inner\n'
    )
    assert long_functions(path, 3) == ['a.py: long has 4 lines']
