"""Check that what README and documentation tell readers to do works.

Code runs, files and links exist, options are real, tables are up to date, and
both languages say the same.
"""

import ast
import configparser
import importlib
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml
from mmengine.config import Config
from PIL import Image

import swav_plugin
from swav_plugin.checkpoints import zoo
from swav_plugin.engine.config import load_config
from swav_plugin.engine.errors import UsageError
from swav_plugin.registry import MODELS
from tests.conftest import REPO_ROOT

README, README_ZH = REPO_ROOT / 'README.md', REPO_ROOT / 'README_zh-CN.md'
TRANSLATED = [
    (README, README_ZH),
    (REPO_ROOT / 'CONTRIBUTING.md', REPO_ROOT / 'CONTRIBUTING_zh-CN.md'),
    *(
        (REPO_ROOT / 'docs/en' / path.name, path)
        for path in sorted(REPO_ROOT.glob('docs/zh_CN/*.md'))
        if ':::{include}' not in path.read_text(encoding='utf-8')
    ),
]
DOCUMENTS = [
    README,
    README_ZH,
    REPO_ROOT / 'CONTRIBUTING.md',
    REPO_ROOT / 'CONTRIBUTING_zh-CN.md',
    *sorted(REPO_ROOT.glob('docs/*/*.md')),
    REPO_ROOT / 'benchmarks/README.md',
    REPO_ROOT / 'configs/selfsup/swav/README.md',
    REPO_ROOT / 'demo/swav_tutorial.ipynb',
]
# Options in the documents that are not ours: those of PASSL, mim, docker, pip
# and Slurm.
FOREIGN_OPTIONS = {
    '--load',
    '--evaluate-only',
    '--output',
    '--config',
    '--checkpoint',
    '--shm-size',
    '--rm',
    '--user',
    '--build-arg',
    '--no-deps',  # pip's
    '--signal',  # Slurm's
    '--time',
}

every_document = pytest.mark.parametrize(
    'document', DOCUMENTS, ids=lambda path: str(path.relative_to(REPO_ROOT))
)
every_translation = pytest.mark.parametrize(
    ('english', 'chinese'), TRANSLATED, ids=lambda path: path.name
)

SMALL_CONFIG = """
model = dict(
    type='SwAV',
    data_preprocessor=dict(
        type='MultiViewPreprocessor', mean=[124, 116, 104], std=[58, 57, 57]
    ),
    backbone=dict(
        type='ResNet', depth=18, base_channels=8, stem_channels=8
    ),
    neck=dict(type='SwAVNeck', in_channels=64, hid_channels=8),
    head=dict(type='SwAVHead', num_prototypes=5),
)
"""


def text_of(document: Path) -> str:
    """The text of a document; of a notebook, without its code."""
    text = document.read_text(encoding='utf-8')
    if document.suffix != '.ipynb':
        return text
    return '\n\n'.join(
        ''.join(cell['source'])
        for cell in json.loads(text)['cells']
        if cell['cell_type'] == 'markdown'
    )


def blocks(document: Path, language: str) -> list[str]:
    """Fenced code of one language."""
    pattern = r'^```(\w*)\n(.*?)^```$'
    found = re.findall(pattern, text_of(document), flags=re.S | re.M)
    return [code for name, code in found if name == language]


def without_code(document: Path) -> str:
    """The text of a document without fenced code."""
    return re.sub(r'^```.*?^```$', '', text_of(document), flags=re.S | re.M)


def headings(document: Path) -> list[tuple[int, str]]:
    """Level and text of each heading."""
    found = re.findall(r'^(#+) (.*)$', without_code(document), flags=re.M)
    return [(len(level), text) for level, text in found]


def commands(document: Path) -> str:
    """All code of a document, with the shell variables that it sets."""
    text = without_code(document)
    inline = [code for code in re.findall(r'`([^`]+)`', text)]
    shell = '\n'.join(blocks(document, 'shell')).replace('\\\n', ' ')
    for name, value in re.findall(r'^(\w+)=(\S+)$', shell, flags=re.M):
        shell = shell.replace(f'${name}/', f'{value}/')
        inline = [code.replace(f'${name}/', f'{value}/') for code in inline]
    shell = re.sub(r'^\w+=\S+$', '', shell, flags=re.M)
    return '\n'.join([shell, *inline])


