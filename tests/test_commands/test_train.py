"""The command train and its shell scripts, as a user runs them."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from PIL import Image

from swav_plugin.commands import train
from swav_plugin.engine.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
BASES = ROOT / 'configs/selfsup/_base_'

# SwAV as it is trained, made small: 2 + 6 views, queue, LARS, frozen
# prototypes at first; GroupNorm, so that the split over processes is free.
CONFIG = """
_base_ = [
    '{bases}/models/swav_resnet18.py',
    '{bases}/datasets/imagenette_mcrop-2-6.py',
    '{bases}/schedules/lars_coslr_bs256.py',
    '{bases}/default_runtime.py',
]
norm_cfg = dict(type='GN', num_groups=4)
model = dict(
    backbone=dict(stem_channels=8, base_channels=8, norm_cfg=norm_cfg),
    neck=dict(
        in_channels=64, hid_channels=32, out_channels=16, norm_cfg=norm_cfg),
    head=dict(num_prototypes=20, queue_length=32))
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root='{images}'))
train_cfg = dict(max_epochs={epochs})
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(interval=1, max_keep_ckpts=2),
    swav=dict(freeze_prototypes_iters=3),
    report=None)
# The views of the recipe, on fewer pixels.
views = _base_.train_dataloader.dataset.pipeline
views[1].sizes = [48, 32]
train_dataloader['dataset']['pipeline'] = views
log_processor = dict(window_size=1)
"""


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty JPEGs: Imagenette's where they are, else drawn ones."""
    folder = tmp_path_factory.mktemp('images')
    data = Path(os.environ.get('SWAV_TEST_DATA', ROOT / '../shared/data'))
    real = sorted(data.glob('imagenette160/val/*/*'))[::40][:80]
    for number in range(80):
        path = folder / f'{number}.jpg'
        if len(real) == 80:
            path.symlink_to(real[number].resolve())
        else:
            rng = np.random.default_rng(number)
            coarse = rng.integers(256, size=(5, 5, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((96, 96)).save(path)
    return folder


@pytest.fixture
def config(tmp_path: Path, images: Path) -> Callable[..., str]:
    """Write the small config for some number of epochs; 10 steps each."""

    def write(
        epochs: int = 1, more: str = '', bases: Path | str = BASES
    ) -> str:
        path = tmp_path / 'small.py'
        text = CONFIG.format(bases=bases, images=images, epochs=epochs)
        path.write_text(text + more)
        return str(path)

    return write


@pytest.fixture
def train_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Train in this process; return the log file's text."""

    def run_main(config: str, work_dir: Path, *argv: str) -> str:
        monkeypatch.setattr(
            sys,
            'argv',
            [
                'train.py',
                config,
                '--work-dir',
                str(work_dir),
                *argv,
                '--cfg-options',
                f'experiment_name={time.monotonic_ns()}',
            ],
        )
        train.main()
        return max(work_dir.glob('*/*.log')).read_text()

    return run_main


@pytest.fixture
def build() -> Callable[..., tuple[Config, list[str]]]:
    """Return a function that builds the config of a command line."""

    def build_config(*argv: str) -> tuple[Config, list[str]]:
        return train.build_config(train.parse_args([*argv]))

    return build_config


@pytest.fixture
def in_float64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Lines for a config that train in float64.

    Processes need `tmp_path` in their PYTHONPATH. Over many steps float32 is
    off by as much as the processor likes.
    """
    (tmp_path / 'in_float64.py').write_text(
        'import torch\ntorch.set_default_dtype(torch.float64)\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "custom_imports = dict(imports=['in_float64'])\n"
    torch.set_default_dtype(torch.float32)
    sys.modules.pop('in_float64', None)


def environment(**changes: str) -> dict[str, str]:
    """Environment of a command: this checkout, one thread, loopback."""
    return {
        **os.environ,
        'PYTHONPATH': str(ROOT),
        'PYTHON': sys.executable,
        'OMP_NUM_THREADS': '1',
        'GLOO_SOCKET_IFNAME': 'lo',
        **changes,
    }


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def losses(work_dir: Path) -> dict[int, float]:
    """Logged loss of each iteration; of several runs the last counts."""
    logged = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            scalars = json.loads(line)
            if 'loss' in scalars:
                logged[scalars['iter']] = scalars['loss']
    return logged


def test_two_processes_give_the_losses_of_one(
    config: Callable[..., str],
    train_here: Callable[..., str],
    tmp_path: Path,
    in_float64: str,
) -> None:
    # Catches a loss, a gradient, a queue or an order of samples that
    # depends on the split over processes.
    path = config(epochs=2, more=in_float64)
    train_here(path, tmp_path / 'one')
    done = subprocess.run(
        [
            ROOT / 'tools/dist_train.sh',
            path,
            '2',
            '--work-dir',
            'two',
            '--cfg-options',
            'train_dataloader.batch_size=4',
        ],
        cwd=tmp_path,
        env=environment(
            PORT=free_port(), PYTHONPATH=f'{tmp_path}{os.pathsep}{ROOT}'
        ),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    # Nothing from the other rank, nor from dependencies about themselves.
    assert done.stdout.count('Batch: 4 per process x 2 processes = 8') == 1
    assert len(done.stdout.splitlines()) < 40, done.stdout
    one, two = losses(tmp_path / 'one'), losses(tmp_path / 'two')
    assert [*one] == [*two] == [*range(1, 21)]
    np.testing.assert_allclose(
        [*two.values()], [*one.values()], rtol=0, atol=1e-9
    )
    assert max(one.values()) - min(one.values()) > 0.1  # it moves


def test_config_that_builds_on_the_package(
    config: Callable[..., str], train_here: Callable[..., str], tmp_path: Path
) -> None:
    # mmengine then adds _scope_ to dicts, which not everything takes.
    train_here(config(), tmp_path / 'checkout')
    train_here(
        config(bases='swav_plugin::selfsup/_base_'), tmp_path / 'package'
    )
    assert losses(tmp_path / 'package') == losses(tmp_path / 'checkout')


FIVE_STEPS = "train_dataloader['dataset']['indices'] = 40\n"
OLD_LIST = """
del default_hooks['swav']
custom_hooks = [
    dict(type='SwAVHook', freeze_prototypes_iters=3, queue_begin_epoch=0),
    dict(type='SkippedImagesHook'),
]
"""
# Without a SwAVHook, and with more prototypes than it allowed.
OLD_LIST_WITHOUT = """
custom_hooks = [dict(type='SkippedImagesHook')]
model['head'] = dict(num_prototypes=50, queue_length=0)
"""


def test_configs_of_version_0_1_mean_the_same(
    config: Callable[..., str], train_here: Callable[..., str], tmp_path: Path
) -> None:
    log = train_here(config(more=FIVE_STEPS), tmp_path / 'new')
    assert 'custom_hooks names' not in log
    log = train_here(config(more=FIVE_STEPS + OLD_LIST), tmp_path / 'old')
    assert log.count('custom_hooks names SkippedImagesHook, SwAVHook') == 1
    assert losses(tmp_path / 'old') == losses(tmp_path / 'new')


def test_without_the_hook_nothing_is_frozen(
    config: Callable[..., str], train_here: Callable[..., str], tmp_path: Path
) -> None:
    """As in version 0.1, where a list replaced that of the recipe."""
    old = FIVE_STEPS + OLD_LIST_WITHOUT
    log = train_here(config(more=old), tmp_path / 'old')
    assert '(turned off: SwAVHook)' in log
    assert 'The config has no SwAVHook: prototypes are never frozen' in log
    new = "model['head'] = dict(num_prototypes=50, queue_length=0)\n"
    new += FIVE_STEPS
    off = new + "default_hooks['swav'] = None"
    train_here(config(more=off), tmp_path / 'off')
    assert losses(tmp_path / 'old') == losses(tmp_path / 'off')
    log = train_here(config(more=new), tmp_path / 'frozen')
    assert '50 prototypes share 8 images' in log
    assert losses(tmp_path / 'old') != losses(tmp_path / 'frozen')


def test_the_screen_shows_what_matters(
    config: Callable[..., str],
    train_here: Callable[..., str],
    tmp_path: Path,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    more = "train_dataloader['pin_memory'] = True"
    log = train_here(config(more=more), tmp_path / 'work')
    screen = capsys.readouterr().out
    for text in (
        f'Data (train): 80 images in 1 folder of {images}',
        'Model: SwAV, backbone ResNet of 18 layers, ',
        ', 20 prototypes, queue of 32',
        'Batch: 8 per process x 1 process = 8 images',
        'Length: 1 epoch of 10 iterations',
        f'Checkpoints: {tmp_path}/work',
        '[1][10/10]',
    ):
        assert text in screen and text in log
    assert screen.count('80 images') == 1
    for text in (
        'System environment:',
        'Config:',
        'Hooks will be executed in the following order:',
        '"FileClient" will be deprecated',
        'Exp name:',
    ):
        assert text not in screen and text in log
    assert 'Could not import OneDL' not in screen
    # Seven lines before ten of progress and one about the checkpoint.
    assert len(screen.splitlines()) < 25, screen
    assert not [w for w in recwarn if 'pin_memory' in str(w.message)]


def test_pretrained_fills_the_backbone(
    config: Callable[..., str], train_here: Callable[..., str], tmp_path: Path
) -> None:
    path = config()
    train_here(path, tmp_path / 'first')
    weights = tmp_path / 'first/epoch_1.pth'
    log = train_here(
        config(more='optim_wrapper = dict(optimizer=dict(lr=0.))'),
        tmp_path / 'second',
        '--pretrained',
        str(weights),
    )
    first, second = [
        torch.load(folder / 'epoch_1.pth', weights_only=False)['state_dict']
        for folder in (tmp_path / 'first', tmp_path / 'second')
    ]
    filled = [key for key in first if key.startswith('backbone.')]
    assert f'Filled {len(filled)} backbone tensors from {weights}' in log
    assert all(torch.equal(first[key], second[key]) for key in filled)
    # Only the backbone: the projection is as it was initialized.
    key = 'neck.projection.0.weight'
    assert not torch.equal(first[key], second[key])


def test_pretrained_weights_are_read_once(
    config: Callable[..., str],
    train_here: Callable[..., str],
    tmp_path: Path,
    opened: list[str],
) -> None:
    train_here(config(), tmp_path / 'first')
    weights = str(tmp_path / 'first/epoch_1.pth')
    opened.clear()
    log = train_here(config(), tmp_path / 'second', '--pretrained', weights)
    # Once for the weights, once to compare them with the digest beside them,
    # and once for the hash that checkpoints keep.
    assert opened.count(weights) == 3
    assert log.count('backbone tensors from') == 1
    newest = str(tmp_path / 'second/epoch_1.pth')
    opened.clear()
    train_here(
        config(epochs=2),
        tmp_path / 'second',
        '--resume',
        '--pretrained',
        weights,
    )
    assert opened.count(weights) == 1  # the hash
    # Once each, and once for its digest, by the search for a good one, which
    # compares checksums; by the check before images are looked for; and by
    # the Runner.
    assert opened.count(newest) == 6


def test_broken_image_is_counted_in_the_log(
    config: Callable[..., str], train_here: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / 'photos'
    folder.mkdir()
    for number in range(15):
        image = Image.new('RGB', (40, 40), (number, 99, 0))
        image.save(folder / f'{number}.jpg')
    (folder / 'text.jpg').write_text('no image')
    more = f"train_dataloader['dataset']['data_root'] = '{folder}'"
    work_dir = tmp_path / 'work'
    log = train_here(config(epochs=2, more=more), work_dir)
    for iteration in (2, 4):
        assert (
            f'Iteration {iteration}: unreadable images since the last '
            'count: 1. Others'
        ) in log
    entries = (work_dir / 'skipped_images.txt').read_text().splitlines()
    assert len(entries) == 1 and entries[0].startswith(f'{folder}/text.jpg: ')


def test_mixed_precision_on_cpu(
    config: Callable[..., str], train_here: Callable[..., str], tmp_path: Path
) -> None:
    path = config(more="train_dataloader['dataset']['indices'] = 16")
    log = train_here(path, tmp_path / 'amp', '--amp')
    assert 'Mixed precision: bfloat16 on the CPU.' in log
    train_here(path, tmp_path / 'full')
    half, full = losses(tmp_path / 'amp'), losses(tmp_path / 'full')
    difference = abs(half[1] - full[1])
    # bfloat16 keeps 8 bits: near, yet not float32's.
    assert 1e-6 < difference < 0.1


BY_ITERATION = """
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2)
default_hooks['checkpoint'] = dict(by_epoch=False, interval=2)
"""
# Fails in a process that imports anything else than torch.
PLAIN_TORCH = """
import sys, torch
state = torch.load(sys.argv[1], weights_only=True)
assert not {'swav_plugin', 'mmengine', 'mmcv'} & {*sys.modules}
assert state['state_dict']['head.queue.features'].shape == (2, 32, 16)
assert state['optimizer']['state'] and state['param_schedulers']
assert state['message_hub']['log_scalars']['train/loss']['values'].numel()
print(*sorted(state))
"""


@pytest.mark.parametrize('loop', [FIVE_STEPS, BY_ITERATION])
def test_plain_torch_reads_the_checkpoints(
    loop: str,
    config: Callable[..., str],
    train_here: Callable[..., str],
    tmp_path: Path,
) -> None:
    """LARS, queue, schedulers and logs, mixed precision, averaged weights."""
    averages = "custom_hooks = [dict(type='EMAHook')]\n"
    train_here(config(more=averages + loop), tmp_path / 'w', '--amp')
    (path,) = (tmp_path / 'w').glob('*_[12].pth')
    done = subprocess.run(
        [sys.executable, '-I', '-c', PLAIN_TORCH, str(path)],
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [
        'ema_state_dict',
        'health',
        'message_hub',
        'meta',
        'optimizer',
        'param_schedulers',
        'state_dict',
    ], done.stderr


@pytest.mark.parametrize(
    'more, message',
    [
        (
            "model['head']['epsilom'] = 3",
            "model.head: SwAVHead has no argument 'epsilom'; did you mean "
            'epsilon?',
        ),
        (
            "model['neck']['type'] = 'SwAVNek'",
            "model.neck: there is no 'SwAVNek'; did you mean SwAVNeck",
        ),
        ("model['backbone']['depth'] = 19", 'model.backbone: ResNet: invalid'),
        (
            "views[1]['flip_probs'] = 1.0",
            'train_dataloader.dataset.pipeline.1: MultiCrop has no argument '
            "'flip_probs'; did you mean flip_prob",
        ),
        (
            "custom_hooks = [dict(type='EMAHok')]",
            "custom_hooks.0: there is no 'EMAHok'; did you mean EMAHook",
        ),
        (
            "train_dataloader['sampler'] = dict(type='KeyedSampler', sed=1)",
            "train_dataloader.sampler: KeyedSampler has no argument 'sed'; "
            'did you mean seed',
        ),
        (
            "param_scheduler = [dict(type='CosineAnealingLR', T_max=1)]",
            "param_scheduler.0: there is no 'CosineAnealingLR'; did you mean "
            'CosineAnnealingLR',
        ),
        (
            "param_scheduler = [dict(type='CosineAnealingLR', T_max=1, "
            'by_epoch=True, convert_to_iter_based=True)]',
            "param_scheduler.0: there is no 'CosineAnealingLR'; did you mean "
            'CosineAnnealingLR',
        ),
        (
            "param_scheduler = [dict(type='CosineAnnealingLR', eta_minn=1, "
            'by_epoch=True, convert_to_iter_based=True)]',
            "param_scheduler.0: CosineAnnealingLR has no argument 'eta_minn'; "
            'did you mean eta_min',
        ),
        (
            "model['head'] = dict(_delete_=True, num_prototypes=4)",
            'the config: there is no type: {',
        ),
        (
            "model['backbone']['norm_cfg'] = dict(type='BNN')",
            "model.backbone.norm_cfg: there is no 'BNN'; did you mean BN",
        ),
        (
            "model['init_cfg'] = dict(type='Kaimingg', layer='Linear')",
            "model.init_cfg: there is no 'Kaimingg'; did you mean Kaiming",
        ),
        (
            "train_dataloader['collate_fn'] = dict(type='colate_views')",
            "train_dataloader.collate_fn: there is no 'colate_views'; did you "
            'mean collate_views',
        ),
        (
            "optim_wrapper = dict(type='OptimWraper')",
            "optim_wrapper: there is no 'OptimWraper'; did you mean Opt",
        ),
        (
            "train_cfg = dict(max_epochs='ten')",
            'train_cfg: EpochBasedTrainLoop: invalid literal for int()',
        ),
        (
            "optim_wrapper = dict(optimizer=dict(type='LARS', lr=1, decay=1))",
            "optim_wrapper.optimizer: LARS has no argument 'decay'",
        ),
    ],
)
def test_misspelt_types_and_arguments_are_one_line(
    config: Callable[..., str],
    train_here: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    more: str,
    message: str,
) -> None:
    with pytest.raises(SystemExit):
        train_here(config(more=more), tmp_path)
    (line,) = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line.startswith('train.py: error: ')
    ]
    assert message in line


def test_a_pipeline_that_cannot_work_is_one_line(
    config: Callable[..., str],
    train_here: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    # It is found here and not in a worker, which would print a traceback.
    (tmp_path / 'own_loader.py').write_text(
        'import numpy as np\n'
        'from swav_plugin.registry import TRANSFORMS\n'
        '@TRANSFORMS.register_module()\n'
        'def OwnLoader(order):\n'
        '    def load(results):\n'
        '        img = np.zeros((9, 9, 3), np.uint8)\n'
        '        return results | dict(img=img, channel_order=order)\n'
        '    return load\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = config(
        more="custom_imports = dict(imports=['own_loader'])\n"
        "views[0] = dict(type='OwnLoader', order='bgr')\n"
        'train_dataloader.update(num_workers=1)\n'
    )
    with pytest.raises(SystemExit) as ended:
        train_here(path, tmp_path / 'w')
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert 'train.py: error: MultiCrop takes RGB images' in printed
    assert "says 'bgr'" in printed and 'Traceback' not in printed


def test_a_backbone_that_does_not_fit_is_one_line(
    config: Callable[..., str],
    train_here: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    path = config(more="model['neck']['in_channels'] = 63\n")
    with pytest.raises(SystemExit) as ended:
        train_here(path, tmp_path / 'w')
    assert ended.value.code == 2
    assert (
        'train.py: error: the backbone gave [(16, 64, 2, 2)], but SwAVNeck '
        'expects (N, 63' in capsys.readouterr().err
    )


def test_a_training_that_diverges_stops_and_keeps_what_is_good(
    config: Callable[..., str],
    train_here: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    path = config(epochs=1)
    train_here(path, tmp_path)
    good = (tmp_path / 'epoch_1.pth').read_bytes()
    path = config(
        epochs=3, more='optim_wrapper = dict(optimizer=dict(lr=1e38))'
    )
    with pytest.raises(SystemExit) as ended:
        train_here(path, tmp_path, '--resume')
    assert ended.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r'train.py: error: iteration 1\d: loss is nan, at', error)
    assert f'checkpoint is {tmp_path}/epoch_1.pth' in error
    assert [p.name for p in tmp_path.glob('*.pth')] == ['epoch_1.pth']
    assert (tmp_path / 'epoch_1.pth').read_bytes() == good


def test_missing_config_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, 'argv', ['train.py', 'configs/defalt_runtim.py'])
    with pytest.raises(SystemExit) as exit_info:
        train.main()
    assert exit_info.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count('\n') == 1
    assert printed.startswith(
        'train.py: error: there is no config configs/defalt_runtim.py; did '
        'you mean '
    )
    assert 'default_runtime.py' in printed


def test_torchrun_ends_with_the_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / 'tools/dist_train.sh', 'nowhere.py', '2'],
        cwd=tmp_path,
        env=environment(PORT=free_port()),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    # The summary closes with a line of signs.
    *_, last, _ = [line for line in done.stderr.splitlines() if line.strip()]
    assert last.endswith('there is no config nowhere.py')
    assert 'swav_plugin/' not in done.stderr  # no traceback of ours
    line = 'train.py: error: there is no config nowhere.py'
    # Of each process, unless torchrun ends the second before it says so.
    assert done.stderr.count(line) in (1, 2)


def test_work_dir(
    build: Callable[..., tuple[Config, list[str]]],
    config: Callable[..., str],
    tmp_path: Path,
) -> None:
    assert build(config())[0].work_dir == 'work_dirs/small'
    with_own = config(more="work_dir = 'own'")
    assert build(with_own)[0].work_dir == 'own'
    assert build(with_own, '--work-dir', 'd')[0].work_dir == 'd'
    # bash leaves the ~ of --work-dir=~/d.
    home = os.path.expanduser('~')
    assert build(with_own, '--work-dir=~/d')[0].work_dir == f'{home}/d'
    with pytest.raises(UsageError, match='the name is not UTF-8'):
        build(with_own, '--work-dir', os.fsdecode(b'caf\xe9'))
    # Benchmarks of two checkpoints have a folder each.
    (tmp_path / 'mine').mkdir()
    weights = tmp_path / 'mine/epoch_8.pth'
    weights.touch()
    assert build(config(), '--pretrained', str(weights))[0].work_dir == (
        'work_dirs/small/mine-epoch_8'
    )
    assert build(config(), '--pretrained', 'random')[0].work_dir == (
        'work_dirs/small/random'
    )


def test_resume_arguments(
    build: Callable[..., tuple[Config, list[str]]],
    config: Callable[..., str],
    tmp_path: Path,
) -> None:
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    command = (config(), '--work-dir', str(work_dir), '--resume')
    cfg, notes = build(*command)
    assert not cfg.resume
    assert notes == [
        f'--resume: no checkpoint in {work_dir}, training starts '
        'from the beginning.'
    ]
    torch.save({}, work_dir / 'epoch_3.pth')
    (work_dir / 'epoch_4.pth').touch()
    third = str(work_dir / 'epoch_3.pth')
    says = [
        f'{work_dir}/epoch_4.pth is not a checkpoint but an empty file; copy '
        f'or download it again. Going back to {third}.',
        f'--resume: continuing from {third}.',
    ]
    cfg, notes = build(*command)
    assert cfg.resume and cfg.load_from == third and notes == says
    # mmengine's key means the same.
    cfg, notes = build(config(more='resume = True'), *command[1:3])
    assert cfg.resume and cfg.load_from == third and notes == says
    cfg, _ = build(*command, f'file://{third}')
    assert cfg.load_from == third
    with pytest.raises(ValueError, match='is a folder; give a file in it'):
        build(*command, str(work_dir))
    with pytest.raises(ValueError, match='there is no checkpoint .*9.pth'):
        build(*command, str(work_dir / 'epoch_9.pth'))


def test_bad_checkpoints_are_one_line(
    config: Callable[..., str],
    train_here: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whether they are to be resumed or to fill the backbone."""
    train_here(config(), tmp_path / 'work')
    whole = tmp_path / 'work/epoch_1.pth'
    state = torch.load(whole)
    bad = tmp_path / 'bad.pth'

    def error(*argv: str) -> str:
        with pytest.raises(SystemExit) as exit_info:
            train_here(config(epochs=2), tmp_path / 'other', *argv)
        assert exit_info.value.code == 2
        *_, last = capsys.readouterr().err.splitlines()
        assert last.startswith(f'train.py: error: {bad}')
        return last

    bad.write_text('<html>')
    for option in ('--resume', '--pretrained'):
        assert 'not a checkpoint but a web page' in error(option, str(bad))
    torch.save(state, bad, _use_new_zipfile_serialization=False)
    content = bad.read_bytes()
    bad.write_bytes(content[: len(content) // 2])
    for option in ('--resume', '--pretrained'):
        assert 'it is cut off or damaged' in error(option, str(bad))
    for option, part, key in (
        ('--resume', 'state_dict', 'neck.projection.0.weight'),
        ('--pretrained', 'state_dict', 'backbone.conv1.weight'),
        ('--resume', 'optimizer', 'optimizer.state.0.momentum_buffer'),
    ):
        spoiled = torch.load(whole)
        if part == 'optimizer':
            spoiled['optimizer']['state'][0]['momentum_buffer'][0] = torch.inf
        else:
            spoiled[part][key][0] = torch.nan
        torch.save(spoiled, bad)
        name = key.removeprefix('backbone.')
        assert f'{name} is not finite' in error(option, str(bad))
    for spoiled in (
        {**state, 'meta': {'epoch': '1', 'iter': 1}},
        {key: value for key, value in state.items() if key != 'message_hub'},
        [1],
    ):
        torch.save(spoiled, bad)
        assert 'cannot be resumed' in error('--resume', str(bad))


def test_text_of_a_checkpoint_is_not_executed(
    config: Callable[..., str], train_here: Callable[..., str], tmp_path: Path
) -> None:
    work, trace = tmp_path / 'work', tmp_path / 'trace'
    train_here(config(), work)
    state = torch.load(work / 'epoch_1.pth')
    text = f'import pathlib\npathlib.Path({str(trace)!r}).touch()\nx = 1\n'
    for key in ('config', 'cfg'):
        state['meta'][key] = text
    state['message_hub']['runtime_info']['cfg'] = text
    torch.save(state, work / 'epoch_1.pth')
    log = train_here(config(epochs=2), work, '--resume')
    assert 'Epoch(train) [2]' in log and not trace.exists()
    # mmengine makes a config of these when it is given weights alone.
    loaded = CheckpointLoader.load_checkpoint(str(work / 'epoch_1.pth'))
    assert 'cfg' not in loaded['meta']
    assert 'cfg' not in loaded['message_hub']['runtime_info']


def test_pretrained_arguments(
    build: Callable[..., tuple[Config, list[str]]],
    config: Callable[..., str],
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match='there is no checkpoint w.pth'):
        build(config(), '--pretrained', 'w.pth')
    weights = tmp_path / 'w.pth'
    weights.touch()
    with pytest.raises(ValueError, match="and load_from = 'x.pth' both"):
        build(config(more="load_from = 'x.pth'"), '--pretrained', str(weights))


def test_pretrained_names_the_weights_of_the_one_hook(
    build: Callable[..., tuple[Config, list[str]]],
    config: Callable[..., str],
) -> None:
    cfg, _ = build(config(), '--pretrained', 'random')
    assert cfg.default_hooks.pretrained == dict(
        type='swav_plugin.engine.PretrainedHook', checkpoint='random'
    )
    assert 'swav' in cfg.default_hooks and 'custom_hooks' not in cfg
    # Lists of version 0.1, with and without it.
    own = "custom_hooks = [dict(type='PretrainedHook', checkpoint=None)]"
    cfg, _ = build(config(more=own), '--pretrained', 'random')
    assert cfg.custom_hooks[0].checkpoint == 'random'
    assert 'pretrained' not in cfg.default_hooks
    other = "custom_hooks = [dict(type='SkippedImagesHook')]"
    cfg, _ = build(config(more=other), '--pretrained', 'random')
    assert cfg.default_hooks.pretrained.checkpoint == 'random'
    assert len(cfg.custom_hooks) == 1


@pytest.mark.parametrize(
    'arguments', [[], ['config.py'], ['config.py', 'x'], ['config.py', '0']]
)
def test_dist_train_usage(arguments: list[str]) -> None:
    done = subprocess.run(
        [ROOT / 'tools/dist_train.sh', *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert 'CONFIG GPUS' in done.stderr


def test_slurm_train(tmp_path: Path) -> None:
    """With an `srun` that prints its arguments, then runs the command."""
    fake = tmp_path / 'srun'
    fake.write_text(
        '#!/bin/bash\n'
        'while [[ $1 == --* ]]; do echo "$1"; shift; done\n'
        'exec "$@"\n'
    )
    fake.chmod(0o755)
    env = environment(
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        GPUS='16',
        SRUN_ARGS='--qos=high --exclude=n7',
    )
    script = ROOT / 'tools/slurm_train.sh'
    done = subprocess.run(
        [script, 'part', 'job', 'nowhere.py'],
        capture_output=True,
        text=True,
        env=env,
    )
    assert done.returncode == 2 and 'PARTITION JOB CONFIG' in done.stderr
    done = subprocess.run(
        [script, 'part', 'job', 'nowhere.py', 'work', '--amp'],
        capture_output=True,
        text=True,
        env=env,
    )
    assert done.stdout.split() == [
        '--partition=part',
        '--job-name=job',
        '--gres=gpu:8',
        '--ntasks=16',
        '--ntasks-per-node=8',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        '--signal=USR1@120',
        '--qos=high',
        '--exclude=n7',
    ]
    # train.py got as far as looking for the config.
    assert done.returncode == 2
    assert done.stderr == 'train.py: error: there is no config nowhere.py\n'
