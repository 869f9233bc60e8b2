"""Tests of what is installed, and of `_base_ = 'swav_plugin::...'`."""

import configparser
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

import swav_plugin
from swav_plugin.shipped import config_names
from tests.conftest import REPO_ROOT
from tests.test_readme import blocks

SHARED_CONFIG = 'selfsup/_base_/default_runtime.py'

# A stranger's script: where is swav_plugin, and does its config resolve?
SCRIPT = """
import swav_plugin
from mmengine.config import Config
with open('mine.py', 'w') as file:
    file.write("_base_ = 'swav_plugin::{name}'")
print(swav_plugin.__file__)
print(Config.fromfile('mine.py').default_scope)
"""


def _run(code: str, cwd: Path, *path: Path) -> list[str]:
    """Run code in a fresh Python that imports from `path` first."""
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, path))}
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _pip(*args: str) -> None:
    """Run pip without a network."""
    subprocess.run(
        [sys.executable, '-m', 'pip', '--disable-pip-version-check', *args],
        check=True,
        capture_output=True,
        env={**os.environ, 'PIP_NO_INDEX': '1', 'PYTHONPATH': ''},
    )


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel made from a copy of the source tree: building leaves files."""
    source = tmp_path_factory.mktemp('source')
    for name in ('swav_plugin', 'configs', 'tools', 'tests'):
        shutil.copytree(
            REPO_ROOT / name,
            source / name,
            symlinks=True,
            ignore=shutil.ignore_patterns('__pycache__'),
        )
    for name in (
        'setup.cfg',
        'pyproject.toml',
        'MANIFEST.in',
        'LICENSE',
        'README.md',
        'model-index.yml',
        'dataset-index.yml',
    ):
        shutil.copy(REPO_ROOT / name, source)
    target = tmp_path_factory.mktemp('wheel')
    _pip(
        'wheel',
        '--no-deps',
        '--no-build-isolation',
        '-w',
        str(target),
        str(source),
    )
    return next(target.glob('swav_plugin-*.whl'))


@pytest.fixture(scope='module')
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel is installed."""
    target = tmp_path_factory.mktemp('site-packages')
    _pip('install', '--no-deps', '--target', str(target), str(wheel))
    return target


def _shipped(folder: str, *suffixes: str) -> set[str]:
    """Files of a folder of the repository that belong into the wheel."""
    return {
        f'swav_plugin/.mim/{path.relative_to(REPO_ROOT).as_posix()}'
        for path in (REPO_ROOT / folder).rglob('*')
        if path.suffix in suffixes
    }


def test_wheel_holds_configs_and_tools_as_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        infos = archive.infolist()
        indices = {
            name: archive.read(f'swav_plugin/.mim/{name}')
            for name in ('model-index.yml', 'dataset-index.yml')
        }
    names = {info.filename for info in infos}
    assert _shipped('configs', '.py', '.yml') < names
    assert _shipped('tools', '.py', '.sh') < names
    assert 'swav_plugin/py.typed' in names
    assert {
        path.relative_to(REPO_ROOT).as_posix()
        for path in (REPO_ROOT / 'swav_plugin/configs').rglob('*.py')
    } < names
    assert 'swav_plugin/suite/report.html.j2' in names
    assert 'swav_plugin/inference/gallery.html.j2' in names
    assert 'swav_plugin/report/report.html.j2' in names
    assert 'swav_plugin/engine/page.css.j2' in names
    assert 'swav_plugin/models/swav.py' in names
    for name, content in indices.items():
        assert content == (REPO_ROOT / name).read_bytes()
    roots = {name.split('/')[0] for name in names}
    version = swav_plugin.__version__
    assert roots == {'swav_plugin', f'swav_plugin-{version}.dist-info'}
    # The high half of the attributes is the file mode: no symbolic links.
    assert not [
        info.filename for info in infos if info.external_attr >> 28 == 0o12
    ]


def test_base_resolves_in_installed_wheel(
    installed: Path, tmp_path: Path
) -> None:
    file, scope = _run(SCRIPT.format(name=SHARED_CONFIG), tmp_path, installed)
    assert Path(file).is_relative_to(installed)
    assert scope == 'swav_plugin'


def test_base_resolves_in_checkout(tmp_path: Path) -> None:
    code = SCRIPT.format(name=SHARED_CONFIG)
    file, scope = _run(code, tmp_path, REPO_ROOT)
    assert Path(file).is_relative_to(REPO_ROOT)
    assert scope == 'swav_plugin'