def python_blocks() -> list:
    return [
        pytest.param(code, id=f'{document.relative_to(REPO_ROOT)}-{index}')
        for document in DOCUMENTS
        for index, code in enumerate(blocks(document, 'python'))
    ]


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work dir with images, a config, its checkpoint, and a model zoo."""
    for folder in ('photos', 'work_dirs/mine'):
        (tmp_path / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(2):
        pixels = rng.integers(256, size=(40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'photos/{index}.png')
    (tmp_path / 'my_config.py').write_text(SMALL_CONFIG)
    model = MODELS.build(Config.fromfile(tmp_path / 'my_config.py').model)
    torch.save(model.state_dict(), tmp_path / 'work_dirs/mine/epoch_200.pth')

    def download(url: str, **kwargs: object) -> Path:
        torch.save(torchvision.models.resnet50().state_dict(), 'zoo.pth')
        return tmp_path / 'zoo.pth'

    monkeypatch.setattr(zoo, 'download', download)
    monkeypatch.setattr(zoo, '_check_holds', lambda *_: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize('code', python_blocks())
def test_python_code_runs(
    code: str, stand_ins: Path, capsys: pytest.CaptureFixture
) -> None:
    code = code.replace('/path/to/images', str(stand_ins / 'photos'))
    code = code.replace('/path/to/swav_plugin', str(REPO_ROOT))
    if '_base_' in code:
        (stand_ins / 'mine.py').write_text(code)
        cfg = load_config(str(stand_ins / 'mine.py'))
        dataset = cfg.train_dataloader.dataset
        assert cfg.model.type == 'SwAV'
        assert dataset.data_root == str(stand_ins / 'photos')
        assert dataset.type == 'ImageFolder'  # merged, not replaced
        return
    names: dict = {}
    exec(compile(code, 'README', 'exec'), names)
    if 'extract_features' in names:
        features, files = names['features'], names['files']
        assert [Path(file).name for file in files] == ['0.png', '1.png']
        assert len(features) == 2 and features.std() > 0
    if 'print' in code:
        assert 'torch.Size([2, 2048]) /' in capsys.readouterr().out


def test_readmes_have_python_code() -> None:
    """Else the test above would not notice that it found none."""
    assert len(blocks(README, 'python')) == 2
    assert 'extract_features(' in blocks(README, 'python')[0]


@pytest.mark.parametrize('readme', [README, README_ZH], ids=lambda p: p.name)
def test_citations_say_the_same(readme: Path) -> None:
    """GitHub shows those of CITATION.cff."""
    ours = yaml.safe_load((REPO_ROOT / 'CITATION.cff').read_text())
    paper = ours['preferred-citation']
    people = [
        f'{each["family-names"]}, {each["given-names"]}'
        for each in paper['authors']
    ]
    (block,) = blocks(readme, 'bibtex')
    entries = [
        dict(re.findall(r'^  (\w+)=\{+(.*?)\}+,?$', entry, flags=re.M))
        for entry in block.split('\n\n')
    ]
    assert entries[0] == dict(
        title=paper['title'],
        author=' and '.join(people),
        booktitle=paper['collection-title'],
        year=str(paper['year']),
    )
    year = entries[1].pop('year')
    assert entries[1] == dict(
        title=ours['title'],
        author=ours['authors'][0]['name'],
        version=ours['version'],
    )
    assert ours['version'] == swav_plugin.__version__ and int(year) > 2025


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    kept = re.sub(r'[^\w\- ]', '', heading.lower())
    return kept.replace(' ', '-')


LINK = re.compile(
    r'\]\(([^)\s]+)\)'  # [text](target), and pictures
    r'|^\[[^\]]+\]: (\S+)$'  # [name]: target
    r'|(?:href|src)="([^"]+)"',
    flags=re.M,
)


@pytest.mark.parametrize(
    'document',
    [*DOCUMENTS, REPO_ROOT / 'CHANGELOG.md'],
    ids=lambda path: str(path.relative_to(REPO_ROOT)),
)
def test_links_lead_somewhere(document: Path) -> None:
    links = [''.join(found) for found in LINK.findall(without_code(document))]
    broken = []
    for link in links:
        if re.match(r'https?://', link):
            continue
        path, _, anchor = link.partition('#')
        target = (document.parent / path) if path else document
        if (
            not target.exists()
            or anchor
            and anchor not in {slug(text) for _, text in headings(target)}
        ):
            broken.append(link)
    assert not broken


def test_all_kinds_of_links_are_found() -> None:
    """Else the test above would not notice that it found none."""
    text = '[a](b#c) ![d](e.svg)\n[f]: g\n<a href="h"><img src="i.png">'
    found = [''.join(each) for each in LINK.findall(text)]
    assert found == ['b#c', 'e.svg', 'g', 'h', 'i.png']
    assert len(LINK.findall(text_of(DOCUMENTS[-1]))) > 5


@every_document
def test_files_in_commands_exist(document: Path) -> None:
    found = re.findall(
        r'(?<![\w./$])(?:tools|configs|benchmarks|tests|swav_plugin)/'
        r'[\w./{},-]*\w(?:\.(?:py|sh|yml|md))?',
        commands(document),
    )
    # Names in capitals are for the reader to fill in.
    paths = [path for path in found if not re.search(r'/[A-Z]+\b', path)]
    missing = [
        path
        for path in paths
        if not (REPO_ROOT / path).exists()
        and path != 'tests/test_architecture.py'
    ]
    assert not missing


def test_readme_names_every_kind_of_command() -> None:
    """Else the test above would not notice that it found none."""
    text = commands(README)
    for command in (
        'tools/train.py',
        'tools/dist_train.sh',
        'tools/slurm_train.sh',
        'tools/benchmarks/run_suite.py',
        'tools/benchmarks/classification/dist_knn.sh',
        'make demo',
        'make test',
    ):
        assert command in text


@every_document
def test_make_targets_exist(document: Path) -> None:
    targets = re.findall(
        r'^(\w+):', (REPO_ROOT / 'Makefile').read_text(), flags=re.M
    )
    assert set(re.findall(r'\bmake (\w+)', commands(document))) <= {*targets}


@every_document
def test_options_exist(document: Path) -> None:
    sources = '\n'.join(
        path.read_text()
        for folder in ('tools', 'swav_plugin', 'benchmarks')
        for path in (REPO_ROOT / folder).rglob('*.py')
    )
    options = set(re.findall(r'(?<!\S)--[a-z][\w-]*', commands(document)))
    known = set(re.findall(r"'(--[a-z][\w-]*)'", sources)) | {'--help'}
    assert options <= known | FOREIGN_OPTIONS


def requirements() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(REPO_ROOT / 'setup.cfg')
    return parser


@every_document
def test_extras_exist(document: Path) -> None:
    extras = requirements()['options.extras_require']
    named = re.findall(
        r"pip install (?:-e )?'(?:\.|WHEEL|swav_plugin)\[([\w,-]+)\]",
        commands(document),
    )
    assert {name for names in named for name in names.split(',')} <= {*extras}
    if document in (README, README_ZH):
        assert len(named) == 4


@pytest.mark.parametrize('readme', [README, README_ZH])
def test_every_dependency_is_explained(readme: Path) -> None:
    parser = requirements()
    lines = parser['options']['install_requires'].splitlines()
    for extra in parser['options.extras_require'].values():
        lines += extra.splitlines()
    packages = {
        re.match(r'[\w-]+', line)[0].removeprefix('onedl-')
        for line in lines
        if line and not line.startswith('#')
    }
    packages = {
        dict(mmdet='mmdetection').get(name, name).replace('mmcv-lite', 'mmcv')
        for name in packages
    }
    text = readme.read_text()
    start = 2 + max(text.find('## Dependencies'), text.find('## 依赖'))
    section = text[start : text.index('\n## ', start)]
    assert {'torch', 'mmcv', 'mmdetection', 'ruff'} < packages
    assert not [name for name in packages if name not in section]


@pytest.mark.parametrize('readme', [README, README_ZH])
def test_zoo_table_lists_all_published_weights(readme: Path) -> None:
    rows = re.findall(
        r'^\| `(swav_\S+)` \| ([\d.]+) \| (\S+) \|$',
        readme.read_text(),
        flags=re.M,
    )
    # Only those of recipes here; 'swav zoo list' has the others.
    models = {
        name: model.entry
        for name, model in zoo.find_models().items()
        if model.entry.get('Config', '').endswith(f'/{name}.py')
        and 'Weights' in model.entry
    }
    assert [name for name, *_ in rows] == [*models]
    for name, top1, source in rows:
        measured = {
            result['Measured By']: result['Metrics']['Top 1 Accuracy']
            for result in models[name]['Results']
        }
        # Those of mmselfsup are listed beside upstream's of the same recipe.
        (value,) = [value for by, value in measured.items() if source in by]
        assert float(top1) == value
        is_theirs = 'openmmlab' in models[name]['Weights']
        assert is_theirs == (source == 'mmselfsup')


@every_translation
def test_languages_have_the_same_sections(
    english: Path, chinese: Path
) -> None:
    levels = [level for level, _ in headings(english)]
    assert levels == [level for level, _ in headings(chinese)]
    assert levels


@every_translation
def test_languages_have_the_same_code(english: Path, chinese: Path) -> None:
    for language in ('shell', 'python', 'bibtex', ''):
        ours, theirs = (
            [
                re.sub(r' *#.*', '', block)
                for block in blocks(document, language)
            ]
            for document in (english, chinese)
        )
        assert ours == theirs
    tables = [
        len(re.findall(r'^\|', document.read_text(), flags=re.M))
        for document in (english, chinese)
    ]
    assert tables[0] == tables[1]


def test_every_translation_has_an_original() -> None:
    assert len(TRANSLATED) > 12
    assert all(english.is_file() for english, _ in TRANSLATED)


def test_speed_tables_are_those_of_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python benchmarks/report.py` was run after the last record."""
    monkeypatch.syspath_prepend(REPO_ROOT / 'benchmarks')
    report = importlib.import_module('report')
    folder = tmp_path / 'benchmarks'
    shutil.copytree(
        REPO_ROOT / 'benchmarks',
        folder,
        ignore=shutil.ignore_patterns('__pycache__'),
    )
    results = [f'docs/{code}/results.md' for code in ('en', 'zh_CN')]
    for name in ('README.md', 'README_zh-CN.md', *results):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO_ROOT / name, tmp_path / name)
    monkeypatch.setattr(report, 'FOLDER', folder)
    monkeypatch.setattr(report, 'ROOT', tmp_path)
    report.main()
    for name in (
        'README.md',
        'README_zh-CN.md',
        'benchmarks/README.md',
        'benchmarks/views.svg',
        *results,
    ):
        assert (tmp_path / name).read_text() == (
            REPO_ROOT / name
        ).read_text(), name

    # Rows that say more than the name of a package are translated.
    *_, names = report.VIEWS_TEXT['zh']
    assert {
        row['name']
        for content in report.newest('views').values()
        for row in content['results']
        if re.search('[ ,]', row['name'])
    } <= {*names}

    # The only table of speed in the README, and without inverse ratios.
    assert re.findall(r'<!-- (\w+) -->', README.read_text()) == ['views']
    assert not re.search(r'\b0\.\d+x', README.read_text())

    other = tmp_path / 'other.md'
    other.write_text('<!-- views -->\nno end\n')
    with pytest.raises(ValueError, match='needs <!-- views -->.*found 0'):
        report.put(other, 'views', 'table')


