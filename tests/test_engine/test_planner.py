"""The planner: its rules, what it refuses, its costs and its configs."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from swav_plugin.engine.config import load_config
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.planner import (
    Situation,
    evidence,
    make_plan,
    write_config,
)
from swav_plugin.engine.planner.costs import (
    BACKBONES,
    CPU_SPEED,
    CUT_S,
    DECODE_S,
    SPEEDS,
    WORKER_SHARE,
    Views,
    loader_images_per_s,
    step_bytes,
)
from swav_plugin.registry import MODELS

from ..conftest import REPO_ROOT

RECIPES = REPO_ROOT / 'configs/selfsup/swav'
RECORD = json.loads(
    (
        REPO_ROOT / 'benchmarks/results/gpu_NVIDIA-H200_2026-11-28.json'
    ).read_text()
)
IMAGENET = Views(((2, 224, (0.14, 1.0)), (6, 96, (0.05, 0.14))))
IMAGENETTE = Views(((2, 128, (0.14, 1.0)), (6, 64, (0.05, 0.14))))

PHOTOS = Situation(800, gpus=0, memory_gb=16, num_classes=10, short_edge=160)
FEW = Situation(1300, gpus=1, memory_gb=24, num_classes=10, short_edge=160)
SOME = Situation(10_000, gpus=1, memory_gb=24, short_edge=160)
MANY = Situation(1_281_167, gpus=8, memory_gb=80, num_classes=1000)


def numbers(situation: Situation, *names: str) -> tuple:
    """Return numbers of a plan."""
    plan = make_plan(situation)
    return tuple(plan[name] for name in names)


def read(situation: Situation, folder: Path) -> Config:
    """Read the config of a plan as `swav train` does."""
    path = folder / 'plan.py'
    path.write_text(write_config(make_plan(situation)))
    return load_config(str(path))


# --- costs


def kept_bytes(name: str, num_images: int, size: int, amp: bool) -> int:
    """Count what a forward pass keeps for the backward pass."""
    config: dict[str, Any] = dict(
        type='ResNet', norm_cfg=dict(type='BN'), zero_init_residual=False
    )
    config.update(BACKBONES[name].config)
    config.pop('_delete_', None)
    # Autocast casts nothing on the meta device.
    device = 'cpu' if amp else 'meta'
    backbone = MODELS.build(config).to(device)
    own = {
        tensor.untyped_storage()._cdata
        for tensor in (*backbone.parameters(), *backbone.buffers())
    }
    kept = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # alive, so no number comes twice
        return tensor

    images = torch.zeros(num_images, 3, size, size, device=device)
    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast('cpu', torch.bfloat16, enabled=amp),
    ):
        output = backbone(images)[-1].mean()
    assert output.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(
    'name, size', [*((name, 64) for name in BACKBONES), ('ResNet-18', 96)]
)
def test_bytes_kept_by_each_pixel(name: str, size: int) -> None:
    one, two = (kept_bytes(name, n, size, amp=False) for n in (2, 4))
    assert (two - one) / 2 / size**2 == BACKBONES[name].kept_fp32


def test_bytes_kept_in_bfloat16() -> None:
    name = 'ResNet-18 at a quarter of its width'
    one, two = (kept_bytes(name, n, 64, amp=True) for n in (2, 4))
    assert (two - one) / 2 / 64**2 == BACKBONES[name].kept_amp


@pytest.mark.parametrize('name', BACKBONES)
def test_parameters_and_channels(name: str) -> None:
    config = dict(
        dict(type='ResNet', norm_cfg=dict(type='BN')), **BACKBONES[name].config
    )
    config.pop('_delete_', None)
    backbone = MODELS.build(config).to('meta')
    assert BACKBONES[name].num_parameters == sum(
        parameter.numel() for parameter in backbone.parameters()
    )
    output = backbone(torch.zeros(1, 3, 64, 64, device='meta'))[-1]
    assert BACKBONES[name].num_channels == output.shape[1]


def test_memory_is_what_a_gpu_measured() -> None:
    resnet50 = step_bytes(
        BACKBONES['ResNet-50'], IMAGENET, 64, True, 3000, 2048, 128, 1
    )
    measured = RECORD['end_to_end']['rows'][0]['memory_gib'] * 2**30
    assert resnet50 == pytest.approx(measured, rel=0.1)
    resnet18 = step_bytes(
        BACKBONES['ResNet-18'], IMAGENETTE, 256, True, 3000, 2048, 128, 2
    )
    measured = RECORD['imagenette']['memory_mb'] * 2**20
    assert resnet18 == pytest.approx(measured, rel=0.1)


def test_speeds_are_those_of_the_record() -> None:
    large, small = SPEEDS['large'][0], SPEEDS['small'][0]
    rows = RECORD['end_to_end']['rows']
    assert large.images_per_s == rows[0]['images_per_s']
    assert large.pixels == IMAGENET.pixels
    assert small.images_per_s == RECORD['imagenette']['images_per_s_median']
    assert small.pixels == IMAGENETTE.pixels
    assert CPU_SPEED.images_per_s_of(
        BACKBONES['ResNet-18 at a quarter of its width'], 10_240, amp=False
    ) == pytest.approx(CPU_SPEED.images_per_s)


def measured(name: str) -> dict:
    """Read a record of a benchmark."""
    return json.loads((REPO_ROOT / 'benchmarks/results' / name).read_text())


def test_the_loader_is_as_fast_as_its_records() -> None:
    views = {
        row['name']: row['median_ms'] / 1000
        for row in measured('views_cpu_2026-11-28.json')['results']
    }
    photo = 187_552
    assert DECODE_S * photo == pytest.approx(views['decoding alone'])
    cut = views['swav_plugin, images in memory']
    assert CUT_S * IMAGENET.pixels == pytest.approx(cut)
    # Both together make the time of the whole, which was measured, too.
    alone = loader_images_per_s(photo, IMAGENET, 0, in_memory=False)
    assert 1 / alone == pytest.approx(views['swav_plugin'], rel=0.05)
    two = measured('workers_cpu_2026-11-28.json')['workers'][1]
    assert loader_images_per_s(
        photo, IMAGENET, two['num_workers'], in_memory=False
    ) == pytest.approx(two['images_per_s'], rel=0.05)
    assert 0.7 < WORKER_SHARE < 0.75
    in_memory = loader_images_per_s(photo, IMAGENET, 1, in_memory=True)
    assert in_memory == pytest.approx(WORKER_SHARE / cut)


# --- rules: equal to recipes that somebody measured


def _same(cfg: Config, recipe: str, *keys: str) -> None:
    """Check that a plan and a recipe agree in keys 'a.b.c'."""
    expected = Config.fromfile(str(RECIPES / f'{recipe}.py'))
    for key in keys:
        one, other = cfg, expected
        for part in key.split('.'):
            at = int(part) if part.isdigit() else part
            one, other = one[at], other[at]
        assert _plain(one) == _plain(other), key


def _plain(value: Any) -> Any:
    """Return a part of a config without where its types are looked up."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k != '_scope_'}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value


