"""Check that the documentation is complete, and that what it says works.

`test_readme.py` checks links, options, files and Python code of all documents;
here it is commands, keys, messages, tables and the build.
"""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from PIL import Image

from swav_plugin.__main__ import COMMANDS, main
from swav_plugin.engine.config import load_config
from swav_plugin.engine.errors import UsageError
from swav_plugin.registry import MODELS
from tests.conftest import REPO_ROOT
from tests.test_readme import SMALL_CONFIG, blocks, headings, without_code

DOCS = REPO_ROOT / 'docs'
LANGUAGES = ('en', 'zh_CN')
PAGES = sorted(path.stem for path in DOCS.glob('en/*.md'))
RECIPE = str(
    REPO_ROOT
    / 'configs/selfsup/swav'
    / 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py'
)


def included(page: Path) -> Path:
    """Return the document that a page includes, or itself."""
    found = re.search(r'^:::\{include\} (\S+)$', page.read_text(), re.M)
    return (page.parent / found[1]).resolve() if found else page


def levels(page: Path) -> list[int]:
    """Return the levels of the headings of a page, with those it includes."""
    found = [level for level, _ in headings(page)]
    source = included(page)
    if source != page:
        inner = [level for level, _ in headings(source)]
        found += inner[1:] if found else inner
    return found


def test_languages_have_the_same_pages() -> None:
    names = [
        {path.name for path in (DOCS / code).glob('*.*')} for code in LANGUAGES
    ]
    assert names[0] == names[1]
    assert {'index.md', 'api.rst', 'troubleshooting.md'} < names[0]


@pytest.mark.parametrize('page', PAGES)
def test_languages_have_the_same_headings(page: str) -> None:
    english, chinese = (
        levels(DOCS / code / f'{page}.md') for code in LANGUAGES
    )
    assert english == chinese
    assert english[0] == 1 and english.count(1) == 1


def test_api_lists_the_same_in_both_languages() -> None:
    english, chinese = (
        re.findall(
            r'^(?:\.\. |   :|swav_plugin).*$',
            (DOCS / code / 'api.rst').read_text(),
            flags=re.M,
        )
        for code in LANGUAGES
    )
    assert english == chinese
    assert len(english) > 15


def test_tables_of_the_zoo_are_up_to_date(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`python docs/model_zoo.py` was run after the last change."""
    monkeypatch.syspath_prepend(DOCS)
    model_zoo = importlib.import_module('model_zoo')
    for code, language in model_zoo.LANGUAGES.items():
        page = (DOCS / code / 'model_zoo.md').read_text()
        assert model_zoo.fill(page, language) == page
        assert page.count('60.5') == 2  # mmselfsup's kNN and COCO rows
    with pytest.raises(AssertionError, match='recipes.*is there 0 times'):
        model_zoo.fill('# Nothing', model_zoo.LANGUAGES['en'])


def messages(path: Path) -> Iterator[str]:
    """Yield what can be told of each error and warning of a module.

    The first words in a row that do not vary, of each message that has some.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and node.args):
            continue
        name = ast.unparse(node.func).rpartition('.')[2]
        if name.endswith('Error') or name in ('warning', 'warn', 'error'):
            parts = re.split(r'\0|[;:.,|()\'"`]', _text(node.args[0]))
            words = [part.strip() for part in parts]
            yield from [part for part in words if len(part) >= 12][:1]


