"""Check that the documentation is complete, and that what it says works.

`test_readme.py` checks links, options, files and Python code of all documents;
here it is commands, keys, messages, tables and the build.
"""

import ast
import functools
import importlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from jinja2 import Environment
from mmengine.config import Config
from mmengine.visualization import Visualizer
from PIL import Image

from swav_plugin.__main__ import COMMANDS, main
from swav_plugin.datasets import ImageFolder
from swav_plugin.datasets.transforms import LoadImage, MultiCrop
from swav_plugin.engine import (
    LARS,
    CheckpointHook,
    HealthHook,
    SkippedImagesHook,
    SwAVHook,
)
from swav_plugin.engine.config import load_config
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.verdict import RULES, judge
from swav_plugin.models import SwAV, SwAVHead, SwAVNeck
from swav_plugin.models.data_preprocessor import MultiViewPreprocessor
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
        lines = re.findall(r'^\(1\) .*', page, re.M)
        notes = [note for line in lines for note in line.split(' · ')]
        assert len(notes) > 8
        if code == 'zh_CN':
            assert all(re.search('[\u4e00-\u9fff]', note) for note in notes)
    with pytest.raises(AssertionError, match='recipes.*is there 0 times'):
        model_zoo.fill('# Nothing', model_zoo.LANGUAGES['en'])


def test_numbers_of_the_demo_are_the_same_everywhere() -> None:
    """They are those that get_started.md shows it printing."""
    first = DOCS / 'en/get_started.md'
    (output,) = (b for b in blocks(first, '') if b.startswith('SwAV on'))
    printed = {*re.findall(r'\d\d\.\d', output)}
    assert len(printed) == 4
    (after,) = re.findall(r'That took .*?`demo', first.read_text(), re.S)
    (took,) = re.findall(r'took (\d+ min \d+ s)', first.read_text())
    pages = [
        REPO_ROOT / 'README.md',
        REPO_ROOT / 'README_zh-CN.md',
        *(DOCS / c / f'{n}.md' for c in LANGUAGES for n in WITH_DEMO),
    ]
    for page in pages:
        text = without_code(page)
        paragraphs = re.split(r'\n\n|\n(?=\|)', text)
        (told,) = (
            each for each in paragraphs if re.search('3 labels|3 个标签', each)
        )
        numbers = {*re.findall(r'\d\d\.\d', told)}
        # Elsewhere a processor with AVX-512 is named, too.
        more = {*re.findall(r'\d\d\.\d', after)}
        assert {'47.0', '87.8'} <= numbers <= printed | more, page
        times = re.findall(r'(\d+) (?:min|分) (\d+) (?:s|秒)', told)
        assert {f'{m} min {s} s' for m, s in times} <= {took}, page


WITH_DEMO = ('results', 'model_zoo')


@pytest.mark.parametrize('code', LANGUAGES)
def test_numbers_of_imagenette_are_those_of_the_record(code: str) -> None:
    page = DOCS / code / 'results.md'
    (link,) = re.findall(r'\((\S+/gpu_\S+\.json)\)', page.read_text())
    record = json.loads((page.parent / link).read_text())['imagenette']
    losses = {row['epoch']: row['loss'] for row in record['loss']}
    assert re.findall(r'^\| (\d+) \|(.*)\|$', page.read_text(), re.M) == [
        (
            f'{row["epoch"]}',
            f' {row["knn20"]} | {row["knn200"]} | {losses[row["epoch"]]:.3f} ',
        )
        for row in record['curve']
    ]
    last = f'{record["curve"][-1]["knn20"]}'
    readme = 'README.md' if code == 'en' else 'README_zh-CN.md'
    for name in (DOCS / code / 'model_zoo.md', REPO_ROOT / readme):
        assert re.search(rf'\b{last}\b', name.read_text())


class Function(NamedTuple):
    """What a function of a module says, and what that is made of."""

    calls: list[ast.Call]
    parts: dict[str, list[ast.expr]]  # of each variable
    returns: list[ast.expr]


SAY = ('warning', 'warn', 'error', '_end')


