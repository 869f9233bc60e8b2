"""Write the tables of model_zoo.md, in both languages.

    python docs/model_zoo.py

They come from configs/selfsup/swav/metafile*.yml and from the suite's records
of what was published. A test fails when they are out of date.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from swav_plugin.checkpoints.zoo import ZooModel, find_models
from swav_plugin.suite.benchmarks import BENCHMARKS, Table

FOLDER = Path(__file__).parent

LICENSES = {'CC BY-NC 4.0': 'CC BY-NC'}
SOURCES = {'facebookresearch/swav': 'upstream'}


class Language(NamedTuple):
    """What the tables say in one language.

    Args:
        heads: Heads of the columns of weights.
        benchmark_heads: Head of the first column of benchmarks, and what is
            in front of the configs below a table.
        words: Other words, from English; what is missing stays English.
    """

    heads: tuple[str, ...]
    benchmark_heads: tuple[str, str]
    words: dict[str, str]


LANGUAGES = {
    'en': Language(
        heads=(
            'name',
            'network',
            'epochs',
            'batch',
            'top-1',
            'by',
            'license',
            'files',
        ),
        benchmark_heads=('weights', 'Config: '),
        words={},
    ),
    'zh_CN': Language(
        heads=(
            '名称',
            '网络',
            '轮数',
            '批量',
            'top-1',
            '来源',
            '许可证',
            '文件',
        ),
        benchmark_heads=('权重', '配置：'),
        words={
            'config': '配置',
            'weights': '权重',
            'by hand': '手动下载',
            'cannot be loaded': '不能加载',
            'Classification': '分类',
            'Detection': '检测',
            'Segmentation': '分割',
            "ResNet-18 with CIFAR's 3x3 stem": 'ResNet-18，CIFAR 的 3x3 stem',
            'classifier with one hidden layer of 1024 on frozen features': (
                '冻结特征上的分类器，有一个 1024 维的隐藏层'
            ),
            'linear classifier, trained beside the network': (
                '与网络同时训练的线性分类器'
            ),
            'linear classifier on frozen AvgPool features, '
            "SimCLR's protocol": (
                '冻结的 AvgPool 特征上的线性分类器，SimCLR 协议'
            ),
            'linear classifier on stored AvgPool features, '
            'without augmentation': (
                '已存储的 AvgPool 特征上的线性分类器，不做数据增强'
            ),
            **{
                f'linear classifier on frozen {layer} features': (
                    f'冻结的 {layer} 特征上的线性分类器'
                )
                for layer in ('res4', 'res5', 'res5avg')
            },
            'fine-tuned on all labels': '用全部标签微调',
            **{
                f'fine-tuned on {share} % of the labels': (
                    f'用 {share} % 的标签微调'
                )
                for share in (1, 10)
            },
            'kNN on AvgPool features, k 200, T 0.1': (
                'AvgPool 特征上的 kNN，k = 200，T = 0.1'
            ),
            'Top-1 of weighted votes among the nearest training images.': (
                '最近的训练图片加权投票的 top-1。'
            ),
            'Top-1 of linear classifiers on frozen features.': (
                '冻结特征上线性分类器的 top-1。'
            ),
            'mAP of linear SVMs on VOC07. As in mmselfsup, the best layer and '
            'the cost of low-shot SVMs are chosen on the test set; low-shot '
            'SVMs see the layer that is best in cross-validation.': (
                'VOC07 上线性 SVM 的 mAP。与 mmselfsup 相同，最好的层和少样本 '
                'SVM 的 cost 在测试集上选择；少样本 SVM 使用交叉验证最好的层。'
            ),
            'Top-1 of linear classifiers on frozen features: feature maps '
            'averaged over windows to 8,192 or 9,216 numbers, and AvgPool.': (
                '冻结特征上线性分类器的 top-1：特征图按窗口平均为 8,192 或 '
                '9,216 个数，以及 AvgPool。'
            ),
            'All weights trained on 1 % or 10 % of the labels. Not on '
            "mmselfsup's benchmark page.": (
                '用 1 % 或 10 % 的标签训练全部权重。mmselfsup 的页面中没有。'
            ),
            'Faster R-CNN, ResNet-50 C4, 24,000 iterations. AP50, AP (the '
            'mean of AP50 to AP95) and AP75 with 11 points, as in VOC2007; '
            "the others COCO's way.": (
                'Faster R-CNN，ResNet-50 C4，24,000 次迭代。AP50、AP（AP50 至 '
                'AP95 的平均）与 AP75 按 VOC2007 的 11 点计算，其余按 COCO 的'
                '方式。'
            ),
            'Mask R-CNN, ResNet-50 FPN, 12 epochs.': (
                'Mask R-CNN，ResNet-50 FPN，12 轮。'
            ),
            'FCN, ResNet-50 with dilation, 20,000 iterations.': (
                'FCN，使用空洞卷积的 ResNet-50，20,000 次迭代。'
            ),
        },
    ),
}
PLAIN = 'linear classifier on frozen AvgPool features'
# The sections of mmselfsup's page, and the library of their configs.
SECTIONS = {
    'Classification': '',
    'Detection': 'mmdet',
    'Segmentation': 'mmseg',
}


def weights_table(models: Sequence[ZooModel], language: Language) -> str:
    """Return the table of some models of the zoo."""
    say = language.words.get
    rows, notes = [], []
    for model in models:
        data, result = model.metadata, model.main_result
        top1 = (result.get('Metrics') or {}).get('Top 1 Accuracy', '-')
        protocol = result.get('Protocol', PLAIN)
        if protocol != PLAIN:
            if protocol not in notes:
                notes.append(protocol)
            top1 = f'{top1} ({notes.index(protocol) + 1})'
        config = model.entry.get('Config')
        how = 'weights' if model.entry.get('Weights') else 'by hand'
        files = (
            [f'[{say("config", "config")}](../../{config})'] if config else []
        )
        files.append(f'[{say(how, how)}]({model.url})')
        if data.get('Not Loadable'):
            files.append(say('cannot be loaded', 'cannot be loaded'))
        rows.append(
            (
                f'`{model.name}`',
                say(data.get('Network'), data.get('Network', '-')),
                data.get('Epochs', '-'),
                data.get('Batch Size', '-'),
                top1,
                SOURCES.get(data['Source'], data['Source'].split('/')[-1]),
                LICENSES.get(data['License'], data['License']),
                ', '.join(files),
            )
        )
    text = _markdown(language.heads, rows, right=(2, 3, 4))
    lines = [f'({i}) {say(note, note)}' for i, note in enumerate(notes, 1)]
    return '\n\n'.join([text, ' · '.join(lines)] if lines else [text])


def benchmark_tables(language: Language) -> str:
    """Return the tables of published benchmarks, as on mmselfsup's page."""
    say = language.words.get
    parts = []
    for section, library in SECTIONS.items():
        tables = dict.fromkeys(
            column.table
            for benchmark in BENCHMARKS.values()
            for column in benchmark.columns
            if benchmark.library == library
        )
        parts.append(f'### {say(section, section)}')
        # The suite begins with kNN, which takes minutes; their page ends so.
        for table in sorted(tables, key=lambda t: 'Neighbor' in t.title):
            text = _benchmark_table(table, language)
            if text:
                note = say(table.note, table.note)
                parts += [f'#### {table.title}', note, text]
    return '\n\n'.join(parts)