ALL = (
    'model.backbone',
    'model.neck',
    'model.head',
    'train_dataloader.batch_size',
    'optim_wrapper.optimizer',
    'param_scheduler',
    'default_hooks.swav',
)


def test_imagenet_is_upstreams_recipe(tmp_path: Path) -> None:
    recipe = 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96'
    cfg = read(MANY, tmp_path)
    _same(cfg, recipe, *ALL, 'train_cfg')
    _same_views(cfg, recipe)


def test_64_gpus_are_upstreams_recipe(tmp_path: Path) -> None:
    recipe = 'swav_resnet50_64xb64-mcrop-2-6-coslr-200e_in1k-224-96'
    _same(read(replace(MANY, gpus=64), tmp_path), recipe, *ALL, 'train_cfg')


def test_one_small_gpu_accumulates(tmp_path: Path) -> None:
    recipe = 'swav_resnet50_1xb64-accum4-mcrop-2-6-coslr-200e_in1k-224-96'
    cfg = read(replace(MANY, gpus=1, memory_gb=16), tmp_path)
    more = ('optim_wrapper.accumulative_counts', 'auto_scale_lr')
    _same(cfg, recipe, *ALL, *more)


def test_some_thousand_photos_are_lightlys_recipe(tmp_path: Path) -> None:
    recipe = 'swav_resnet18_1xb256-mcrop-2-6-coslr-200e_imagenette-128-64'
    cfg = read(SOME, tmp_path)
    _same(cfg, recipe, *ALL, 'train_cfg.max_epochs')
    _same_views(cfg, recipe)