@functools.cache
def messages(path: Path) -> set[str]:
    """Return what can be told of each error and warning of a module.

    The first words in a row that do not vary, of each message that has some.
    """
    functions = {
        node.name: _read_function(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    found = set()
    for function in functions.values():
        for call in function.calls:
            name = _name(call.func)
            if call.args and (name.endswith('Error') or name in SAY):
                for text in _texts(call.args[0], function, functions, set()):
                    parts = re.split(r'\0|[;:.,|()\'"`]', text)
                    words = [part.strip() for part in parts]
                    told = (w for w in words if len(w) >= 12 and ' ' in w)
                    found |= {*[*told][:1]}
    return found


def _read_function(function: ast.FunctionDef) -> Function:
    read = Function([], {}, [])
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            read.calls.append(node)
        elif isinstance(node, (ast.Assign, ast.AugAssign)):
            target = getattr(node, 'target', None) or node.targets[0]
            read.parts.setdefault(_name(target), []).append(node.value)
        elif isinstance(node, ast.Return) and node.value:
            read.returns.append(node.value)
    return read


def _texts(
    node: ast.expr,
    function: Function,
    functions: dict[str, Function],
    seen: set[str],
) -> Iterator[str]:
    """Yield a string, and those of which variables and functions make it."""
    yield _text(node)
    for part in ast.walk(node):
        name = _name(part.func if isinstance(part, ast.Call) else part)
        if not name or name in seen:
            continue
        if name in functions:
            inside, values = functions[name], functions[name].returns
        else:
            inside, values = function, function.parts.get(name, [])
        for value in values:
            yield from _texts(value, inside, functions, seen | {name})


def _name(node: ast.AST) -> str:
    """Return the name of a variable, or the last one of 'a.b.c'; else ''."""
    return getattr(node, 'attr', None) or getattr(node, 'id', '')


def _text(node: ast.expr) -> str:
    """Return the text of a string, with a zero for each part that varies."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return ''.join(map(_text, node.values))
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return '\0'


# Who trains, or works with what was trained, may see all messages of these.
# Others, of benchmarks and conversions, say what to do themselves.
EXPLAINED = (
    'engine/**/*.py',
    'compat/stack.py',
    'commands/demo.py',
    'commands/extraction.py',
    'commands/plan.py',
    'commands/pretrained.py',
    'commands/test.py',
    'commands/train.py',
    'datasets/collate.py',
    'datasets/image_folder.py',
    'datasets/list_file.py',
    'datasets/survey.py',
    'datasets/unreadable.py',
    'checkpoints/training_state.py',
    'checkpoints/newest.py',
    'checkpoints/download.py',
    'checkpoints/zoo.py',
    'models/data_preprocessor.py',
    'models/feature_queue.py',
    'models/swav*.py',
    'inference/*.py',
)


@pytest.mark.parametrize('code', LANGUAGES)
def test_messages_are_explained(code: str) -> None:
    page = (DOCS / code / 'troubleshooting.md').read_text()
    found = {
        message
        for pattern in EXPLAINED
        for path in (REPO_ROOT / 'swav_plugin').glob(pattern)
        for message in messages(path)
    }
    assert len(found) > 150
    assert {'the training set has', 'out of memory on'} < found
    assert not {message for message in found if message not in page}


@pytest.mark.parametrize('code', LANGUAGES)
def test_tools_are_explained(code: str) -> None:
    page = (DOCS / code / 'recipes.md').read_text()
    tools = sorted((REPO_ROOT / 'tools/analysis_tools').glob('*.py'))
    assert len(tools) > 6
    for tool in tools:
        assert f'\n| `{tool.name}` |' in page
        assert f'\npython tools/analysis_tools/{tool.name} ' in page


@pytest.mark.parametrize('code', LANGUAGES)
def test_a_message_has_one_row(code: str) -> None:
    page = (DOCS / code / 'troubleshooting.md').read_text()
    rows = re.findall(r'^\| (`.*?) \|', page, re.M)
    told = [each for row in rows for each in re.findall('`([^`]+)`', row)]
    assert len(told) > 200
    assert sorted(told) == sorted({*told})


@pytest.mark.parametrize('code', LANGUAGES)
def test_verdicts_are_explained(code: str) -> None:
    page = (DOCS / code / 'troubleshooting.md').read_text()
    starts = []
    for rule in RULES:
        start = f'\n| `{rule.state}, {rule.what}` |'
        assert page.count(start) == 1, start
        starts.append(page.index(start))
        row = page[starts[-1] :].split('\n')[1]
        for key in re.findall(r'\w+(?:\.\w+)+|sync_bn', rule.remedy):
            key = key.replace('train_dataloader.dataset.pipeline', '')
            assert key in row, f'{rule.what}: {key}'
    assert starts == sorted(starts)  # the first that holds speaks
    # What an OK may say besides.
    numbers = 'loss_share effective_prototypes agreement rank_me dead_share'
    facts = dict.fromkeys(numbers.split(), 0.9)
    verdict = judge(
        facts | dict(iteration=1, stopping_score=1, dead_prototypes=9)
    )
    assert verdict.state == 'OK'
    told = 'prototypes are nearest to no image, so fewer would do'
    assert told in verdict.text and told in page
    at_chance = judge(
        facts | dict(iteration=1, stopping_score=1, loss_share=1)
    )
    told = 'the loss is still at ln K, which is chance: if it stays there'
    assert told in at_chance.text and told in page


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
    assert 'swav train CONFIG --cfg-options' in text
    assert 'python tools/analysis_tools/' in text


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
    # A dict is nothing to set; without its type, nothing would check the rest.
    given = [key for key in keys if not isinstance(_find(cfg, key), dict)]
    types = [key for key in given if key.endswith('.type')]
    assert len(given) > len(types) > 1
    values = {
        key: 'bfloat16' if key.endswith('.dtype') else 1 for key in given
    }
    for names in ([key for key in given if key not in types], types):
        load_config(RECIPE, [f'{name}={values[name]}' for name in names])
    with pytest.raises(UsageError, match='epsilonn'):
        load_config(RECIPE, ['model.head.epsilonn=1'])


CLASSES = {
    cls: {*inspect.signature(cls).parameters} - {'args', 'kwargs'}
    for cls in (
        CheckpointHook,
        HealthHook,
        ImageFolder,
        LARS,
        LoadImage,
        MultiCrop,
        MultiViewPreprocessor,
        SkippedImagesHook,
        SwAV,
        SwAVHead,
        SwAVHook,
        SwAVNeck,
    )
}
# Nobody sets these in a recipe: mmengine's, or derived.
NOT_SET = {'params', 'init_cfg', 'feat_dim', 'non_blocking', 'serialize_data'}
NOT_SET |= {'lazy_init', 'test_mode'}


@pytest.mark.parametrize('code', LANGUAGES)
@pytest.mark.parametrize('cls', CLASSES, ids=lambda cls: cls.__name__)
def test_all_keys_of_recipes_are_explained(cls: type, code: str) -> None:
    text = ''.join(
        without_code(DOCS / code / f'{name}.md')
        for name in ('recipes', 'pretrain')
    )
    named = {
        word
        for found in re.findall('`([^`]+)`', text)
        for word in re.findall(r'\w+', found)
    }
    assert not CLASSES[cls] - NOT_SET - named


def test_values_of_recipes_are_those_of_the_config() -> None:
    """Of keys in tables whose second column is a value."""
    cfg = load_config(RECIPE)
    multi_crop = cfg.train_dataloader.dataset.pipeline[1]
    defaults = {
        name: parameter.default
        for cls in CLASSES
        for name, parameter in inspect.signature(cls).parameters.items()
    }
    rows = re.findall(
        r'^\| (`[^|]*`) \| ([^|]+) \|',
        without_code(DOCS / 'en/recipes.md'),
        flags=re.M,
    )
    checked = 0
    for keys, values in rows:
        names = re.findall('`([^`]+)`', keys)
        try:
            told = ast.literal_eval(f'[{values.replace("`", "")}]')
        except (ValueError, SyntaxError):
            continue  # words
        above = names[0].rpartition('.')[0]
        for name, value in zip(names, told, strict=True):
            key = name if '.' in name else f'{above}.{name}'.strip('.')
            found = _find(cfg, key)
            last = key.rpartition('.')[2]
            if found is None:
                found = multi_crop.get(last, defaults.get(last))
            assert found == value, key
            checked += 1
    assert checked > 20


def _read_tensorboard_config(code: str, folder: Path) -> Config:
    """Read the config of a page that adds TensorBoard."""
    page = DOCS / code / 'pretrain.md'
    path = folder / 'my_config.py'
    (text,) = (b for b in blocks(page, 'python') if 'Tensorboard' in b)
    path.write_text(text)
    return load_config(str(path))


@pytest.mark.parametrize('code', LANGUAGES)
def test_tensorboard_is_beside_the_local_log(
    code: str, tmp_path: Path
) -> None:
    """The report reads what the local backend writes."""
    cfg = _read_tensorboard_config(code, tmp_path)
    assert cfg.visualizer.type == 'Visualizer'
    assert cfg.visualizer.vis_backends == [
        dict(type='LocalVisBackend'),
        dict(type='TensorboardVisBackend'),
    ]


def test_both_backends_write(tmp_path: Path) -> None:
    pytest.importorskip('tensorboard')
    cfg = _read_tensorboard_config('en', tmp_path)
    visualizer = Visualizer(
        name=str(tmp_path),
        vis_backends=cfg.visualizer.vis_backends,
        save_dir=str(tmp_path),
    )
    visualizer.add_scalars({'loss': 1.0, 'health/rank_me': 5.0}, step=3)
    visualizer.close()
    (scalars,) = tmp_path.glob('**/scalars.json')
    assert json.loads(scalars.read_text())['health/rank_me'] == 5
    (events,) = tmp_path.glob('**/events.out.tfevents.*')
    assert b'health/rank_me' in events.read_bytes()


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


@pytest.mark.parametrize('options', ['', 'DATA=FOLDER', 'DATASET=imagenette'])
def test_make_demo_starts_the_demo(options: str) -> None:
    """Up to the command line: the demo itself takes minutes."""
    assert f'make demo {options}'.strip() in '\n'.join(
        blocks(REPO_ROOT / 'README.md', 'shell')
    ).replace('/path/to/images', 'FOLDER')
    options = options.replace('FOLDER', '/my photos')
    # The tests may have been started by make, which tells another make so.
    env = {k: v for k, v in os.environ.items() if not k.startswith('MAKE')}
    env.pop('MFLAGS', None)
    done = subprocess.run(
        ['make', '-n', 'demo', 'VENV=venv', *options.splitlines()],
        cwd=REPO_ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    words = shlex.split(done.stdout.splitlines()[-1])
    assert words[:2] == ['venv/bin/python', 'tools/demo.py']
    args = importlib.import_module('swav_plugin.commands.demo').parse_args(
        words[2:]
    )
    assert f'{args.data}' == ('/my photos' if 'DATA=' in options else 'None')
    assert (args.dataset == 'imagenette') == ('DATASET' in options)


def test_completion_is_written_on_a_bare_machine(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """One that has none of the folders that the scripts go to."""
    monkeypatch.setenv('HOME', str(tmp_path))
    (block,) = (
        block
        for block in blocks(DOCS / 'en/get_started.md', 'shell')
        if 'swav completion' in block
    )
    written = []
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        if words[0] == 'swav':
            monkeypatch.setattr(sys, 'argv', words[: words.index('>')])
            main()
            written.append(Path(words[-1]).expanduser())
            written[-1].write_text(capsys.readouterr().out)
        else:
            subprocess.run(['sh', '-c', line], check=True)
    assert len(written) == 3
    for path in written:
        assert path.is_relative_to(tmp_path) and 'plan' in path.read_text()


def test_plan_and_report_of_the_readme_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'photos').mkdir()
    for index in range(150):
        Image.new('RGB', (60, 40)).save(tmp_path / f'photos/{index}.png')
    start = tmp_path / 'work_dirs/mine/20260101_000000/vis_data'
    start.mkdir(parents=True)
    (start / 'scalars.json').write_text(
        '{"loss": 3.0, "ln_K": 3.4, "epoch": 1, "iter": 10, "step": 10}\n'
    )
    pattern = r'^swav (?:plan|report) .*$'
    shell = '\n'.join(blocks(REPO_ROOT / 'README.md', 'shell'))
    lines = re.findall(pattern, shell, flags=re.M)
    assert len(lines) == 2
    for line in lines:
        line = line.replace('/path/to/images', 'photos')
        words = shlex.split(line, comments=True)
        monkeypatch.setattr(sys, 'argv', words)
        main()
    assert 'SwAV on 150 images' in capsys.readouterr().out
    assert (tmp_path / 'work_dirs/mine/report.html').is_file()


# The tests that call what the first pages tell to run. pip would download for
# minutes: only its extras are checked here, and the wheel in test_packaging.
CALLED_BY = {
    'mkdir -p': 'test_docs.py: test_completion_is_written_on_a_bare_machine',
    'pip install': 'test_readme.py: test_extras_exist',
    'pip wheel': 'test_packaging.py: wheel',
    'docker build': 'test_packaging.py: test_image_is_made_of_what_there_is',
    'docker run': 'test_packaging.py: test_containers_are_given_a_command',
    'TOOLS=': 'test_packaging.py: test_tools_are_found_as_documented',
    'python $TOOLS/': 'test_packaging.py: test_tools_are_found_as_documented',
    'make demo': 'test_docs.py: test_make_demo_starts_the_demo',
    'python tools/train.py': 'test_commands/test_train.py: train_here',
    'tools/dist_train.sh': (
        'test_commands/test_train.py: '
        'test_two_processes_give_the_losses_of_one'
    ),
    'NNODES=2 ': 'test_tools/test_benchmarks_scripts.py: test_dist',
    'GPUS=64 tools/slurm_train.sh': (
        'test_commands/test_train.py: test_slurm_train'
    ),
    'python tools/benchmarks/run_suite.py': (
        'test_suite/conftest.py: run_suite'
    ),
}


def test_each_command_of_the_first_pages_is_called_by_a_test() -> None:
    """With whatever options: that those exist, test_commands_parse checks."""
    tests = {
        str(path.relative_to(REPO_ROOT / 'tests')): path.read_text()
        for path in (REPO_ROOT / 'tests').rglob('*.py')
    }
    everything = '\n'.join(tests.values())
    for page in (DOCS / 'en/get_started.md', REPO_ROOT / 'README.md'):
        text = ''.join(blocks(page, 'shell')).replace('\\\n', ' ')
        for line in text.splitlines():
            if line.startswith('swav --version'):
                continue  # test_commands_of_the_first_page_run
            if line.startswith('swav '):
                name = line.split()[1]
                assert re.search(
                    rf"commands import (?:\w+, )*{name}\b|run\('{name}'|"
                    rf"argv = \['swav', '{name}'",
                    everything,
                ), line
                continue
            (by,) = (
                test
                for start, test in CALLED_BY.items()
                if line.startswith(start)
            )
            file, _, name = by.partition(': ')
            assert f'def {name}(' in tests[file], line


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


def test_theme_speaks_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    sphinx, furo = map(pytest.importorskip, ('sphinx.locale', 'furo'))
    monkeypatch.syspath_prepend(DOCS)
    conf = importlib.import_module('conf')
    translator, _ = sphinx.init([Path(sphinx.__file__).parent], 'zh_CN')
    translator.add_fallback(conf.FuroInChinese())
    page = Path(furo.__file__).parent / 'theme/furo/page.html'
    words = {
        word
        for _, _, word in Environment(
            extensions=['jinja2.ext.i18n']
        ).extract_translations(page.read_text(encoding='utf-8'))
    }
    assert {'On this page', 'Back to top'} < words
    for word in words:
        # But its name, and what only a page that we do not have would say.
        if 'furo' not in word and '%(path)s' not in word:
            assert translator.gettext(word) != word


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
