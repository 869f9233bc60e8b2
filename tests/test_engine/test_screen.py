"""Check what reaches the screen, and what only the log file gets."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import mmengine.runner.runner
import pytest
from mmengine.logging import print_log
from PIL import Image

from swav_plugin.datasets import ImageFolder
from swav_plugin.engine.hooks import health
from swav_plugin.engine.runner import CommandRunner
from swav_plugin.engine.screen import (
    NUMBERS,
    describe_data,
    describe_model,
    is_for_screen,
    quiet_dependencies,
)
from swav_plugin.registry import MODELS
from swav_plugin.report.history import History
from swav_plugin.report.page import describe_progress

PIN_MEMORY = (
    "'pin_memory' argument is set as true but no accelerator is found, then "
    "device pinned memory won't be used."
)


def record(message: str, path: str) -> logging.LogRecord:
    return logging.LogRecord('x', logging.INFO, path, 1, message, None, None)


@pytest.mark.parametrize(
    'message',
    [
        '\n' + '-' * 60 + '\nSystem environment:\n    sys.platform: linux',
        'Config:\nmodel = dict()',
        'Hooks will be executed in the following order:\nbefore_run:',
        '"FileClient" will be deprecated in future. Please use io functions',
        '"HardDiskBackend" is the alias of "LocalBackend" and the former',
        'init_weights of SwAVNeck has been called more than once.',
        'Exp name: swav_20261128_015644',
    ],
)
def test_dumps_of_mmengine_are_for_the_file(message: str) -> None:
    path = mmengine.runner.runner.__file__
    assert not is_for_screen(record(message, path))
    # Who else says so is heard.
    assert is_for_screen(record(message, __file__))


@pytest.mark.parametrize(
    'message',
    [
        'ImageFolder: no image is labeled, since some lie outside',
        'The model and loaded state dict do not match exactly',
        'Saving checkpoint at 1 epochs',
        '"FileClient" got an unexpected backend',
        'init_weights of SwAVNeck failed',
        'Configuration is broken',
    ],
)
def test_real_messages_reach_the_screen(message: str) -> None:
    assert is_for_screen(record(message, mmengine.runner.runner.__file__))


def test_the_screen_gets_the_verdict_and_the_file_all_numbers() -> None:
    path = health.__file__
    assert is_for_screen(record('Health: OK, loss 0.822 ln K', path))
    assert not is_for_screen(record(f'{NUMBERS}loss_share 0.8', path))


def test_warnings_of_dependencies_about_themselves() -> None:
    def warn(message: str, module: str) -> None:
        warnings.warn_explicit(message, UserWarning, 'a.py', 1, module=module)

    with pytest.warns(UserWarning) as warned, quiet_dependencies():
        warn(PIN_MEMORY, 'torch.utils.data.dataloader')
        warn(PIN_MEMORY, 'users.loader')
        warn(
            "'pin_memory' failed on the accelerator",
            'torch.utils.data.dataloader',
        )
        warn('grad and param do not match', 'mmengine.model.wrappers')
    assert [str(entry.message) for entry in warned] == [
        PIN_MEMORY,
        "'pin_memory' failed on the accelerator",
        'grad and param do not match',
    ]


def test_prints_of_dependencies(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet_dependencies():
        print_log('Could not import OneDL', level=logging.DEBUG)
        print_log('Could not import OneDL. Skipping OneDL datasets.')
        print_log('Could not import COCO', level=logging.WARNING)
    assert capsys.readouterr().out == 'Could not import COCO\n'
    # Only commands are quiet, not whoever imported the package.
    print_log('Could not import OneDL')
    assert capsys.readouterr().out == 'Could not import OneDL\n'


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], None]:
    def write_image(name: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new('RGB', (8, 8)).save(path)

    return write_image


def test_data_is_described(
    tmp_path: Path, write: Callable[[str], None]
) -> None:
    write('cats/1.png')
    write('cats/2.png')
    write('dogs/1.png')
    folder = ImageFolder(str(tmp_path))
    assert describe_data(folder) == f'3 images in 2 folders of {tmp_path}'
    (tmp_path / 'list.txt').write_text('cats/1.png 0\ndogs/1.png 4\n')
    listed = ImageFolder(str(tmp_path), ann_file='list.txt')
    assert describe_data(listed) == f'2 images of 5 classes in {tmp_path}'
    write('loose.png')
    loose = ImageFolder(str(tmp_path))
    assert describe_data(loose) == f'4 images in 3 folders of {tmp_path}'
    # Anything else that mmengine takes.
    assert describe_data([1, 2]) == '2 images'


def test_models_are_described() -> None:
    backbone = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8)
    swav = MODELS.build(
        dict(
            type='SwAV',
            backbone=backbone,
            neck=dict(
                type='SwAVNeck', in_channels=64, hid_channels=0, out_channels=8
            ),
            head=dict(
                type='SwAVHead', num_prototypes=[3000, 20], queue_length=3840
            ),
        )
    )
    count = sum(p.numel() for p in swav.parameters())
    assert describe_model(swav) == (
        f'SwAV, backbone ResNet of 18 layers, {count:,} parameters, '
        '3,000 + 20 prototypes, queue of 3,840'
    )
    swav.head.requires_grad_(False)
    assert f'({count - 3020 * 8:,} of them trained)' in describe_model(swav)


def test_log_file_takes_names_of_any_bytes(tmp_path: Path) -> None:
    runner = object.__new__(CommandRunner)
    runner._experiment_name = 'names'
    log_file = tmp_path / 'names.log'
    logger = runner.build_logger('INFO', str(log_file))
    logger.info('unreadable: caf\udce9.jpg')
    assert 'unreadable: caf\\udce9.jpg' in log_file.read_text()


def test_one_of_something_is_not_several() -> None:
    """In what the log and the report say."""

    class One(list):
        num_classes = 1
        data_root = 'a'

    assert describe_data(One([0])) == '1 image of 1 class in a'
    report = dict(max_iters=1, iters_per_epoch=1, has_ended=True, iter=1)
    history = History({}, {}, [])
    told = describe_progress(history, report, dict(train_cfg={}))
    assert told == '1 of 1 iteration, finished'
    cfg = dict(train_cfg=dict(max_epochs=1))
    assert describe_progress(history, report, cfg) == '1 of 1 epoch, finished'