@pytest.mark.parametrize('name', ['docs/swav.svg', 'benchmarks/views.svg'])
def test_pictures_need_nothing_else(name: str) -> None:
    """GitHub shows no fonts, images or scripts from elsewhere."""
    root = ElementTree.parse(REPO_ROOT / name).getroot()
    text = (REPO_ROOT / name).read_text()
    assert not re.search(r'<script|<image|@import|@font-face|url\((?!#)', text)
    links = [
        value
        for element in root.iter()
        for key, value in element.attrib.items()
        if key.endswith('href')
    ]
    assert all(link.startswith('#') for link in links)


KEY = re.compile(
    r'(?<![\w.])(?:model|optim_wrapper|train_cfg|default_hooks|auto_scale_lr|'
    r'(?:train|val|test)_dataloader|test_cfg|visualizer|env_cfg|randomness)'
    r'(?:\.\w+)+(?==)'
)
CONFIGS = REPO_ROOT / 'configs'


def named_keys() -> list[tuple[str, str]]:
    """Return the keys in docs and heads of configs, with a config for each."""
    recipe = 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py'
    pairs = set()
    for path in CONFIGS.glob('**/*.py'):
        head = ast.get_docstring(ast.parse(path.read_text())) or ''
        pairs |= {(str(path), key) for key in KEY.findall(head)}
    for path in (REPO_ROOT / 'README.md', *REPO_ROOT.glob('docs/*/*.md')):
        for key in KEY.findall(path.read_text(encoding='utf-8')):
            pairs.add((str(CONFIGS / 'selfsup/swav' / recipe), key))
    return sorted(pairs)


@pytest.mark.parametrize('config, key', named_keys())
def test_keys_that_are_named_can_be_given(config: str, key: str) -> None:
    benchmark = 'classification/imagenet/resnet50_mhead_linear-8xb32-'
    others = [
        CONFIGS / f'benchmarks/{benchmark}steplr-90e_in1k.py',
        CONFIGS / 'benchmarks/classification/knn_imagenet.py',
    ]
    if 'configs/benchmarks' in config:
        others = []
    errors = []
    for path in (config, *map(str, others)):
        try:
            load_config(path, [f'{key}=1'])
        except UsageError as error:
            errors.append(str(error))
        else:
            return
    raise AssertionError(errors)


def test_dtype_of_mixed_precision_can_be_given() -> None:
    config, _ = named_keys()[-1]
    cfg = load_config(config, ['optim_wrapper.dtype=bfloat16'])
    assert cfg.optim_wrapper.dtype == 'bfloat16'
