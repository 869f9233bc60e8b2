"""Which epoch scores highest, and which checkpoint there is of it."""

import json
from pathlib import Path

import pytest

from swav_plugin.report.history import read_history
from swav_plugin.report.page import lay_out, to_html
from swav_plugin.report.stopping import describe_best_epoch

NOT_KEPT = (
    'highest stopping score after epoch 3 (2.43), of which no checkpoint was '
    'kept (default_hooks.checkpoint.interval and max_keep_ckpts)'
)


def _start(work_dir: Path, name: str, scores: dict[int, float]) -> None:
    """Log epochs of four iterations, of one start of the run."""
    folder = work_dir / name / 'vis_data'
    folder.mkdir(parents=True)
    rows = [
        dict(epoch=epoch, step=4 * epoch, state='OK', stopping_score=score)
        for epoch, score in scores.items()
    ]
    (folder / 'health.json').write_text('\n'.join(map(json.dumps, rows)))


@pytest.mark.parametrize(
    'files, told',
    [
        (['epoch_3.pth', 'epoch_4.pth'], ': epoch_3.pth'),
        (['iter_3.pth', 'iter_12.pth'], ': iter_12.pth'),
        (['best_knn20_top1_epoch_3.pth'], ': best_knn20_top1_epoch_3.pth'),
    ],
)
def test_the_best_epoch_of_all_starts_has_its_checkpoint(
    files: list[str], told: str, tmp_path: Path
) -> None:
    # The second start went on after epoch 3, and replaces what came later.
    nan = float('nan')
    _start(tmp_path, '20260101_000000', {1: 1.0, 2: nan, 3: 2.43, 4: 9.0})
    _start(tmp_path, '20260101_010000', {4: 2.0, 5: 1.5})
    for name in files:
        (tmp_path / name).touch()
    found = describe_best_epoch(tmp_path, read_history(tmp_path))
    assert found == f'highest stopping score after epoch 3 (2.43){told}'
    report = lay_out(tmp_path)
    assert report.stopping == found
    assert found in to_html(report).partition('</header>')[0]


def test_a_checkpoint_elsewhere_counts(tmp_path: Path) -> None:
    """`CheckpointHook(out_dir=...)` uses a folder of the same name."""
    work_dir, out = tmp_path / 'work', tmp_path / 'out/work'
    _start(work_dir, '20260101_000000', {1: 1.0})
    out.mkdir(parents=True)
    (out / 'epoch_1.pth').touch()
    (work_dir / 'last_checkpoint').write_text(str(out / 'epoch_1.pth'))
    found = describe_best_epoch(work_dir, read_history(work_dir))
    assert found.endswith('after epoch 1 (1.00): epoch_1.pth')


def test_what_was_not_kept_is_said(tmp_path: Path) -> None:
    _start(tmp_path, '20260101_000000', {1: 1.0, 2: 1.5, 3: 2.43, 4: 2.0})
    history = read_history(tmp_path)
    assert describe_best_epoch(tmp_path, history) == NOT_KEPT
    for name in ('epoch_2.pth', 'epoch_4.pth', 'latest.pth', 'mine_3.pth'):
        (tmp_path / name).touch()
    assert describe_best_epoch(tmp_path, history) == (
        f'{NOT_KEPT}; of those kept, epoch_4.pth has the highest (2.00)'
    )
    assert describe_best_epoch(tmp_path, history._replace(health=[])) == ''
