"""Say when a run should have stopped, and which checkpoint there is of it."""

import re
from pathlib import Path

from swav_plugin.checkpoints.newest import list_of_run, number_of

from .history import History


def describe_best_epoch(work_dir: Path, history: History) -> str:
    """Name the epoch with the highest stopping score, and its checkpoint.

    Of all starts of the run. Where that checkpoint was not kept, it also
    names the one with the highest score of those that were.

    Returns:
        A phrase; empty if there is no score.
    """
    scores = {
        row['epoch']: (row['step'], score)
        for row in history.health
        if type(row.get('epoch')) is int
        and (score := history.health_curve('stopping_score').get(row['step']))
        is not None
    }
    if not scores:
        return ''
    epoch_of = {step: epoch for epoch, (step, _) in scores.items()}
    kept: dict[int, str] = {}
    for path in list_of_run(work_dir):
        epoch = number_of(path)
        if re.search(r'iter_\d+\.pth$', path.name):
            epoch = epoch_of.get(epoch, 0)
        if epoch in scores:
            kept.setdefault(epoch, path.name)

    def score_of(epoch: int) -> float:
        return scores[epoch][1]

    best = max(scores, key=score_of)
    told = f'highest stopping score after epoch {best} ({score_of(best):.2f})'
    if best in kept:
        return f'{told}: {kept[best]}'
    told += (
        ', of which no checkpoint was kept (default_hooks.checkpoint.interval '
        'and max_keep_ckpts)'
    )
    if kept:
        second = max(kept, key=score_of)
        told += (
            f'; of those kept, {kept[second]} has the highest '
            f'({score_of(second):.2f})'
        )
    return told