def test_many_tiny_images_are_lightlys_recipe(tmp_path: Path) -> None:
    cfg = read(replace(SOME, num_images=50_000, short_edge=32), tmp_path)
    recipe = 'swav_resnet18_1xb512-mcrop-2-coslr-200e_cifar10-32'
    _same(cfg, recipe, *ALL, 'train_cfg.max_epochs')
    assert cfg.train_dataloader.dataset.pipeline[1].sizes == [32]


def _same_views(cfg: Config, recipe: str) -> None:
    """Check that the views are those of a recipe."""
    expected = Config.fromfile(str(RECIPES / f'{recipe}.py'))
    views, other = (
        dict(each.train_dataloader.dataset.pipeline[1])
        for each in (cfg, expected)
    )
    for default in ('aspect_ratio_range', 'sigma_range'):
        other.pop(default)
    assert views == other


# --- rules, one by one


@pytest.mark.parametrize(
    'num_images, batch_size, epochs',
    [(128, 32, 800), (800, 64, 600), (1300, 128, 720), (10_000, 256, 200)],
)
def test_batch_and_epochs_follow_the_number_of_images(
    num_images: int, batch_size: int, epochs: int
) -> None:
    situation = replace(FEW, num_images=num_images)
    found = numbers(situation, 'batch_size', 'epochs')
    assert found == (batch_size, epochs)


@pytest.mark.parametrize(
    'gpus, short_edge, num_images, sizes, backbone',
    [
        (0, 500, 800, [64, 32], 'ResNet-18 at a quarter of its width'),
        (0, 32, 800, [32, 16], 'three stages of 16 to 64 channels'),
        (1, 32, 800, [32], 'ResNet-18 with the CIFAR stem'),
        (1, 96, 800, [64, 32], 'ResNet-18'),
        (1, 160, 10**6, [128, 64], 'ResNet-18'),
        (1, 375, 30_000, [224, 96], 'ResNet-18'),
        (1, 375, 60_000, [224, 96], 'ResNet-50'),
    ],
)
def test_views_and_network(
    gpus: int,
    short_edge: int,
    num_images: int,
    sizes: list[int],
    backbone: str,
) -> None:
    plan = make_plan(
        Situation(num_images, gpus, memory_gb=80, short_edge=short_edge)
    )
    assert [size for _, size, _ in plan['views'].groups] == sizes
    assert plan['backbone'].name == backbone


@pytest.mark.parametrize(
    'num_classes, num_prototypes',
    [(None, 100), (2, 30), (10, 100), (37, 370), (900, 3000)],
)
def test_prototypes_of_few_images_follow_the_classes(
    num_classes: int | None, num_prototypes: int
) -> None:
    situation = replace(FEW, num_classes=num_classes)
    found = numbers(situation, 'num_prototypes', 'epsilon', 'queue_length')
    assert found == (num_prototypes, 0.03, 0)


def test_a_queue_holds_whole_batches() -> None:
    for gpus in (1, 3, 5, 8, 16):
        plan = make_plan(replace(MANY, gpus=gpus))
        assert plan['queue_length'] % plan.total_batch == 0
        assert 3000 < plan['queue_length'] + plan.total_batch <= 4096


