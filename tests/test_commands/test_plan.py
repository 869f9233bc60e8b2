"""`swav plan`, and `swav train --plan`, as a user runs them."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from swav_plugin.commands import plan, train
from swav_plugin.engine.config import load_config

STEPS = [
    '--cfg-options',
    'train_cfg.max_epochs=1',
    'train_dataloader.dataset.indices=64',  # two batches
    'train_dataloader.num_workers=0',
]


@pytest.fixture(scope='module')
def images(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """128 real images in two class folders."""
    folder = tmp_path_factory.mktemp('images')
    source = sorted((test_data / 'imagenette160/val').iterdir())[:2]
    for kind in source:
        (folder / kind.name).mkdir()
        for path in sorted(kind.iterdir())[:64]:
            (folder / kind.name / path.name).symlink_to(path)
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command; return its exit code."""

    def run(command: Callable[[], None], *arguments: object) -> int:
        argv = ['swav plan', *map(str, arguments)]
        monkeypatch.setattr(sys, 'argv', argv)
        try:
            command()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


def test_a_plan_is_printed(
    images: Path,
    run: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(plan.main, '--folder', images, '--gpus', 0) == 0
    path = tmp_path / 'mine.py'
    printed = capsys.readouterr()
    path.write_text(printed.out)
    # On the screen only: what to do with it.
    assert f'swav train --plan {images} trains this.' in printed.err
    cfg = load_config(str(path))
    assert cfg.train_dataloader.dataset.data_root == str(images)
    assert cfg.model.head.num_prototypes == 30  # two class folders


def test_a_plan_of_weeks_is_told_on_the_screen(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    many = ('--images', 1_281_167, '--gpus', 9, '--memory', 16)
    assert run(plan.main, *many) == 0
    assert capsys.readouterr().err == ''
    assert run(plan.main, '--images', 1_281_167, '--gpus', 0) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('swav plan: warning: this plan takes ')


@pytest.mark.parametrize(
    'arguments, message',
    [
        ([], 'give --folder FOLDER or --images N'),
        (['--images', '100', '--gpus', '0'], '100 images are too few'),
        (['--images', '800', '--gpus', '99'], '--gpus 99: this machine has'),
        (['--images', '800', '--gpus', '-1'], '--gpus -1: give 1 or more'),
        (['--folder', 'no_such'], 'there is no folder '),
        (['some', '--folder', 'some'], 'give FOLDER or --folder FOLDER'),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str],
    message: str,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(plan.main, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('swav plan: error: ') and message in line


def test_the_folder_may_be_given_alone(
    images: Path,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(plan.main, images, '--gpus', 0) == 0
    assert str(images) in capsys.readouterr().out
    # Of another number of images it would be no plan.
    assert run(plan.main, images, '--images', 1000, '--gpus', 0) == 2
    said = capsys.readouterr().err
    assert f'--images 1000: {images} has 128; leave --images out' in said
    assert run(plan.main, images, '--classes', 0, '--gpus', 0) == 2
    assert '--classes 0: give 2 or more' in capsys.readouterr().err


def test_many_broken_images_are_refused(
    images: Path,
    run: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(images, tmp_path / 'some')
    for number in range(8):  # of 136, 5.9 %
        (tmp_path / f'some/{number}.jpg').write_text('not an image')
    assert run(plan.main, tmp_path / 'some', '--gpus', 0) == 2
    said = capsys.readouterr().err
    assert '8 of 136 images that were tried cannot be read' in said
    (tmp_path / 'some/0.jpg').unlink()
    (tmp_path / 'some/1.jpg').unlink()
    assert run(plan.main, tmp_path / 'some', '--gpus', 0) == 0


def test_train_plans_and_trains(
    images: Path,
    run: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    work_dir = tmp_path / 'work'
    arguments = ['--plan', images, '--gpus', 0, '--work-dir', work_dir]
    assert run(train.main, *arguments, *STEPS) == 0
    assert (work_dir / 'epoch_1.pth').is_file()
    output = capsys.readouterr()
    assert '[1][2/2]' in output.out + output.err

    # A plan that somebody changed is not lost, and can be gone on with.
    written = work_dir / 'plan/plan.py'
    text = written.read_text()
    written.write_text(text + '# mine\n')
    assert run(train.main, *arguments, *STEPS) == 2
    assert 'plan.py is another plan; go on with' in capsys.readouterr().err
    args = train.parse_args([*map(str, arguments), '--resume'])
    plan.plan_into_work_dir(args)
    assert args.config == str(written)
    assert written.read_text() == text + '# mine\n'


def test_several_gpus_become_torchrun(
    images: Path,
    run: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[list[str]] = []

    def execve(program: str, arguments: list[str], env: dict) -> None:
        started.append(arguments)
        raise SystemExit(0)

    monkeypatch.setattr('os.execve', execve)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    work_dir = tmp_path / 'work'
    run(
        train.main,
        *('--plan', images, '--gpus', 2, '--memory', 24),
        *('--work-dir', work_dir, '--resume', '--cfg-options', 'a=1'),
    )
    ((_, *arguments),) = started
    assert arguments == [
        *('-m', 'torch.distributed.run', '--standalone'),
        *('--nproc_per_node=2', '-m', 'swav_plugin.commands.train'),
        *(str(work_dir / 'plan/plan.py'), f'--work-dir={work_dir}'),
        *('--resume=newest', '--cfg-options', 'a=1'),
        *('--launcher', 'pytorch'),
    ]
    cfg = load_config(str(work_dir / 'plan/plan.py'))
    assert cfg.train_dataloader.batch_size == 16


def test_a_launcher_needs_a_written_plan(
    images: Path,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(train.main, '--plan', images, '--launcher', 'pytorch') == 2
    assert 'write the plan first' in capsys.readouterr().err


def test_a_config_or_a_plan() -> None:
    for argv in ([], ['a.py', '--plan', 'images']):
        with pytest.raises(SystemExit):
            train.parse_args(argv)
