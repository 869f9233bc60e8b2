"""Curves of a run from its logs, also of one that was resumed."""

import json
from pathlib import Path

from swav_plugin.report.history import read_history


def _log(work_dir: Path, name: str, rows: list, health: list) -> None:
    folder = work_dir / name / 'vis_data'
    folder.mkdir(parents=True)
    for file, content in (('scalars', rows), ('health', health)):
        text = ''.join(f'{json.dumps(row)}\n' for row in content)
        (folder / f'{file}.json').write_text(text)


def _losses(steps: range, value: float) -> list[dict]:
    return [
        dict(iter=i, loss=value, lr=0.1, ln_K=3.0, epoch=1, step=i)
        for i in steps
    ]


def test_a_later_run_replaces_all_from_its_first_iteration_on(
    tmp_path: Path,
) -> None:
    # The first went on to 60 after the checkpoint that the second began from.
    first = _losses(range(10, 70, 10), 2.0)
    first[2:2] = [
        {'health/rank_me': 5.0, 'step': 28},
        {'avgpool/knn20_top1': 40.0, 'time': 1.0, 'step': 1},
    ]
    first.append({'avgpool/knn20_top1': 45.0, 'time': 1.0, 'step': 2})
    rows = [dict(step=28, state='OK'), dict(step=56, state='WARN')]
    _log(tmp_path, '20260101_000000', first, rows)
    _log(
        tmp_path,
        '20260101_010000',
        _losses(range(35, 50, 5), 1.0),
        [dict(step=56, state='OK', rank_me=3.0)],
    )
    (tmp_path / '20260101_020000/vis_data').mkdir(parents=True)  # no log yet
    history = read_history(tmp_path)
    assert history.train['loss'] == {
        10: 2.0,
        20: 2.0,
        30: 2.0,
        35: 1.0,
        40: 1.0,
        45: 1.0,
    }
    # A validation is where the log was, whatever its step says.
    assert history.measured == {'avgpool/knn20_top1': {28: 40.0}}
    assert history.train['health/rank_me'] == {28: 5.0}
    assert [row['state'] for row in history.health] == ['OK', 'OK']
    assert history.health_curve('rank_me') == {56: 3.0}
    assert history.last_iter == 56


def test_half_a_line_and_no_numbers_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / '20260101_000000/vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_bytes(
        b'{"iter": 1, "loss": 2.0}\n[1]\n{"iter": 2, "loss": NaN}\n'
        b'{"iter": 3, "loss": "high"}\n\xff\n{"iter": 4, "lo'
    )
    history = read_history(tmp_path)
    assert history.train == {'loss': {1: 2.0}, 'iter': {1: 1, 2: 2, 3: 3}}
    assert history.measured == {} and history.health == []


def test_nothing_was_logged(tmp_path: Path) -> None:
    assert read_history(tmp_path) == ({}, {}, [])
    assert read_history(tmp_path).last_iter == 0