def test_less_memory_means_smaller_batches() -> None:
    sizes = [
        numbers(replace(SOME, memory_gb=gb), 'batch_size')[0]
        for gb in (24, 6, 4, 3)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 256 and 32 <= sizes[-1] < 256


def test_more_images_than_hours_end_early() -> None:
    full = make_plan(SOME)
    half = make_plan(replace(SOME, hours=full['hours'] / 2))
    assert half['epochs'] == full['epochs'] // 2
    ample = make_plan(replace(SOME, hours=full['hours'] * 2))
    assert ample['epochs'] == full['epochs']


def test_gray_images_keep_only_brightness_and_contrast(
    tmp_path: Path,
) -> None:
    views = read(
        replace(FEW, is_gray=True), tmp_path
    ).train_dataloader.dataset.pipeline[1]
    assert views.saturation == views.hue == views.grayscale_prob == 0
    assert views.brightness == views.contrast == 0.4


def test_images_stay_in_memory_if_they_are_few() -> None:
    small = replace(FEW, mean_pixels=160 * 200)
    assert numbers(small, 'in_memory') == (True,)
    assert numbers(FEW, 'in_memory') == (False,)
    large = replace(small, mean_pixels=4000 * 3000)
    assert numbers(large, 'in_memory') == (False,)


def test_hours_follow_the_slower_of_network_and_loader() -> None:
    small = replace(PHOTOS, mean_pixels=160 * 213, cores=2)
    assert make_plan(small)['hours'] == pytest.approx(
        600 * 800 / CPU_SPEED.images_per_s / 3600
    )
    large = replace(small, mean_pixels=4000 * 3000)
    plan = make_plan(large)
    assert plan['hours'] > 10 * make_plan(small)['hours']
    reason = plan.reasons['hours']
    assert 'as one data worker can load no more images of 12 megapixels' in (
        reason
    )
    assert 'or smaller copies of the images make it faster' in reason
    # Eight cards and four cores.
    few = replace(MANY, cores=4)
    assert make_plan(few)['num_workers'] == 1
    assert make_plan(few)['hours'] > 7 * make_plan(MANY)['hours']
    assert '8 data workers' in make_plan(few).reasons['hours']
    # One core does both, one after the other.
    one = make_plan(replace(small, cores=1))
    assert one['num_workers'] == 0
    assert one['hours'] > make_plan(small)['hours']


def test_a_plan_of_weeks_is_told(tmp_path: Path) -> None:
    long = replace(MANY, gpus=1, memory_gb=16)
    (warning,) = make_plan(long).warnings
    assert warning.startswith('this plan takes 29 days: plan for the time ')
    assert 'Note: this plan takes 29 days' in write_config(make_plan(long))
    assert not make_plan(replace(long, hours=48)).warnings


def test_a_cpu_keeps_memory_for_its_system() -> None:
    plan = make_plan(replace(PHOTOS, num_images=10_000, memory_gb=2.2))
    assert plan['batch_size'] == 64  # 128 take 1.7 GB and their gaps
    assert plan['memory'] < 0.75 * 2.2
    assert (
        '25% of the memory are left to the system' in (plan.reasons['memory'])
    )


@pytest.mark.parametrize('num_images', [4_999, 5_001])
def test_the_jump_of_k_has_its_reason(num_images: int) -> None:
    for short_edge in (32, 160):
        plan = make_plan(
            replace(SOME, num_images=num_images, short_edge=short_edge)
        )
        reason = plan.reasons['num_prototypes']
        assert 'few and epsilon .03 up to 5,000 images, more' in reason
        assert evidence.compare('K 100, epsilon .03', 'K 3000') in reason
        assert 'nothing was measured: try both' in reason


def test_a_config_names_nothing_that_a_wheel_lacks() -> None:
    for situation in (PHOTOS, FEW, SOME, MANY):
        text = write_config(make_plan(situation))
        assert 'benchmarks/' not in text and 'docs/' not in text


# --- refusals: one line, with what would do


@pytest.mark.parametrize(
    'situation, message',
    [
        (
            replace(PHOTOS, num_images=127),
            '127 images are too few .* needs 128 .* swav zoo list',
        ),
        (replace(PHOTOS, short_edge=12), 'only 12 px .* enlarge the images'),
        (
            replace(FEW, memory_gb=1.6),
            '--memory 1.6: ResNet-18 on 2x128 .* needs 3 GB .* larger card',
        ),
        (
            replace(MANY, memory_gb=2),
            '--memory 2: ResNet-50 .* needs 4 GB .* batches of 8',
        ),
        (
            replace(SOME, hours=0.01),
            '--hours 0.01 allow 1 epochs .* 10 are the least .* give 0.07 h',
        ),
        (
            replace(PHOTOS, gpus=9),
            'batches of 64, which leaves 7 for each of 9 GPUs; use 8 at most',
        ),
        (replace(PHOTOS, gpus=-1), '--gpus -1: give 0 or more'),
        (replace(PHOTOS, num_classes=0), '--classes 0: give 2 or more'),
        (
            replace(PHOTOS, num_images=200, num_classes=1000),
            '--classes 1,000 are more than the images, 200; say about',
        ),
        (replace(PHOTOS, memory_gb=0), '--memory 0: give a number above 0'),
        (
            replace(PHOTOS, hours=float('nan')),
            '--hours nan: give a number above 0',
        ),
    ],
)
def test_what_cannot_work_is_refused(
    situation: Situation, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as error:
        make_plan(situation)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('num_images', [1_300, 10_000, 87_654, 1_281_167])
@pytest.mark.parametrize('gpus', [0, 1, 8])
def test_refused_hours_are_enough_once_given(
    num_images: int, gpus: int
) -> None:
    asked = replace(SOME, num_images=num_images, gpus=gpus, hours=1e-4)
    with pytest.raises(UsageError) as error:
        make_plan(asked)
    hours = float(str(error.value).partition('give ')[2].split()[0])
    make_plan(replace(asked, hours=hours))


@pytest.mark.parametrize('hours', [0.75, 1.0, 3.0, None])
@pytest.mark.parametrize('gpus', [8, 64])
def test_a_short_run_has_all_of_its_schedule(
    hours: float | None, gpus: int
) -> None:
    plan = make_plan(replace(MANY, gpus=gpus, memory_gb=80, hours=hours))
    assert plan['warmup_epochs'] <= plan['epochs'] / 10
    if plan['queue_length']:
        assert 1 <= plan['queue_begin_epoch'] <= plan['epochs'] / 10


def test_a_measurement_is_quoted_for_its_own_number_of_prototypes() -> None:
    plan = make_plan(replace(FEW, num_classes=40))
    assert plan['num_prototypes'] == 400
    assert 'kNN' not in plan.reasons['num_prototypes']


@pytest.mark.parametrize(
    'situation, name, told',
    [
        (PHOTOS, 'queue_length', ', at K 300, epsilon 0.05; not measured at K '
         '100, epsilon 0.03'),
        (FEW, 'queue_length', ', at K 3,000, epsilon 0.05; not measured at K '
         '100, epsilon 0.03'),
        (replace(FEW, num_classes=40), 'epsilon', ', at K 300; not measured '
         'at K 400'),
        (PHOTOS, 'strength', 'not measured at K 100, epsilon 0.03'),
        (PHOTOS, 'lr', '; at the 64 of this plan no rate was measured'),
    ],
)  # fmt: skip
def test_what_was_measured_elsewhere_is_said(
    situation: Situation, name: str, told: str
) -> None:
    assert make_plan(situation).reasons[name].endswith(told)


def test_what_was_measured_at_the_same_numbers_needs_no_words() -> None:
    for name in ('queue_length', 'lr'):
        assert 'measured' not in make_plan(SOME).reasons[name], name
    assert 'no rate' not in make_plan(FEW).reasons['lr']
    reason = make_plan(PHOTOS).reasons['epsilon']
    assert reason == evidence.compare('K 100, epsilon .03', 'K 100')


@pytest.mark.parametrize(
    'situation, told',
    [
        (
            MANY,
            'from 8 times the speed of one H200 (documentation, Results), '
            'which any card of 80 GB or more counts as, as if nothing were '
            'lost between them; 64 data workers',
        ),
        (
            FEW,
            'from the speed of one A6000 (lightly: 200 epochs in 73.3 min), '
            'which any card under 80 GB counts as; 8 data workers',
        ),
        (
            replace(PHOTOS, cores=4),
            'from 3 times the speed of one core in float32 (documentation, '
            'Results), as if nothing were lost between them; ',
        ),
    ],
)
def test_the_time_says_what_it_takes_for_granted(
    situation: Situation, told: str
) -> None:
    plan = make_plan(situation)
    assert told in plan.reasons['hours']
    text = ' '.join(write_config(plan).split())
    other = 'cards' if situation.gpus else 'CPUs'
    assert re.search(rf'can load [\d,]+; other {other} differ\.', text)


# --- the config


@pytest.mark.parametrize('situation', [PHOTOS, FEW, SOME, MANY])
def test_every_number_of_a_config_has_a_reason(situation: Situation) -> None:
    """A comment above it, unless it belongs to the number before."""
    follow = {
        'in_channels', 'hid_channels', 'out_channels',  # of the neck
        'sizes', 'crop_ratio_ranges',  # num_views
        'contrast', 'hue', 'grayscale_prob',  # brightness, saturation
    }  # fmt: skip
    lines = write_config(make_plan(situation)).splitlines()
    numbers = 0
    for above, line in pairwise(lines):
        found = re.match(r' *(\w+) ?= ?(dict\(\w+=)?\[?\(?\d', line)
        if found and found[1] not in follow:
            assert above.strip().startswith('# '), line
            numbers += 1
    assert numbers > 15


@pytest.mark.parametrize('situation', [PHOTOS, FEW, SOME, MANY])
def test_every_number_of_a_plan_is_in_its_config(
    situation: Situation, tmp_path: Path
) -> None:
    plan = make_plan(situation)
    cfg = read(situation, tmp_path)
    text = (tmp_path / 'plan.py').read_text()
    assert max(map(len, text.splitlines())) < 80
    assert cfg.model.head.num_prototypes == plan['num_prototypes']
    assert cfg.model.head.epsilon == plan['epsilon']
    assert cfg.optim_wrapper.optimizer.lr == plan['lr']
    assert cfg.train_cfg.max_epochs == plan['epochs']
    # Each reason is a comment, or in the head; line breaks aside.
    words = ' '.join(re.sub(r'(?m)^ *# ', ' ', text).split()).lower()
    for name, reason in plan.reasons.items():
        if name == 'queue_begin_epoch' and not plan['queue_length']:
            continue
        if name == 'accumulation' and plan['accumulation'] == 1:
            continue
        if name == 'amp' and not plan['amp']:
            continue
        assert ' '.join(reason.split()).lower() in words, name


def test_any_folder_can_be_named(tmp_path: Path) -> None:
    folder = "/a b/it's \\ here"
    cfg = read(replace(FEW, folder=folder), tmp_path)
    assert cfg.train_dataloader.dataset.data_root == folder


def test_evidence_is_what_was_recorded() -> None:
    """Means over the seeds of the newest record of the study."""
    folder = REPO_ROOT / 'benchmarks/results'
    newest = max(folder.glob('small_sets_cpu_*.json'))
    found: dict[tuple[str, str], list[float]] = {}
    for run in json.loads(newest.read_text())['runs']:
        found.setdefault((run['set'], run['variant']), []).append(run['knn'])
    first = 'K 300, epsilon .05, half-strength colors'
    means = {
        (dataset, 'base' if variant == first else variant): sum(knn) / len(knn)
        for (dataset, variant), knn in found.items()
    }
    assert {len(knn) for knn in found.values()} == {evidence.NUM_SEEDS}
    assert means == pytest.approx(
        {
            (dataset, variant): knn
            for dataset, variants in evidence.KNN.items()
            for variant, knn in variants.items()
        },
        abs=0.051,
    )
