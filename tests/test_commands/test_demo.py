"""The demo's parts; `make demo` itself takes minutes."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from swav_plugin.commands import demo


def test_all_digits_are_exported_once(tmp_path: Path) -> None:
    folder = demo.prepare('digits', tmp_path)
    files = sorted(folder.rglob('*.png'))
    assert len(files) == 1797 and len(list(folder.iterdir())) == 10
    assert Image.open(files[0]).size == (32, 32)
    assert not (tmp_path / 'digits.part').exists()
    times = [file.stat().st_mtime_ns for file in files]
    demo.prepare('digits', tmp_path)
    assert times == [file.stat().st_mtime_ns for file in files]


def test_a_broken_export_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: Path) -> None:
        folder.mkdir()
        raise ConnectionError('gone')

    monkeypatch.setitem(demo.EXPORTS, 'cifar10', broken)
    with pytest.raises(ConnectionError):
        demo.prepare('cifar10', tmp_path)
    assert not (tmp_path / 'cifar10').exists()


def test_accuracies_are_those_of_the_features() -> None:
    labels = torch.arange(5).repeat_interleave(20)
    perfect = demo.Features(torch.eye(5)[labels], labels, [''] * 100)
    assert demo.few_label_accuracy(perfect) == 100
    assert demo.all_label_accuracy(perfect) == 100
    torch.manual_seed(0)
    noise = demo.Features(torch.randn(100, 8), labels, [''] * 100)
    assert 10 < demo.few_label_accuracy(noise) < 30  # chance: 20


def test_a_short_run_draws_its_picture_and_says_it_learned_too_little(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    pytest.importorskip('matplotlib')
    make_config = demo.make_config

    def short(*args: object) -> object:
        cfg = make_config(*args)
        cfg.train_cfg.max_epochs = 1
        cfg.default_hooks.checkpoint.interval = 1
        cfg.default_hooks.pop('report')  # test_report is about it
        return cfg

    monkeypatch.setattr(demo, 'make_config', short)
    monkeypatch.setattr(
        'sys.argv',
        [
            'demo.py',
            '--data-root',
            str(tmp_path),
            '--work-dir',
            str(tmp_path / 'work'),
        ],
    )
    with pytest.raises(SystemExit, match='did not learn as it should'):
        demo.main()
    output = capsys.readouterr().out
    assert 'kNN, 3 labels per class' in output
    with Image.open(tmp_path / 'work/demo.png') as picture:
        assert picture.size[0] > 1000
        assert len(picture.convert('RGB').getcolors(10**6)) > 100


def test_too_few_images_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    for i in range(3):
        Image.new('RGB', (8, 8)).save(tmp_path / f'{i}.png')
    monkeypatch.setattr('sys.argv', ['demo.py', '--data', str(tmp_path)])
    with pytest.raises(SystemExit):
        demo.main()
    assert 'has 3 images; this demo needs at least 128' in (
        capsys.readouterr().err
    )
