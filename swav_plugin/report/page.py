"""Lay out the report of a work dir, and write it as a page.

Each part is made on its own: what cannot be made is listed at the end with
the reason.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.page import read_template
from swav_plugin.engine.results import data_roots
from swav_plugin.engine.resume import read_config_text
from swav_plugin.engine.verdict import TOO_EARLY
from swav_plugin.engine.wording import counted
from swav_plugin.engine.work_dir import PLAN
from swav_plugin.inference.gallery import columns, thumbnail
from swav_plugin.suite.render import text

from .content import Missing, Report
from .curves import Line, draw_lines
from .history import History, read_history
from .learned import Images, show_learned
from .measured import find_measured
from .record import describe_starts, find_starts, read_record
from .stopping import describe_best_epoch

REPORT = 'report.html'
# The charts of the health: title -> name of a line -> its number.
_HEALTH = {
    'stopping score: higher should be better': {'': 'stopping_score'},
    'number of prototypes': {
        'in use (exp of the entropy)': 'effective_prototypes',
        'dead (nearest to no image)': 'dead_prototypes',
    },
    'largest share of images on one prototype': {'': 'largest_share'},
    'entropy, share of ln K': {
        'of predictions': 'prediction_entropy_share',
        'of codes': 'code_entropy_share',
    },
    'cosine between prototypes': {
        'mean': 'prototype_cosine_mean',
        'largest': 'prototype_cosine_max',
    },
    'effective rank of embeddings (RankMe)': {'': 'rank_me'},
    'spread of embeddings: 1 is even, 0 none': {'': 'embedding_std'},
    'what queue and batch have in common': {'': 'queue_overlap'},
    'gradient norm': {'': 'gradient_norm'},
}

_NO_LOSS = (
    'no loss, learning rate or kNN, since no */vis_data/scalars.json in {} '
    "has them: visualizer.vis_backends needs dict(type='LocalVisBackend'), "
    'also beside another backend'
)


def write_report(
    work_dir: Path, out: Path | None = None, images: Images | None = None
) -> tuple[Path, list[Missing]]:
    """Write the report of a run.

    Args:
        work_dir: Its folder.
        out: The page; by default report.html in the work dir.
        images: What the checkpoint is to be shown on; None for no images.

    Returns:
        The page, and what it lacks.
    """
    out = work_dir / REPORT if out is None else out
    report = lay_out(work_dir, images)
    write_atomic(out, to_html(report))
    return out, report.missing


def lay_out(work_dir: Path, images: Images | None = None) -> Report:
    """Gather what there is of a run; see `write_report`."""
    record = read_record(work_dir)
    facts = dict(record.get('facts') or {})
    report = Report(facts.get('Config') or work_dir.resolve().name)
    cfg, history = None, History({}, {}, [])
    with report.part('Config'):
        report.config = _read_config(work_dir)
        cfg = Config(read_config_text(report.config))
    if report.title == PLAN:  # the same for each folder of images
        report.title = _title_of_plan(cfg, work_dir)
    if not facts:
        facts = _facts_of_config(cfg)
        report.missing.append(
            Missing(
                'Hardware, versions and commit',
                'the run did not note them: it had no '
                f'default_hooks.report, and so no */run.json in {work_dir}',
            )
        )
    elif record.get('is_old'):
        report.missing.append(
            Missing(
                'Hardware, versions and commit of the last start',
                'it noted nothing: default_hooks.report was off; what is '
                'shown is of an earlier one',
            )
        )
    report.facts = facts
    report.starts = describe_starts(work_dir)
    with report.part('Curves'):
        history = read_history(work_dir)
        report.progress = describe_progress(history, record, cfg)
        report.charts = draw_charts(history)
        if 'loss' not in history.train:
            raise UsageError(_NO_LOSS.format(work_dir))
    with report.part('Health'):
        report.health, report.verdict = describe_health(history)
        report.stopping = describe_best_epoch(work_dir, history)
    with report.part('Benchmarks'):
        report.measured = find_measured(work_dir)
        if report.measured == ([], []):
            raise UsageError(
                'nothing was measured: swav suite CHECKPOINT --out '
                f'{work_dir}/suite, or swav test CONFIG CHECKPOINT --work-dir '
                f'{work_dir}/NAME, then swav report {work_dir}'
            )
    skipped = work_dir / 'skipped_images.txt'
    if skipped.is_file():
        count = len(skipped.read_bytes().splitlines())
        report.facts['Unreadable images'] = f'{count:,}, listed in {skipped}'
    if images is None:
        report.missing.append(Missing('Pictures', 'they were not asked for'))
    else:
        show_learned(report, work_dir, cfg, images)
    return report


def _read_config(work_dir: Path) -> str:
    """Return the config of the newest start, merged, as it was written.

    Raises:
        UsageError: There is none.
    """
    of_starts = [
        folder / 'vis_data/config.py' for folder in find_starts(work_dir)
    ]
    for found in (of_starts, sorted(work_dir.glob('*.py'))):
        if found and found[-1].is_file():
            return found[-1].read_text(encoding='utf-8')
    raise UsageError(f'there is no */vis_data/config.py in {work_dir}')


def _title_of_plan(cfg: Any, work_dir: Path) -> str:
    """Name a planned run by its images; without any by its folder."""
    loader = (cfg or {}).get('train_dataloader') or {}
    roots = data_roots(loader.get('dataset'))
    path = Path(roots) if roots else work_dir.resolve()
    parts = path.parts[-2:] if path.name.lower() == 'train' else [path.name]
    return f'{os.path.join(*parts)}, as planned'


def _facts_of_config(cfg: Any) -> dict[str, str]:
    """Return what a config alone tells of a run."""
    if cfg is None:
        return {}
    loader = cfg.get('train_dataloader') or {}
    facts = {
        'Data': data_roots(loader.get('dataset')),
        'Batch': f'{loader.get("batch_size")} per process',
        'Seed': str((cfg.get('randomness') or {}).get('seed')),
    }
    return {name: fact for name, fact in facts.items() if fact}


def describe_progress(
    history: History, record: Mapping[str, Any], cfg: Any
) -> str:
    """Say how many epochs or iterations are done, and whether that is all."""
    done = max(history.last_iter, record.get('iter') or 0)
    per_epoch, total = record.get('iters_per_epoch'), record.get('max_iters')
    unit = 'iteration'
    if per_epoch is None and history.health:
        row = history.health[-1]
        per_epoch = row['step'] // max(1, row.get('epoch') or 1)
    train_cfg = (cfg or {}).get('train_cfg') or {}
    total = total or train_cfg.get('max_iters')
    max_epochs = train_cfg.get('max_epochs')
    if per_epoch and max_epochs:
        total = per_epoch * max_epochs
        unit, done, total = 'epoch', done // per_epoch, max_epochs
    told = f'{done:,} of ' * bool(total) + counted(total or done, unit)
    if record.get('has_ended') or (total and done >= total):
        return f'{told}, finished'
    return f'{told}, not finished'


def describe_health(history: History) -> tuple[str, str]:
    """Return the verdict on the last epoch, and how often it was another.

    In place of OK there is 'too early' where nothing can be told yet.

    Raises:
        UsageError: None was recorded.
    """
    if not history.health:
        raise UsageError(
            'there is no */vis_data/health.json; HealthHook '
            '(default_hooks.health) writes it after each epoch'
        )
    states = [str(row.get('state', '')) for row in history.health]
    message = str(history.health[-1].get('message', ''))
    verdict = message.removeprefix(f'{states[-1]}, ')
    if TOO_EARLY in verdict:
        return 'too early', verdict
    others = [
        f'{states.count(state)} {state}'
        for state in ('WARN', 'COLLAPSED')
        if state in states[:-1]
    ]
    if others:
        verdict += f' (of {len(states)} epochs: {", ".join(others)})'
    return states[-1], verdict


def draw_charts(history: History) -> list[str]:
    """Draw loss, learning rate, kNN and health, as far as there are any."""
    charts = []
    loss, ln_k = (history.train.get(name, {}) for name in ('loss', 'ln_K'))
    levels = {}
    if ln_k:
        value = ln_k[max(ln_k)]
        levels = {f'ln K = {value:.2f}': value}
    top1 = {k: v for k, v in history.measured.items() if 'top1' in k}
    chosen = top1 or history.measured
    for title, lines, marks in (
        ('loss', {'': loss}, levels),
        ('learning rate', {'': history.train.get('lr', {})}, {}),
        ('measured during training', chosen, {}),
        *(
            (
                title,
                {
                    line: history.health_curve(name)
                    for line, name in names.items()
                },
                {},
            )
            for title, names in _HEALTH.items()
        ),
    ):
        drawn = [
            Line(name, sorted(curve.items()))
            for name, curve in lines.items()
            if curve
        ]
        if len(drawn) == 1 and drawn[0].name:
            title = f'{title}: {drawn[0].name}'
        if drawn:
            charts.append(draw_lines(title, drawn, marks))
    return charts


def to_html(report: Report) -> str:
    """Write a report as one HTML file that needs no other."""
    rooms = Path(__file__).parents[1]
    template = read_template(
        Path(__file__).with_name('report.html.j2'),
        rooms / 'inference',
        rooms / 'suite',
    )
    page = template.render(
        report=report,
        columns=columns,
        thumbnail=thumbnail,
        basename=os.path.basename,
        text=text,
    )
    # File names need not be UTF-8.
    return page.encode('utf-8', 'replace').decode()
