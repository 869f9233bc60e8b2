"""Sphinx settings of the documentation, the same for both languages.

make docs                     both, in docs/_build/en and docs/_build/zh_CN
sphinx-build -c docs -D language=zh_CN docs/zh_CN OUT      one of them
"""

import os
import re
from gettext import NullTranslations
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.search import languages
from sphinx.search.zh import SearchChinese
from sphinx.writers.html5 import HTML5Translator

import swav_plugin

ROOT = Path(__file__).parents[1]

project = 'swav_plugin'
author = 'swav_plugin contributors'
copyright = f'2026, {author}'
release = version = swav_plugin.__version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
myst_enable_extensions = ['colon_fence', 'dollarmath']
myst_heading_anchors = 4
highlight_language = 'none'  # of code without a language: what is printed
exclude_patterns = ['_build']

# A signature with all its types on one line is hard to read.
maximum_signature_line_length = 68
autodoc_member_order = 'bysource'
autodoc_default_options = {'members': True, 'show-inheritance': False}
python_use_unqualified_type_names = True
napoleon_use_ivar = True
napoleon_custom_sections = ['Source']
napoleon_numpy_docstring = False

html_theme = 'furo'
html_title = f'swav_plugin {release}'
html_static_path = ['_static']
html_css_files = ['custom.css']
templates_path = ['_templates']
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = 'mathml'
html_theme_options = {'navigation_with_keys': True}
html_sidebars = {
    '**': [
        'sidebar/brand.html',
        'sidebar/language.html',
        'sidebar/search.html',
        'sidebar/scroll-start.html',
        'sidebar/navigation.html',
        'sidebar/scroll-end.html',
    ]
}

# Where links to files of the repository lead: on Read the Docs to the commit
# that was built, elsewhere to the checkout.
_CLONE = os.environ.get('READTHEDOCS_GIT_CLONE_URL', '')
_COMMIT = os.environ.get('READTHEDOCS_GIT_COMMIT_HASH', '')
REPOSITORY = (
    f'{_CLONE.removesuffix(".git")}/blob/{_COMMIT}'
    if _CLONE
    else ROOT.as_uri()
)
myst_url_schemes = {
    'http': None,
    'https': None,
    'mailto': None,
    'repository': {'url': REPOSITORY + '/{{path}}'},
}
# Files of the repository that are pages here.
PAGES = {
    'README.md': 'index.md',
    'README.md#model-zoo': 'model_zoo.md',
    'README_zh-CN.md': 'index.md',
    'README_zh-CN.md#模型库': 'model_zoo.md',
    'CONTRIBUTING.md': 'contributing.md',
    'CONTRIBUTING_zh-CN.md': 'contributing.md',
    'CHANGELOG.md': 'changelog.md',
}
html_context = {
    # On Read the Docs each language is a project of its own.
    'languages': (
        {
            'en': f'/en/{os.environ["READTHEDOCS_VERSION"]}',
            'zh_CN': f'/zh-cn/{os.environ["READTHEDOCS_VERSION"]}',
        }
        if _CLONE
        else {'en': '../en', 'zh_CN': '../zh_CN'}
    ),
    'language_names': {'en': 'English', 'zh_CN': '简体中文'},
}


def _follow_links(app: Sphinx, text: str, folder: str) -> str:
    """Let links out of the documentation lead to where the files are.

    Args:
        app: The build.
        text: A page in Markdown.
        folder: Where the links start, below the root of the repository.
    """

    def target(match: re.Match) -> str:
        path, hash_, anchor = match[1].partition('#')
        if '://' in path or not path or path.endswith(('.svg', '.png')):
            return match[0]
        file = (ROOT / folder / path).resolve()
        if file.is_relative_to(app.srcdir) or not file.exists():
            return match[0]  # a page, or a dead link: Sphinx will say so
        name = file.relative_to(ROOT).as_posix()
        page = PAGES.get(name + hash_ + anchor) or PAGES.get(name)
        return f']({page or f"repository:{name}"})'

    return re.sub(r'\]\(([^)\s]+)\)', target, text)


def _join_chinese(text: str) -> str:
    """Join lines that Chinese is broken into: browsers would draw a space."""
    text = re.sub(f'(?<={_CHINESE})\n *(?=\\[?{_CHINESE})', '', text)
    text = re.sub(rf'({_CHINESE}\]\([^)\s]*\))\n *(?={_CHINESE})', r'\1', text)
    # No space after a full-width comma or full stop, which has its own.
    return re.sub(r'(?<=[，。；：、）])\n *(?=[A-Za-z`\[$]|\*\S)', '', text)