def test_commands_run_from_an_installed_wheel(
    installed: Path, tmp_path: Path
) -> None:
    code = """
import runpy, sys
for name in ('train', 'test', 'demo', 'suite'):
    sys.argv = [name, '--help']
    try:
        runpy.run_module(f'swav_plugin.commands.{name}', run_name='__main__')
    except SystemExit:
        pass
import swav_plugin
for name in ('train', 'test'):  # as mim starts them
    sys.argv = [name, '--help']
    path = f'{swav_plugin.__path__[0]}/.mim/tools/{name}.py'
    try:
        runpy.run_path(path, run_name='__main__')
    except SystemExit:
        pass
from swav_plugin.commands import demo
print(demo.__file__, *demo.CONFIGS.glob('swav_demo_*.py'), sep='\\n')
"""
    printed = _run(code, tmp_path, installed)
    usages = [line for line in printed if line.startswith('usage: ')]
    names = [usage.split()[1] for usage in usages]
    assert names[:4] == ['train', 'test', 'demo', 'suite']
    assert names[4:] == ['train.py', 'test.py']
    # mim adds its own --gpus where a help names that option.
    assert any(line.startswith('  --gpus N') for line in printed)
    # The configs of the demo are the wheel's.
    assert all(Path(line).is_relative_to(installed) for line in printed[-3:])


def test_messages_name_the_tools_where_they_are(
    installed: Path, tmp_path: Path
) -> None:
    code = 'from swav_plugin.shipped import TOOLS; print(TOOLS)'
    (folder,) = _run(code, tmp_path, installed)
    assert Path(folder).is_relative_to(installed)
    assert (Path(folder) / 'dataset_converters/imagenet.py').is_file()
    assert os.access(Path(folder) / 'dist_train.sh', os.X_OK)
    assert _run(code, tmp_path, REPO_ROOT) == ['tools']


FIRST_PAGE = REPO_ROOT / 'docs/en/get_started.md'
DOCKERFILE = REPO_ROOT / 'docker/Dockerfile'


def test_tools_are_found_as_documented(
    installed: Path, tmp_path: Path
) -> None:
    (block,) = (b for b in blocks(FIRST_PAGE, 'shell') if 'TOOLS=' in b)
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(
        ['bash', '-euc', block.replace('CONFIG', 'swav_demo_digits')],
        cwd=tmp_path,
        env={
            **os.environ,
            'PATH': f'{tmp_path}:{os.environ["PATH"]}',
            'PYTHONPATH': str(installed),
        },
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    assert "type='SwAV'" in done.stdout


def _instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, each with its arguments."""
    text = re.sub(r'^#.*\n', '', DOCKERFILE.read_text(), flags=re.M)
    lines = text.replace('\\\n', ' ').splitlines()
    pairs = [line.partition(' ')[::2] for line in lines if line]
    return [(name, words.strip()) for name, words in pairs]


def _docker_lines(command: str) -> list[list[str]]:
    """Return the words of what the documents tell to start with docker."""
    head = re.sub(r'^#', '', DOCKERFILE.read_text(), flags=re.M)
    texts = [head, *blocks(FIRST_PAGE, 'shell')]
    text = '\n'.join(texts).replace('\\\n', ' ')
    lines = re.findall(rf'^ *docker {command} .*$', text, flags=re.M)
    return [shlex.split(line)[2:] for line in lines]


def test_image_is_made_of_what_there_is(wheel: Path) -> None:
    """No daemon is needed to see that names agree."""
    steps = _instructions()
    setup = configparser.ConfigParser()
    setup.read(REPO_ROOT / 'setup.cfg')
    (copied,) = (words.split() for name, words in steps if name == 'COPY')
    *sources, target = copied
    assert sources[0] == 'constraints.txt'
    assert (REPO_ROOT / sources[0]).is_file()
    assert fnmatch(f'dist/{wheel.name}', sources[1])
    installs = [words for name, words in steps if 'pip install' in words]
    assert f'-c {target}constraints.txt' in installs[0]
    assert f'{target}*.whl' in installs[0]

    args = dict(
        words.partition('=')[::2] for name, words in steps if name == 'ARG'
    )
    extras = {*setup['options.extras_require']}
    given = _docker_lines('build')
    documents = [DOCKERFILE.read_text(), FIRST_PAGE.read_text()]
    options = re.findall(r'--build-arg (\w+)=([^\s`]+)', '\n'.join(documents))
    assert len(given) == 3 and {name for name, _ in options} <= {*args}
    wanted = [args['EXTRAS']]
    wanted += [value for name, value in options if name == 'EXTRAS']
    assert len(wanted) == 2
    assert {extra for each in wanted for extra in each.split(',')} <= extras
    # Only the first is known before FROM, and only the others after it.
    order = [name for name, _ in steps]
    assert order.index('FROM') == 1 and '${PYTHON}' in steps[1][1]
    assert 'PYTHON' not in ''.join(words for _, words in steps[2:])

    (entry,) = (words for name, words in steps if name == 'ENTRYPOINT')
    scripts = setup['options.entry_points']['console_scripts']
    assert f'\n{yaml.safe_load(entry)[0]} =' in scripts
    for name, words in steps:
        if name == 'RUN':
            subprocess.run(['sh', '-n', '-c', words], check=True)


def test_containers_are_given_a_command() -> None:
    """What follows the name of the image is what follows `swav`."""
    lines = _docker_lines('run')
    assert len(lines) == 3
    for words in lines:
        name, *arguments = words[words.index('swav') + 1 :]
        module = importlib.import_module(f'swav_plugin.commands.{name}')
        module.parse_args(arguments)
        # Files belong to who started it, and are in the folder of -w.
        assert '--user' in words and words[words.index('-w') + 1] == '/work'
        assert '$PWD:/work' in words
        assert name != 'train' or '--shm-size' in words


def test_mim_finds_everything_in_a_wheel(installed: Path) -> None:
    """What openmim 0.3.9 looks for, in the folder that pip calls the place.

    It takes a config by its file name, which must be there once, and models
    with paths relative to the index.
    """
    package = installed / 'swav_plugin'
    assert (package / '.mim/tools/train.py').is_file()
    assert (package / '.mim/tools/test.py').is_file()
    names = [path.name for path in package.rglob('*.py')]
    for name in config_names():
        assert names.count(f'{name}.py') == 1
    index = yaml.safe_load((package / '.mim/model-index.yml').read_text())
    for metafile in index['Import']:
        text = (package / '.mim' / metafile).read_text()
        for model in yaml.safe_load(text)['Models']:
            assert (package / '.mim' / model['Config']).is_file()


def test_mim_finds_everything_in_a_checkout() -> None:
    """onedl-mim 0.5.1 takes the folder that pip installed editable."""
    for path in ('tools/train.py', 'tools/test.py', 'model-index.yml'):
        assert (REPO_ROOT / path).is_file()


@pytest.mark.parametrize('command', ['train', 'test', 'demo'])
def test_commands_say_what_is_not_installed(command: str) -> None:
    """Not with a traceback from the middle of an import of mmengine."""
    code = f"""
import importlib.metadata, runpy, sys
known = importlib.metadata.distribution
def distribution(name):
    if 'mmengine' in name:
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)
importlib.metadata.distribution = distribution
sys.modules['mmengine'] = None
try:
    runpy.run_path('tools/{command}.py')
