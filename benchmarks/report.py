"""Write the newest results into the READMEs and draw views.svg.

Each table replaces the text between `<!-- NAME -->` and `<!-- /NAME -->`.

    python benchmarks/report.py
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent


def newest(kind: str) -> dict[str, dict]:
    """Return the last record of each machine: file name -> content."""
    found = {}
    for path in sorted(FOLDER.glob(f'results/{kind}_*.json')):
        found[path.stem.rpartition('_')[0]] = path
    return {
        path.name: json.loads(path.read_text(encoding='utf-8'))
        for path in found.values()
    }


def where(name: str, content: dict, prefix: str, link: str = 'record') -> str:
    """Return hardware, date and a link to the record."""
    hardware = content['hardware']
    device = hardware.get('gpu') or hardware['cpu']
    return (
        f'{device}, torch {hardware["torch"]}, {hardware["date"]} '
        f'([{link}]({prefix}results/{name})).'
    )


def with_range(row: dict) -> str:
    """Return the median of the ratios of single rounds, and their range."""
    low, high = row['speedup_range']
    if low == high == 1:  # the baseline
        return '1'
    return f'{row["speedup"]:.2f} [{low:.2f}-{high:.2f}]'


def table(head: str, rows: list[list]) -> list[str]:
    """Return Markdown lines; in `head` a column of numbers ends in ':'."""
    columns = [column.strip() for column in head.split('|')]
    lines = [
        '| ' + ' | '.join(column.rstrip(':') for column in columns) + ' |',
        '|'
        + '|'.join(
            '--:' if column.endswith(':') else '---' for column in columns
        )
        + '|',
    ]
    return lines + ['| ' + ' | '.join(map(str, row)) + ' |' for row in rows]


# The table of views: its columns, what is said about pixels, the text of the
# link, and the names of rows that are not those of packages.
VIEWS_TEXT = {
    'en': (
        "pipeline | images/s: | relative to upstream's: | output",
        'Median [range of rounds]. Largest difference from the pixels of '
        'torchvision in {num_crops:,} views with the same random numbers: '
        '{max_difference}.',
        'record',
        {},
    ),
    'zh': (
        '流水线 | 图片/秒: | 相对于官方实现: | 输出',
        '中位数 [各轮范围]。在随机数相同的 {num_crops:,} 个视图中，像素与 '
        'torchvision 的最大差值：{max_difference}。',
        '记录',
        {
            'albumentations (different pixels)': 'albumentations（像素不同）',
            'swav_plugin without numba': 'swav_plugin，不用 numba',
            'swav_plugin, separate transforms': 'swav_plugin，逐个变换',
            'swav_plugin, views cut on the GPU': (
                'swav_plugin，由 GPU 裁剪视图'
            ),
            'swav_plugin, images in memory': 'swav_plugin，图片在内存中',
            'decoding alone': '仅解码',
        },
    ),
}


def views_table(prefix: str = '', language: str = 'en') -> str:
    """Return images/s of one core for each pipeline."""
    head, note, link, names = VIEWS_TEXT[language]
    lines = []
    for name, content in newest('views').items():
        rows = [
            [
                names.get(row['name'], row['name']),
                f'{row["images_per_s"]:.0f}',
                with_range(row),
                row['output'],
            ]
            for row in content['results']
        ]
        missing = content['missing'].items()
        rows += [[names.get(k, k), '-', why, ''] for k, why in missing]
        lines += table(head, rows)
        lines += [
            '',
            note.format(**content['pixels']),
            where(name, content, prefix, link),
        ]
    return '\n'.join(lines)


def workers_line() -> str:
    """Return images/s of our loader by number of workers."""
    lines = []
    for name, content in newest('workers').items():
        speeds = ', '.join(
            f'{row["images_per_s"]:.0f} images/s with {row["num_workers"]}'
            + (f' ({row["speedup"]:.2f}x)' if row['speedup'] != 1 else '')
            for row in content['workers']
        )
        lines.append(
            f'Our loader by number of workers: {speeds}. '
            f'{where(name, content, "")}'
        )
    return '\n'.join(lines)


def batches_table() -> str:
    """Return images/s of one core, small images and photographs."""
    lines = []
    for name, content in newest('batches').items():
        rows = [
            [
                row['name'],
                f'{row["images_per_s"]:,}',
                f'{row["range"][0]:,}-{row["range"][1]:,}',
                with_range(row) if 'speedup' in row else '-',
            ]
            for row in content['rows']
        ]
        lines += table(
            'images | images/s: | rounds: | to before, median [rounds]:', rows
        )
        lines += ['', where(name, content, '')]
    return '\n'.join(lines)


def loss_table() -> str:
    """Return milliseconds of the loss step, theirs and ours."""
    lines = []
    for name, content in newest('loss').items():
        rows = content['results']
        lines += table(
            'batch: | queue: | mmpretrain: | swav_plugin: | '
            'ratio, median [range of rounds]:',
            [
                [
                    ours['batch_size'],
                    ours['queue_length'] or '-',
                    f'{theirs["median_ms"]:.1f} ms',
                    f'{ours["median_ms"]:.1f} ms',
                    with_range(ours),
                ]
                for theirs, ours in zip(rows[::2], rows[1::2])
            ],
        )
        difference = max(row['loss_difference'] for row in rows)
        equal = (
            f'differ by {difference:.0e} at most'
            if difference
            else 'are equal in float32'
        )
        lines += ['', f'Losses {equal}. {where(name, content, "")}']
    return '\n'.join(lines)


def eval_table() -> str:
    """Return the cost of evaluation, theirs and ours."""
    lines = []
    for name, content in newest('eval').items():
        rows = []
        results = content['results']
        if 'knn' in results:
            knn = results['knn']
            rows += [
                [
                    f'kNN, {knn["queries"]:,} queries, {knn["bank"]:,} '
                    'features on disk',
                    '-',
                    f'{knn["seconds"]:.0f} s',
                    f'{knn["share_in_products"]:.0%} in matrix products, '
                    f'{knn["peak_gib"]:.1f} GiB',
                ]
            ]
        if 'gather' in results:
            gather = results['gather']
            rows += [
                [
                    f'{gather["rows"]:,} features of 2 ranks together',
                    f'{gather["through_lists_s"]:.1f} s (lists)',
                    f'{gather["through_files_s"]:.2f} s (files)',
                    f'{gather["speedup"]:.0f}x',
                ]
            ]
        if 'svm' in results:
            svm = results['svm']
            rows += [
                [
                    f'1,520 SVMs, {svm["train_images"]:,} x {svm["width"]:,}',
                    f'{1520 * svm["liblinear_s_per_fit"]:,.0f} s (LIBLINEAR, '
                    f'from {svm["liblinear_fits_timed"]} fits)',
                    f'{svm["seconds"]:.0f} s',
                    f'{svm["speedup"]:.0f}x',
                ]
            ]
        lines += table('what | as mmselfsup does: | swav_plugin: | ', rows)
        lines += ['', where(name, content, '')]
    return '\n'.join(lines)


def steps_rows(steps: list[dict]) -> list[str]:
    """Return the table of steps; host waits as far as they were counted."""
    has_waits = any(row.get('host_syncs') is not None for row in steps)
    return table(
        'step | ms: | images/s: | of peak: | GiB: | ratio:'
        + (' | host waits:' if has_waits else ''),
        [
            [
                row['name'],
                f'{row["median_ms"]:.1f}',
                f'{row["images_per_s"]:.2f}',
                f'{row["share_of_peak"]:.1%}',
                row['memory_gib'] or '-',
                with_range(row),
                *([row['host_syncs']] if has_waits else []),
            ]
            for row in steps
        ],
    )


def steps_table() -> str:
    """Return training steps and runs from files, for each machine."""
    lines = []
    # gpu/run.sh has the two tables in two files.
    for name, content in (newest('step') | newest('loader')).items():
        options = content['options']
        views = ' + '.join(
            f'{num}x{size}'
            for num, size in zip(options['views'], options['sizes'])
        )
        lines += [
            f'ResNet-{options["depth"]}, {views} px, batch '
            f'{options["batch_size"]}. {where(name, content, "")}',
            '',
        ]
        if content.get('steps'):
            lines += [*steps_rows(content['steps']), '']
        for row in content.get('optimizers', ())[1:]:
            lines += [
                f'LARS alone: {row["median_ms"]:.2f} ms, '
                f"{with_range(row)} times as fast as mmpretrain's.",
                '',
            ]
        if not content.get('end_to_end'):
            continue
        lines += table(
            'on the device | workers: | images/s: | data wait: | GiB:',
            [
                [
                    dict(
                        cpu='training',
                        device='training, cutting views',
                        decode='training, cutting views, decoding',
                    )[row['path']],
                    row['num_workers'],
                    f'{row["images_per_s"]:.2f}',
                    f'{row["data_wait"]:.1%}',
                    row['memory_gib'] or '-',
                ]
                for row in content.get('end_to_end', ())
            ],
        ) + ['']
    return '\n'.join(lines).rstrip()


# The study of small sets: its columns, what is said below, and the variants.
SMALL_SETS_TEXT = {
    'en': (
        'variant | digits: | loss / ln K: | Imagenette, 2,000 images of '
        '64 px: | loss / ln K:',
        'Mean and standard deviation of kNN top-1 in % after the last epoch '
        '(number of seeds); one standard error of a kNN is 1.4 points on '
        'either set. At a loss of ln K nothing has been learned. {hours:.1f} '
        'hours on one core.',
        'Where the best epoch is, told without labels: points of kNN that '
        'are lost against the best of ten epochs, over {count} runs.',
        'pick: | mean: | worst: | within 1 point:',
        'record',
        {},
    ),
    'zh': (
        '方案 | 手写数字: | 损失 / ln K: | Imagenette，2,000 张 64 px 的图片: '
        '| 损失 / ln K:',
        '最后一轮之后 kNN top-1（%）的均值与标准差（种子数）；两个数据集上 '
        'kNN 的标准误差约为 1.4 点。损失等于 ln K 时什么也没有学到。单核共 '
        '{hours:.1f} 小时。',
        '不用标签选择轮次：与十个轮次中最好的一个相比，kNN 损失的百分点，'
        '共 {count} 次训练。',
        '选择方式: | 平均: | 最差: | 相差 1 点以内:',
        '记录',
        {
            'untrained': '未训练',
            'K 300, epsilon .05, half-strength colors': (
                'K 300，epsilon .05，颜色强度减半'
            ),
            'full-strength colors': '颜色强度不减',
            'K 100, epsilon .03': 'K 100，epsilon .03',
            'queue of 512': '长为 512 的队列',
            'K 3000, queue of 512': 'K 3000，长为 512 的队列',
            'stopping score': '停止分数（stopping score）',
            'lowest loss': '损失最低',
            'last epoch': '最后一轮',
        },
    ),
}


def small_sets_table(prefix: str, language: str = 'en') -> str:
    """Return kNN of the variants, and how well epochs are picked."""
    head, note, about_picks, picks_head, link, names = SMALL_SETS_TEXT[
        language
    ]
    lines = []
    for name, content in newest('small_sets').items():
        runs = content['runs']
        rows = []
        for variant in dict.fromkeys(run['variant'] for run in runs):
            cells = [names.get(variant, variant)]
            for dataset in ('digits', 'imagenette'):
                own = [
                    run
                    for run in runs
                    if (run['set'], run['variant']) == (dataset, variant)
                ]
                found = [run['knn'] for run in own]
                spread = f' ± {stdev(found):.1f}' if len(found) > 1 else ''
                losses = [run.get('loss_share') for run in own]
                cells += [
                    f'{mean(found):.1f}{spread} ({len(found)})',
                    '-' if None in losses else f'{mean(losses):.2f}',
                ]
            rows.append(cells)
        hours = sum(run['minutes'] for run in runs) / 60
        lines += table(head, rows)
        lines += ['', note.format(hours=hours), '']
        curves = [run['curve'] for run in runs if run['curve']]
        picked = [
            [
                names.get(pick, pick),
                f'{mean(lost):.1f}',
                f'{max(lost):.1f}',
                f'{sum(points <= 1 for points in lost)}',
            ]
            for pick, lost in points_lost(curves).items()
        ]
        lines += [about_picks.format(count=len(curves)), '']
        lines += table(picks_head.replace(':', '', 1), picked)
        lines += ['', where(name, content, prefix, link)]
    return '\n'.join(lines)


# Provoked collapses and the long run: heading and sentences.
COLLAPSES_TEXT = {
    'en': ('what was done | kNN: | verdict', 'record'),
    'zh': ('做法 | kNN: | 结论', '记录'),
}
HEALTH_TEXT = {
    'en': ('run | step: | health: | a save: | saving:', 'record'),
    'zh': ('训练 | 每步: | 健康统计: | 一次保存: | 保存:', '记录'),
}
LONG_RUN_TEXT = {
    'en': (
        '{iters:,} iterations; growth in 1,000 of them, by least squares '
        'after the first tenth: ',
        dict(
            main_mb='memory of the main process {:+.3f} MB',
            workers_mb='of the data worker {:+.3f} MB',
            main_files='open files {:+.3f}',
            main_threads='threads {:+.3f}',
        ),
        'record',
    ),
    'zh': (
        '共 {iters:,} 次迭代；去掉前十分之一后用最小二乘法估计，'
        '每 1,000 次的增长：',
        dict(
            main_mb='主进程内存 {:+.3f} MB',
            workers_mb='数据进程内存 {:+.3f} MB',
            main_files='打开的文件 {:+.3f}',
            main_threads='线程 {:+.3f}',
        ),
        '记录',
    ),
}


def collapses_table(prefix: str, language: str = 'en') -> str:
    """Return what each way to break SwAV on digits was called."""
    head, link = COLLAPSES_TEXT[language]
    lines = []
    for name, content in newest('collapses').items():
        rows = []
        for row in content['rows']:
            changed = ', '.join(f'{k} {v}' for k, v in row['changed'].items())
            what = row['kind'] + (f' ({changed})' if changed else '')
            verdict = f'{row["state"]}, {row["message"]}'
            rows.append([what, row['knn'], verdict])
        lines += table(head, rows)
        lines += ['', where(name, content, prefix, link)]
    return '\n'.join(lines)


def long_run_line(prefix: str, language: str = 'en') -> str:
    """Return what grew in a run of many iterations."""
    about, names, link = LONG_RUN_TEXT[language]
    lines = []
    for name, content in newest('long_run').items():
        growth = content['growth_per_1000_iters']
        parts = (text.format(growth[key]) for key, text in names.items())
        end, comma = ('.', ', ') if language == 'en' else ('。', '，')
        lines.append(
            about.format(iters=content['iters'])
            + comma.join(parts)
            + f'{end} {where(name, content, prefix, link)}'
        )
    return '\n'.join(lines)


def health_table(prefix: str, language: str = 'en') -> str:
    """Return the share of a run that watching and saving take."""
    head, link = HEALTH_TEXT[language]
    lines = []
    for name, content in newest('health').items():
        rows = [
            [
                row['what'],
                f'{row["step_ms"]:,.0f} ms',
                f'{row["watching_percent"]:.2f} %',
                f'{row["save_s"]:.2f} s ({row["checkpoint_mb"]:.0f} MB)',
                f'{row["saving_percent"]:.2f} %',
            ]
            for row in content['rows']
        ]
        lines += table(head, rows)
        lines += ['', where(name, content, prefix, link)]
    return '\n'.join(lines)


def points_lost(curves: list[list[dict]]) -> dict[str, list[float]]:
    """Return the points of kNN that each way to pick an epoch loses.

    Args:
        curves: Epochs of each run, with kNN in % and what is known without
            labels.
    """
    picks: dict[str, Callable[[dict], float]] = {
        'stopping score': lambda row: row['stopping_score'],
        'lowest loss': lambda row: -row['loss_share'],
        'RankMe': lambda row: row['rank_me'],
        'last epoch': lambda row: row['epoch'],
    }
    return {
        name: [
            max(row['knn'] for row in curve) - max(curve, key=pick)['knn']
            for curve in curves
        ]
        for name, pick in picks.items()
    }


def put(path: Path, name: str, text: str) -> None:
    """Replace the text between two markers."""
    content = path.read_text(encoding='utf-8')
    replaced, count = re.subn(
        f'(<!-- {name} -->\n).*?(<!-- /{name} -->)',
        lambda match: f'{match[1]}{text}\n{match[2]}',
        content,
        flags=re.S,
    )
    if count != 1:
        raise ValueError(
            f'{path} needs <!-- {name} --> and <!-- /{name} -->, '
            f'once each; found {count} pairs.'
        )
    path.write_text(replaced, encoding='utf-8')


def draw_views(path: Path, width: int = 720, line: int = 26) -> None:
    """Draw bars of images/s, in grays that read well on white and black."""
    (content,) = newest('views').values()
    rows = content['results']
    left, scale = 270, (width - 330) / max(r['images_per_s'] for r in rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{line * len(rows) + 34}" font-family="sans-serif" '
        'font-size="13" fill="#808080">',
        '<text x="0" y="16">From JPEG to 2x224 + 6x96 views, images/s of one '
        f'core ({content["hardware"]["cpu"]})</text>',
    ]
    for number, row in enumerate(rows):
        top = 30 + line * number
        color = '#2f81f7' if row['name'].startswith('swav') else '#a0a0a0'
        bar = scale * row['images_per_s']
        parts += [
            f'<text x="{left - 8}" y="{top + 14}" text-anchor="end">'
            f'{row["name"]}</text>',
            f'<rect x="{left}" y="{top}" width="{bar:.0f}" height="18" '
            f'fill="{color}"/>',
            f'<text x="{left + bar + 6:.0f}" y="{top + 14}">'
            f'{row["images_per_s"]:.0f}</text>',
        ]
    path.write_text('\n'.join([*parts, '</svg>']) + '\n')


def main() -> None:
    """Replace all tables and the plot."""
    ours = FOLDER / 'README.md'
    put(ours, 'views', views_table())
    put(ours, 'workers', workers_line())
    put(ours, 'batches', batches_table())
    put(ours, 'loss', loss_table())
    put(ours, 'eval', eval_table())
    put(ours, 'steps', steps_table())
    put(ROOT / 'README.md', 'views', views_table('benchmarks/'))
    put(ROOT / 'README_zh-CN.md', 'views', views_table('benchmarks/', 'zh'))
    draw_views(FOLDER / 'views.svg')
    for folder, language in (('en', 'en'), ('zh_CN', 'zh')):
        path = ROOT / 'docs' / folder / 'results.md'
        text = small_sets_table('../../benchmarks/', language)
        put(path, 'small_sets', text)
        for marker, draw in dict(
            collapses=collapses_table,
            long_run=long_run_line,
            health=health_table,
        ).items():
            put(path, marker, draw('../../benchmarks/', language))


if __name__ == '__main__':
    main()