def _source_read(app: Sphinx, docname: str, source: list[str]) -> None:
    text = _follow_links(app, source[0], f'docs/{app.config.language}')
    source[0] = _join_chinese(text)


def _include_read(
    app: Sphinx, path: Path, docname: str, content: list[str]
) -> None:
    folder = (app.srcdir / path).resolve().parent
    text = _follow_links(app, content[0], os.path.relpath(folder, ROOT))
    content[0] = _join_chinese(text)


def _process_docstring(
    app: Sphinx,
    what: str,
    name: str,
    thing: object,
    options: object,
    lines: list,
) -> None:
    """Make reStructuredText of what our docstrings leave out."""
    done: list[str] = []
    last = ''  # the line before that is not empty
    for line in lines:
        # Code is indented after an empty line, with nothing in front.
        if (
            done
            and not done[-1]
            and _indent(line) > _indent(last)
            and not last.lstrip().startswith(('..', ':', '*', '-'))
            and not last.endswith('::')
        ):
            done += [' ' * _indent(last) + '.. code-block:: python', '']
        # 'D.' alone would begin a list that counts A, B, C.
        done.append(re.sub(r'(: |^\s*)([A-Z]\.)$', r'\1\\\2', line))
        last = line if line.strip() else last
    lines[:] = done


def _process_property(
    app: Sphinx,
    what: str,
    name: str,
    thing: object,
    options: object,
    lines: list[str],
) -> None:
    """Keep napoleon from taking what is before a colon for a type."""
    if what == 'property':
        lines[0] = lines[0].replace(': ', ' -- ', 1)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _skip_member(
    app: Sphinx,
    what: str,
    name: str,
    member: object,
    skip: bool,
    options: object,
) -> bool | None:
    """Leave out the fields of named tuples, which the docstring has."""
    is_field = type(member).__name__ == '_tuplegetter'
    return True if is_field else None


# Browsers draw MathML by themselves: no script, and no network.
def _math(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    mathml = tex2mathml(node.astext(), as_block=True)
    self.body.append(f'<div class="math">{mathml}</div>\n')
    raise nodes.SkipNode


_CHINESE = '[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef\u201c\u201d]'


class _SearchChinese(SearchChinese):
    """Index all runs of 2 to 4 Chinese characters.

    Sphinx itself splits Chinese only where jieba is installed, and finds
    nothing elsewhere.
    """

    def split(self, input: str) -> list[str]:
        chinese = re.findall('[\u4e00-\u9fff]+', input)
        runs = [
            text[start : start + length]
            for text in chinese
            for length in (2, 3, 4)
            for start in range(len(text) - length + 1)
        ]
        return runs + super().split(re.sub('[\u4e00-\u9fff]+', ' ', input))

    def stem(self, word: str) -> str:
        return super().stem(word) if word.isascii() else word


languages['zh'] = _SearchChinese


class FuroInChinese(NullTranslations):
    """The words of the theme, which Sphinx's catalog does not have."""

    WORDS = {
        'Skip to content': '跳到正文',
        'Back to top': '返回顶部',
        'On this page': '本页内容',
        'Home': '首页',
        'Previous': '上一页',
        'Next': '下一页',
        'Copyright &#169; %(copyright)s': '版权所有 &#169; %(copyright)s',
        'Last updated on %(last_updated)s': '更新于 %(last_updated)s',
        'Made with ': '使用 ',
        '<a href="https://www.sphinx-doc.org/">Sphinx</a> and ': (
            '<a href="https://www.sphinx-doc.org/">Sphinx</a> 与 '
        ),
    }

    def gettext(self, message: str) -> str:
        return self.WORDS.get(message, message)


def _translate_theme(app: Sphinx) -> None:
    if app.config.language == 'zh_CN':
        app.translator.add_fallback(FuroInChinese())


def setup(app: Sphinx) -> None:
    app.connect('builder-inited', _translate_theme)
    app.connect('source-read', _source_read)
    app.connect('include-read', _include_read)
    app.connect('autodoc-process-docstring', _process_property, priority=1)
    app.connect('autodoc-process-docstring', _process_docstring)
    app.connect('autodoc-skip-member', _skip_member)
    app.add_html_math_renderer('mathml', (_math, None), (_math_block, None))