def _benchmark_table(table: Table, language: Language) -> str:
    """Return the published rows of a table; '' if there are none."""
    columns = [
        (column.title, benchmark.published_in(column))
        for benchmark in BENCHMARKS.values()
        for column in benchmark.columns
        if column.table == table and benchmark.published_in(column)
    ]
    names = dict.fromkeys(row for _, cells in columns for row in cells)
    rows = [
        (row, *(cells.get(row, '-') for _, cells in columns)) for row in names
    ]
    if not rows:
        return ''
    first, config = language.benchmark_heads
    heads = (first, *(title for title, _ in columns))
    paths = dict.fromkeys(
        f'configs/benchmarks/{benchmark.config}'
        for benchmark in BENCHMARKS.values()
        if any(column.table == table for column in benchmark.columns)
    )
    links = ', '.join(f'[{Path(path).stem}](../../{path})' for path in paths)
    text = _markdown(heads, rows, right=range(1, len(heads)))
    return f'{text}\n\n{config}{links}'


def _markdown(
    heads: Sequence[str], rows: Sequence[Sequence], right: Sequence[int]
) -> str:
    """Lay a table out; columns `right` are of numbers."""
    lines = [
        heads,
        ['--:' if i in right else '---' for i in range(len(heads))],
    ]
    return '\n'.join(
        f'| {" | ".join(map(str, line))} |' for line in [*lines, *rows]
    )


def fill(text: str, language: Language) -> str:
    """Return a page with its tables as they are now."""
    models = [m for m in find_models().values() if m.url]
    recipes = [
        m
        for m in models
        if m.entry.get('Config', '').endswith(f'/{m.name}.py')
    ]
    others = [m for m in models if m not in recipes]
    tables = dict(
        recipes=weights_table(recipes, language),
        others=weights_table([m for m in others if _is_swav(m)], language),
        relatives=weights_table(
            [m for m in others if not _is_swav(m)], language
        ),
        benchmarks=benchmark_tables(language),
    )
    for name, table in tables.items():
        pattern = rf'(<!-- {name} -->\n).*?(<!-- /{name} -->)'
        text, count = re.subn(
            pattern,
            lambda match: f'{match[1]}\n{table}\n\n{match[2]}',
            text,
            flags=re.S,
        )
        assert count == 1, f'<!-- {name} --> is there {count} times'
    return text


def _is_swav(model: ZooModel) -> bool:
    return model.name.startswith('swav_')


def main() -> None:
    """Write the tables of both pages."""
    for code, language in LANGUAGES.items():
        page = FOLDER / code / 'model_zoo.md'
        text = page.read_text(encoding='utf-8')
        page.write_text(fill(text, language), encoding='utf-8')


if __name__ == '__main__':
    main()