def _text(node: ast.expr) -> str:
    """Return the text of a string, with a zero for each part that varies."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return ''.join(map(_text, node.values))
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return '\0'


@pytest.mark.parametrize('code', LANGUAGES)
def test_messages_are_explained(code: str) -> None:
    page = (DOCS / code / 'troubleshooting.md').read_text()
    paths = [
        *(REPO_ROOT / 'swav_plugin/engine').rglob('*.py'),
        REPO_ROOT / 'swav_plugin/commands/train.py',
        REPO_ROOT / 'swav_plugin/compat/stack.py',
    ]
    found = [message for path in paths for message in messages(path)]
    assert len(found) > 60 and 'the training set has' in found
    assert not {message for message in found if message not in page}


def command_lines() -> list[tuple[str, str]]:
    """Return all lines that start a command of ours, with their documents."""
    documents = [
        REPO_ROOT / 'README.md',
        *sorted(DOCS.glob('en/*.md')),
    ]
    found = {}
    for document in documents:
        for block in blocks(document, 'shell'):
            text = block.replace('\\\n', ' ')
            for line in text.splitlines():
                line = re.sub(r'\s+#.*', '', line)
                if re.match(r'swav |python tools/', line):
                    found.setdefault(line, str(document.name))
    return sorted((name, line) for line, name in found.items())


# Words in capitals stand for what the reader fills in.
USAGE = {'FORMAT': 'torchvision', 'MODEL': 'model.pth'}


@pytest.mark.parametrize(('document', 'line'), command_lines())
def test_commands_parse(
    document: str, line: str, capsys: pytest.CaptureFixture
) -> None:
    """The line has the arguments that the command takes."""
    words = shlex.split(re.sub(r'\[(--[^\]]*)\]', r'\1', line))
    if '>' in words:  # what it prints goes to a file
        words = words[: words.index('>')]
    words = [USAGE.get(word, word) for word in words]
    if words[0] == 'swav':
        name, arguments = words[1], words[2:]
        if name == '--version':
            return
        assert name in COMMANDS
        module = f'swav_plugin.commands.{name}'
    else:
        tool, arguments = Path(words[1]), words[2:]
        assert (REPO_ROOT / tool).is_file()
        source = (REPO_ROOT / tool).read_text()
        found = re.search(
            r'from (swav_plugin\.commands\.\w+) import main', source
        )
        if found is None:  # a script of its own; test_readme has its options
            return
        module = found[1]
    try:
        importlib.import_module(module).parse_args(arguments)
    except SystemExit as error:
        raise AssertionError(capsys.readouterr().err) from error


def test_all_kinds_of_commands_are_found() -> None:
    """Else the test above would not notice that it found none."""
    text = '\n'.join(line for _, line in command_lines())
    for start in ('swav train', 'swav cluster', 'swav suite', 'swav zoo info'):
        assert start in text
    assert 'python tools/train.py CONFIG --cfg-options' in text


def named_keys() -> list[str]:
    """Return the config keys in code of the documentation."""
    pattern = re.compile(
        r'(?<![\w.])(?:model|optim_wrapper|train_cfg|default_hooks|randomness|'
        r'auto_scale_lr|train_dataloader|visualizer)(?:\.\w+)+'
    )
    found: set[str] = set()
    for name in PAGES:
        text = without_code(DOCS / 'en' / f'{name}.md')
        # The first column of tables is what other projects say.
        if name == 'migrate':
            text = re.sub(r'^\| .*? \|', '|', text, flags=re.M)
        for code in re.findall(r'`([^`]+)`', text):
            if '…' not in code:
                found |= set(pattern.findall(code))
    return sorted(found)


def test_keys_exist() -> None:
    """A recipe has the key, or what is built from it takes it."""
    cfg = load_config(RECIPE)
    keys = named_keys()
    assert len(keys) > 30 and 'model.head.epsilon' in keys
    for key in keys:
        if isinstance(_find(cfg, key), dict):
            continue  # nothing to set
        value = 'bfloat16' if key.endswith('.dtype') else '1'
        load_config(RECIPE, [f'{key}={value}'])
    with pytest.raises(UsageError, match='epsilonn'):
        load_config(RECIPE, ['model.head.epsilonn=1'])


def _find(cfg: Config, key: str) -> object:
    """Return a part of a config, or None."""
    node: object = cfg
    for name in key.split('.'):
        if isinstance(node, list):
            node = node[int(name)]
        elif isinstance(node, (dict, Config)):
            node = node.get(name)
        else:
            return None
    return node


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with photos and the checkpoint of a run."""
    rng = np.random.default_rng(0)
    (tmp_path / 'photos').mkdir()
    for index in range(4):
        pixels = rng.integers(256, size=(40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'photos/{index}.png')
    # torchvision's ResNet-18 as it is, so that it can be converted.
    text = SMALL_CONFIG.replace(', base_channels=8, stem_channels=8', '')
    text = text.replace('in_channels=64', 'in_channels=512')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromstring(text, '.py').model)
    torch.save(model.state_dict(), tmp_path / 'epoch_20.pth')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_of_the_first_page_run(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """Those that take seconds, which are those of the README too."""
    pattern = r'^swav (?:extract|cluster|neighbours|convert|--version).*$'
    lines, readme = (
        re.findall(pattern, '\n'.join(blocks(page, 'shell')), flags=re.M)
        for page in (DOCS / 'en/get_started.md', REPO_ROOT / 'README.md')
    )
    assert len(lines) == 5 and {*readme} < {*lines}
    for line in lines:
        line = line.replace('CHECKPOINT', 'epoch_20.pth')
        line = line.replace('/path/to/images', 'photos')
        # A network that was not trained puts all images into few groups.
        line = line.replace('--groups 10', '--groups 1')
        if 'photos' in line:
            line += ' --workers 0 --size 64'
        monkeypatch.setattr(sys, 'argv', shlex.split(line))
        try:
            main()
        except SystemExit as end:
            assert not end.code, line + capsys.readouterr().err
    assert np.load(folder / 'features.npy').shape == (4, 512)
    assert len((folder / 'features.txt').read_text().splitlines()) == 4
    assert (folder / 'out/clusters/index.html').is_file()
    assert (folder / 'out/neighbours/duplicates.csv').is_file()
    assert 'layer4.1.bn2.weight' in torch.load('weights.pth')


def test_read_the_docs_builds_the_language_of_the_project(
    tmp_path: Path,
) -> None:
    settings = yaml.safe_load((REPO_ROOT / '.readthedocs.yaml').read_text())
    (command,) = settings['build']['jobs']['build']['html']
    python = tmp_path / 'python'
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    for language, folder in (('en', 'en'), ('zh-cn', 'zh_CN')):
        done = subprocess.run(
            ['sh', '-c', command],
            env={
                'PATH': f'{tmp_path}:{os.environ["PATH"]}',
                'READTHEDOCS_LANGUAGE': language,
                'READTHEDOCS_OUTPUT': 'out',
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert f'language={folder} docs/{folder} out/html' in done.stdout


def test_formulas_are_the_same_in_both_languages() -> None:
    """So that it is enough to draw those of one."""
    english, chinese = (
        re.findall(
            r'\$\$.*?\$\$',
            (DOCS / code / 'how_it_works.md').read_text(),
            flags=re.S,
        )
        for code in LANGUAGES
    )
    assert english == chinese and len(english) > 4


def build(code: str, builder: str, out: Path) -> int:
    """Build one language in this process, which has imported torch."""
    for name in ('sphinx', 'myst_parser', 'furo'):
        pytest.importorskip(name)
    from sphinx.cmd.build import build_main

    options = ['-q', '-W', '-b', builder, '-c', str(DOCS)]
    options += ['-D', f'language={code}']
    return build_main([*options, str(DOCS / code), str(out)])


def test_english_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    assert build('en', 'html', tmp_path) == 0
    page = (tmp_path / 'how_it_works.html').read_text()
    assert '<math' in page and not re.search('src="[^"]*mathjax', page, re.I)
    # The other language, and a file of the repository.
    assert 'href="../zh_CN/how_it_works.html"' in page
    assert 'swav_plugin/models/swav_loss.py"' in page
    api = (tmp_path / 'api.html').read_text()
    assert 'id="swav_plugin.models.swav_loss.sinkhorn"' in api


def test_chinese_pages_are_read_without_a_warning(tmp_path: Path) -> None:
    """Writing them would take twice as long, and could go wrong no more."""
    assert build('zh_CN', 'dummy', tmp_path) == 0


def test_chinese_can_be_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('sphinx')
    monkeypatch.syspath_prepend(DOCS)
    from sphinx.search import languages

    importlib.import_module('conf')
    search = languages['zh']({})
    words = search.split('用 SwAV 训练原型')
    assert {'训练', '原型', '练原型', 'SwAV'} <= {*words}
    assert search.stem('原型') == '原型'
    assert search.stem('Prototypes') == search.stem('prototype')
