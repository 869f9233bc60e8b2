"""Numbers of a run, found by their files and never in prose."""

import hashlib
import json
from pathlib import Path

from swav_plugin.checkpoints.digests import note_digest
from swav_plugin.report.measured import find_measured
from swav_plugin.suite.benchmarks import MMSELFSUP
from tests.test_suite.reports import example


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _knn(num_train: int) -> list[dict]:
    fields = dict(
        feature='avgpool',
        k=20,
        top=1,
        num_train_images=num_train,
        num_test_images=50_000,
    )
    return [
        dict(
            name='avgpool/knn20_top1',
            value=55.5,
            protocol='<b>how</b>',
            fields=fields,
        )
    ]


def test_a_suite_in_the_work_dir_is_beside_published_rows(
    tmp_path: Path,
) -> None:
    _write(tmp_path / 'suite/results.json', example())
    tables, others = find_measured(tmp_path)
    assert tables[0].title == 'ImageNet Nearest-Neighbor Classification'
    assert [row.name for row in tables[0].rows] == [
        'net',
        'random initialization',
        MMSELFSUP,
    ]
    assert others == []


def test_a_suite_beside_it_counts_if_it_measured_this_checkpoint(
    tmp_path: Path,
) -> None:
    work_dir = tmp_path / 'mine'
    work_dir.mkdir()
    suite = example()
    _write(tmp_path / 'suite/results.json', suite)
    assert find_measured(work_dir) == ([], [])
    (work_dir / 'epoch_2.pth').write_bytes(b'weights')
    note_digest(work_dir / 'epoch_2.pth')
    suite['checkpoint']['SHA-256'] = hashlib.sha256(b'weights').hexdigest()
    _write(tmp_path / 'suite/results.json', suite)
    assert len(find_measured(work_dir).tables) == 3


def test_results_of_a_test_are_beside_published_rows_on_their_set_only(
    tmp_path: Path,
) -> None:
    _write(tmp_path / '20260101_000000/results.json', _knn(1_281_167))
    _write(tmp_path / 'knn/20260101_000000/results.json', _knn(9_469))
    (tmp_path / 'results.json').write_text('{broken')
    tables, others = find_measured(tmp_path)
    (table,) = tables
    own, published = table.rows
    assert own.name == tmp_path.name and own.cells == [None, 55.5, None, None]
    assert published.cells == ['60.5', '60.6', '59.0', '57.6']
    (other,) = others
    assert other['folder'] == 'knn/20260101_000000'
    assert other['value'] == 55.5
