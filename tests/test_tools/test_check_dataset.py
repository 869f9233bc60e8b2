"""tools/check_dataset.py as a user runs it."""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import REPO_ROOT


def run(*args: str) -> subprocess.CompletedProcess:
    """Run the command; its output goes to stdout."""
    return subprocess.run(
        [sys.executable, 'tools/check_dataset.py', *args],
        cwd=REPO_ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': '.'},
    )


def write_coco(root: Path) -> None:
    """One box in each split; that of val lacks `iscrowd`."""
    (root / 'annotations').mkdir(parents=True)
    box = dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 9, 9], area=81)
    for split, more in (('train', dict(iscrowd=0)), ('val', {})):
        (root / f'{split}2017').mkdir()
        Image.new('RGB', (16, 12)).save(root / f'{split}2017/a.jpg')
        image = dict(id=1, file_name='a.jpg', height=12, width=16)
        (root / f'annotations/instances_{split}2017.json').write_text(
            json.dumps(
                dict(
                    images=[image],
                    categories=[dict(id=1, name='thing')],
                    annotations=[box | more],
                )
            )
        )


@pytest.fixture
def run_here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process; return its code and output."""

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, 'argv', ['check_dataset.py', *args])
        code = 0
        try:
            runpy.run_path('tools/check_dataset.py', run_name='__main__')
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capfd.readouterr()

    monkeypatch.chdir(REPO_ROOT)
    return run


def test_report_and_exit_code(
    tmp_path: Path, run_here: Callable[..., tuple[int, str, str]]
) -> None:
    for name in ('cat', 'dog'):
        (tmp_path / name).mkdir()
        (tmp_path / name / '1.jpg').write_bytes(b'?')
    done = run('folder', str(tmp_path))
    assert (done.returncode, done.stdout) == (
        0,
        f'folder in {tmp_path}\n  all: 2 images of 2 classes, in 2 folders; '
        'left out: nothing\nNothing is missing.\n',
    )
    code, out, _ = run_here('folder', str(tmp_path), '--decode')
    assert (code, out) == (
        1,
        f'folder in {tmp_path}\n  all: 2 images of 2 classes, in 2 folders; '
        f'left out: nothing\nProblem: {tmp_path}/cat/1.jpg: not an image of a '
        'format that is read\n',
    )
    write_coco(tmp_path / 'coco')
    code, out, _ = run_here('coco_boxes', f'{tmp_path}/coco', '--any-size')
    assert (code, out.splitlines()[-2:]) == (
        0,
        [
            'It can be used, but note:',
            '  val2017: objects without iscrowd, taken for 0: 1, such as '
            'annotations[0]',
        ],
    )
    code, out, _ = run_here('imagenet', str(tmp_path), '--any-size')
    assert code == 1 and "train' is not a folder" in out
    code, _, error = run_here('imagenette', str(tmp_path))
    assert code == 2 and "'imagenet', " in error