except ImportError as error:
    print(error)
"""
    (line,) = _run(code, REPO_ROOT, REPO_ROOT)
    assert line.startswith('swav_plugin needs mmengine: run `pip install ')


def test_base_comes_from_the_imported_copy(
    installed: Path, tmp_path: Path
) -> None:
    """A checkout wins over an installed wheel, with its configs."""
    checkout = tmp_path / 'checkout'
    shutil.copytree(installed / 'swav_plugin', checkout / 'swav_plugin')
    config = checkout / 'swav_plugin/.mim/configs' / SHARED_CONFIG
    config.write_text("default_scope = 'edited'")
    _, scope = _run(
        SCRIPT.format(name=SHARED_CONFIG), tmp_path, checkout, installed
    )
    assert scope == 'edited'


@pytest.mark.parametrize(
    'config',
    sorted(path.name for path in REPO_ROOT.glob('configs/selfsup/swav/*.py')),
)
def test_every_config_is_inheritable(tmp_path: Path, config: str) -> None:
    mine = tmp_path / 'mine.py'
    mine.write_text(
        f"_base_ = 'swav_plugin::selfsup/swav/{config}'\n"
        'train_dataloader = dict(batch_size=7)\n'
    )
    cfg = Config.fromfile(mine)
    assert cfg.model.type == 'SwAV'
    assert cfg.train_dataloader.batch_size == 7


def test_import_is_light() -> None:
    """`import swav_plugin` brings in what `import mmengine` does, not more."""
    code = """
import sys, mmengine
before = set(sys.modules)
import swav_plugin
print(*sorted(set(sys.modules) - before), sep='\\n')
"""
    new = _run(code, REPO_ROOT, REPO_ROOT)
    # importlib.metadata itself imports parts of the standard library.
    ours = {
        name
        for name in new
        if name.split('.')[0] not in sys.stdlib_module_names
    }
    assert ours == {
        'swav_plugin',
        'swav_plugin.compat',
        'swav_plugin.compat.imports',
        'swav_plugin.compat.moved',
        'swav_plugin.compat.stack',
    }


@pytest.mark.parametrize(
    'command', [['--help'], ['zoo', 'list'], ['zoo', 'info', 'nobody']]
)
def test_what_is_only_looked_up_comes_at_once(command: list[str]) -> None:
    """torch takes seconds to import."""
    code = f"""
import sys
from swav_plugin.__main__ import main
sys.argv = ['swav', *{command}]
try:
    main()
except SystemExit:
    pass
print(*sys.modules, sep='\\n')
"""
    slow = {'torch', 'numpy', 'mmengine', 'mmcv', 'mmpretrain'}
    assert not slow & {*_run(code, REPO_ROOT, REPO_ROOT)}


def test_version_is_a_release_number() -> None:
    assert re.fullmatch(r'\d+\.\d+\.\d+', swav_plugin.__version__)
