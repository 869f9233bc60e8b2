"""The rules of the planner: situation -> the numbers of a config.

A rule decides one number or a few that belong together, and says why. Rules
run in the order of `RULES`; each sees what was decided before it.
"""

import math
from collections.abc import Callable

from ..errors import UsageError
from .costs import (
    BACKBONES,
    CPU_SHARE,
    Views,
    images_that_fit,
    largest_batch,
    memory_needed,
    run_speed,
)
from .evidence import LIGHTLY, LIGHTLY_CIFAR, STUDY, UPSTREAM, compare
from .situation import Plan, Situation, check_situation

MIN_BATCH = 32  # of all devices together, for small sets
MIN_BATCH_OF_GPU = 8
MANY_IMAGES = 50_000  # from here on ResNet-50 and upstream's recipe
FEW_IMAGES = 5_000  # up to here few prototypes and sharp codes
MIN_STEPS = 300  # the demos learn something in as many
PUBLISHED_STEPS = 7_200  # of lightly's 200 epochs of Imagenette
IN_MEMORY_BYTES = 2e9
LONG_DAYS = 14  # what takes longer is said to be long


def make_plan(situation: Situation) -> Plan:
    """Decide every number.

    Raises:
        UsageError: No plan can work; says why, and what would.
    """
    check_situation(situation)
    plan = Plan(situation)
    for rule in RULES:
        rule(plan, situation)
    return plan


def choose_kind(plan: Plan, s: Situation) -> None:
    """Choose the recipe to begin with."""
    if not s.gpus:
        plan.decide('kind', 'cpu', 'small networks and views, for a CPU')
    elif s.short_edge < 64:
        plan.decide('kind', 'tiny', f'{LIGHTLY_CIFAR}, for images under 64 px')
    elif s.num_images >= MANY_IMAGES and s.short_edge >= 200:
        plan.decide(
            'kind', 'large', f'{UPSTREAM}, for {MANY_IMAGES:,} images or more'
        )
    else:
        plan.decide('kind', 'small', f'{LIGHTLY}, for a GPU and few images')


_WHOLE, _PART = (0.14, 1.0), (0.05, 0.14)
_TINY = Views(((2, 32, _WHOLE),))


def choose_views(plan: Plan, s: Situation) -> None:
    """Choose number, sizes and crops of the views."""
    edge = f'images of {s.short_edge} px'
    if plan.kind == 'cpu' and s.short_edge < 48:
        views = Views(((2, 32, (0.6, 1.0)), (2, 16, (0.3, 0.6))))
        why = f'{edge}, as swav_demo_digits'
    elif plan.kind == 'cpu':
        views = Views(((2, 64, _WHOLE), (2, 32, _PART)))
        why = f'small enough for a CPU, as in the {STUDY}'
    elif plan.kind == 'tiny':
        views, why = _TINY, f'{edge}: {LIGHTLY_CIFAR}'
    elif s.short_edge >= 200:
        views = Views(((2, 224, _WHOLE), (6, 96, _PART)))
        why = f'{edge}: {UPSTREAM}'
    elif s.short_edge >= 112:
        views = Views(((2, 128, _WHOLE), (6, 64, _PART)))
        why = f'{edge}: {LIGHTLY}, 160 px'
    else:
        views = Views(((2, 64, _WHOLE), (4, 32, _PART)))
        why = f"{edge}: half of lightly's sizes for 160 px; not measured"
    plan.decide('views', views, why)


def choose_backbone(plan: Plan, s: Situation) -> None:
    """Choose the network, its precision and its neck."""
    largest = plan['views'].groups[0][1]
    if plan.kind == 'cpu' and largest < 64:
        name, why = 'three stages of 16 to 64 channels', 'as swav_demo_digits'
    elif plan.kind == 'cpu':
        name = 'ResNet-18 at a quarter of its width'
        why = f'small enough for a CPU, as in the {STUDY}'
    elif plan.kind == 'tiny':
        name = 'ResNet-18 with the CIFAR stem'
        why = f'views of {largest} px: {LIGHTLY_CIFAR}'
    elif plan.kind == 'large':
        name, why = 'ResNet-50', f'{MANY_IMAGES:,} images or more: {UPSTREAM}'
    else:
        name = 'ResNet-18'
        why = f'under {MANY_IMAGES:,} images of 200 px: {LIGHTLY}'
    plan.decide('backbone', BACKBONES[name], f'{name}: {why}')
    neck, why = dict(
        cpu=((256, 64), f'narrow as the network; {STUDY}'),
        tiny=((512, 128), LIGHTLY_CIFAR),
        small=((2048, 128), LIGHTLY),
        large=((2048, 128), UPSTREAM),
    )[plan.kind]
    plan.decide('neck', neck, why)


# Why K jumps.
_BORDER = (
    f'few and epsilon .03 up to {FEW_IMAGES:,} images, more and .05 above, as '
    'published for 9,469 or more; between 2,000 and 9,469 nothing was '
    'measured: try both'
)
_FEW_OR_MANY = compare('K 100, epsilon .03', 'K 3000')


def choose_prototypes(plan: Plan, s: Situation) -> None:
    """Choose K and epsilon together: fewer prototypes allow sharper codes."""
    if plan.kind == 'large':
        plan.decide('num_prototypes', 3000, UPSTREAM)
        plan.decide('epsilon', 0.05, UPSTREAM)
    elif plan.kind == 'tiny' and s.num_images > FEW_IMAGES:
        plan.decide(
            'num_prototypes',
            512,
            f'{LIGHTLY_CIFAR}; {_BORDER}; {_FEW_OR_MANY}',
        )
        plan.decide('epsilon', 0.05, LIGHTLY_CIFAR)
    elif plan.kind == 'small' and s.num_images > FEW_IMAGES:
        plan.decide(
            'num_prototypes', 3000, f'{LIGHTLY}; {_BORDER}; {_FEW_OR_MANY}'
        )
        plan.decide('epsilon', 0.05, LIGHTLY)
    else:
        if s.num_classes is None:
            number = 100
            what = 'ten for each of ten classes, which is a guess: --classes'
        else:
            number = min(3000, max(30, 10 * s.num_classes))
            what = f'ten for each of {s.num_classes} classes, 30 to 3,000'
        what += ", the author's advice (facebookresearch/swav#64)"
        if plan.kind != 'cpu':
            what += f'; {_BORDER}'
        if number == 100:
            what += f'; {_FEW_OR_MANY}'
        plan.decide('num_prototypes', number, what)
        why = compare('epsilon .03') + _elsewhere(plan, 300)
        if number == 100:
            why = compare('K 100, epsilon .03', 'K 100')
        plan.decide('epsilon', 0.03, why)


def _elsewhere(
    plan: Plan, num_prototypes: int, epsilon: float | None = None
) -> str:
    """Say where something was measured, unless that is what the plan has."""
    own = f'K {plan["num_prototypes"]:,}'
    there = f'K {num_prototypes:,}'
    is_own = num_prototypes == plan['num_prototypes']
    if epsilon is not None:
        own += f', epsilon {plan["epsilon"]:g}'
        there += f', epsilon {epsilon:g}'
        is_own = is_own and epsilon == plan['epsilon']
    return '' if is_own else f', at {there}; not measured at {own}'


def choose_optimizer(plan: Plan, s: Situation) -> None:
    """Choose the optimizer, before its rate."""
    lars = plan.kind == 'large'
    plan.decide(
        'optimizer',
        'LARS' if lars else 'Adam',
        UPSTREAM if lars else LIGHTLY,
    )
    plan.decide('weight_decay', 1e-6, UPSTREAM if lars else LIGHTLY)
    plan.decide('amp', s.gpus > 0, 'bfloat16 on GPUs')


def choose_batch(plan: Plan, s: Situation) -> None:
    """Choose the batch of a device and how many batches make a step."""
    devices = max(1, s.gpus)
    if plan.kind == 'large':
        is_wide = devices >= 32
        wanted = 64 * devices if is_wide else 256
        why = f'{wanted} in all: {UPSTREAM}'
    else:
        most = dict(cpu=128, tiny=512, small=256)[plan.kind]
        eighth = 2 ** int(math.log2(s.num_images / 8))
        wanted = min(most, max(MIN_BATCH, eighth))
        source = dict(cpu=STUDY, tiny=LIGHTLY_CIFAR, small=LIGHTLY)[plan.kind]
        why = f'at least 8 steps an epoch, at most {most} ({source})'
    each = wanted // devices
    if each < MIN_BATCH_OF_GPU:
        raise UsageError(
            f'{s.num_images:,} images train in batches of {wanted}, which '
            f'leaves {each} for each of {devices} GPUs; use '
            f'{wanted // MIN_BATCH_OF_GPU} at most'
        )
    fits = images_that_fit(plan, s)
    least = MIN_BATCH_OF_GPU if plan.kind == 'large' else MIN_BATCH // devices
    batch_size = largest_batch(each, fits)
    if batch_size < max(1, min(least, each)):
        where = 'each GPU' if s.gpus else 'the machine'
        needed = memory_needed(plan, max(least, 1)) / 1e9
        raise UsageError(
            f'--memory {s.memory_gb:g}: {plan["backbone"].name} on '
            f'{plan["views"]} px needs {math.ceil(needed)} GB on {where} for '
            f'batches of {max(least, 1)}; free some, or use '
            + ('a larger card' if s.gpus else 'another machine')
        )
    if batch_size < each:
        why += f'; {s.memory_gb:.3g} GB hold {batch_size}'
    gradual = each // batch_size if plan.kind == 'large' else 1
    plan.decide('batch_size', batch_size, why)
    plan.decide(
        'accumulation',
        gradual,
        f'{gradual} batches make the step of {gradual * batch_size * devices} '
        'images that the rate is for'
        if gradual > 1
        else 'the batch fits',
    )
    share = memory_needed(plan, batch_size, has_reserve=False) / 1e9
    told = (
        f'about {share:.1f} of {s.memory_gb:.3g} GB, with '
        f'{plan["backbone"].kept(plan["amp"]):g} bytes of activations for '
        'each pixel of the views'
    )
    if not s.gpus:
        told += f'; {1 - CPU_SHARE:.0%} of the memory are left to the system'
    plan.decide('memory', share, told)


def choose_queue(plan: Plan, s: Situation) -> None:
    """Choose the queue, when it begins, and for how long K is frozen."""
    steps = plan.steps_per_epoch
    if plan.kind == 'large' and plan.total_batch < 2048:
        length = max(1, 3840 // plan.total_batch) * plan.total_batch
        plan.decide(
            'queue_length',
            length,
            f'{plan.total_batch} images share 3000 prototypes: {UPSTREAM}',
        )
        late = plan['accumulation'] == 1
        plan.decide(
            'queue_begin_epoch',
            15 if late else 1,
            UPSTREAM
            if late
            else 'the codes of a batch see only that part of a step, so the '
            'queue is needed from the start (swav_resnet50_1xb64-accum4); not '
            'measured',
        )
    else:
        reason = compare('queue of 512') + _elsewhere(plan, 300, 0.05)
        if plan.kind == 'large':
            reason = f'{plan.total_batch} images a step need none: {UPSTREAM}'
        elif plan.kind != 'cpu':
            reason = f'kNN 86.1 without, 82.7 with one ({LIGHTLY})'
            reason += _elsewhere(plan, 3000, 0.05)
        plan.decide('queue_length', 0, reason)
        plan.decide('queue_begin_epoch', 0, 'no queue')
    if plan.kind == 'large':
        freeze, why = steps + 1, f'one epoch and a step: {UPSTREAM}'
    elif plan['epsilon'] < 0.05:
        freeze, why = 30, 'as our demos; not measured'
    else:
        freeze, why = 0, LIGHTLY
    plan.decide('freeze_prototypes_iters', freeze, why)


def choose_rate(plan: Plan, s: Situation) -> None:
    """Choose the learning rate and its warm-up."""
    step = plan.total_batch * plan['accumulation']
    warmup, warm_why = (
        0,
        f'none in {LIGHTLY}, nor {UPSTREAM} below 2,048 images',
    )
    if plan.kind == 'large' and step >= 2048:
        rate = 4.8 * step / 4096
        why = f'4.8 for 4096 images: {UPSTREAM}'
        warmup, warm_why = 10, f'from a sixteenth of the rate: {UPSTREAM}'
    elif plan.kind == 'large':
        rate, why = 0.6 * step / 256, f'0.6 for 256 images: {UPSTREAM}'
    elif plan.kind == 'tiny':
        rate = 1e-3 * step / 128
        why = f'0.001 for 128 images: {LIGHTLY_CIFAR}'
    else:
        rate = 1e-3
        why = f'0.001 at 256 images ({LIGHTLY}) as at 128 ({STUDY})'
        if step not in (128, 256):
            why += f'; at the {step} of this plan no rate was measured'
    plan.decide('lr', float(f'{rate:.3g}'), why)
    plan.decide('warmup_epochs', warmup, warm_why)


def choose_colors(plan: Plan, s: Situation) -> None:
    """Choose how far and often colors change, and flips, gray and blur."""
    strength = 0.4
    why = compare('full-strength colors') + _elsewhere(plan, 300, 0.05)
    if plan.kind == 'large':
        strength, why = 0.8, UPSTREAM
    plan.decide('strength', strength, why)
    plan.decide('jitter_prob', 0.8, f'four of five views: {UPSTREAM}')
    plan.decide('flip_prob', 0.5, f'half of the views: {UPSTREAM}')
    plan.decide(
        'has_colors',
        not s.is_gray,
        'the images are gray: no hue, no saturation, no grayscale'
        if s.is_gray
        else f'hue at a quarter, every fifth view gray: {UPSTREAM}, {LIGHTLY}',
    )
    is_small = plan['views'].groups[0][1] < 64
    plan.decide(
        'blur_prob',
        0.0 if is_small else 0.5,
        f'views under 64 px: none in {LIGHTLY_CIFAR}'
        if is_small
        else f'{UPSTREAM}, {LIGHTLY}',
    )


def choose_loading(plan: Plan, s: Situation) -> None:
    """Choose the data workers, and whether images stay in memory."""
    if not s.gpus:
        workers = min(2, (s.cores or 2) - 1)
        why = 'the network needs the other cores'
    elif s.cores is None:
        workers, why = 8, 'as our recipes; takes 8 cores for each GPU'
    else:
        workers = min(8, max(1, s.cores // s.gpus))
        why = f'{s.cores} cores for {s.gpus} GPUs; 8 at most, as our recipes'
    plan.decide('num_workers', workers, why)
    size = None if s.mean_pixels is None else s.num_images * s.mean_pixels * 3
    fits = size is not None and size < IN_MEMORY_BYTES * (
        1 if s.gpus else min(1, s.memory_gb / 16)
    )
    plan.decide(
        'in_memory',
        fits,
        f'{size / 1e9:.2f} GB: decoded once'
        if fits and size is not None
        else 'images unseen or more than 2 GB',
    )


def choose_length(plan: Plan, s: Situation) -> None:
    """Choose the number of epochs, and say how long they take."""
    steps = plan.steps_per_epoch
    speed, source = run_speed(plan, s)
    hours_each = s.num_images / speed / 3600
    if plan.kind == 'large':
        epochs, why = 200, UPSTREAM
    else:
        epochs = min(800, max(200, math.ceil(PUBLISHED_STEPS / steps)))
        why = (
            '200 to 800 as published, for as many steps as the 200 '
            f'epochs of {LIGHTLY}, {PUBLISHED_STEPS:,}'
        )
    least = max(10, math.ceil(MIN_STEPS / steps))
    if s.hours is not None and s.hours < epochs * hours_each:
        epochs = int(s.hours / hours_each)
        why = f'what {s.hours:g} hours allow'
        if epochs < least:
            needed = math.ceil(100 * least * hours_each) / 100
            raise UsageError(
                f'--hours {s.hours:g} allow {epochs} epochs of '
                f'{s.num_images:,} images, and {least} are the least that '
                f'learn anything: give {needed:g} hours, fewer images or '
                'more GPUs'
            )
    plan.decide('epochs', epochs, why)
    plan.decide(
        'logger_interval',
        max(1, min(50, s.num_images // plan.total_batch)),
        'iterations of a line of the log: an epoch, 50 at most',
    )
    plan.decide(
        'checkpoint_interval',
        max(1, epochs // 20),
        'some 20 checkpoints, of which the last three stay: '
        'max_keep_ckpts=-1 keeps all',
    )
    _fit_schedule(plan, epochs)
    plan.decide(
        'hours',
        epochs * hours_each,
        f'{speed:,.0f} images/s in all, {source}',
    )
    if plan['hours'] > 24 * LONG_DAYS:
        plan.warnings.append(
            f'this plan takes {plan["hours"] / 24:.0f} days: plan for the '
            'time there is (--hours), with more GPUs (--gpus) or fewer '
            'images, or take a pretrained network as it is (swav zoo list)'
        )


def _fit_schedule(plan: Plan, epochs: int) -> None:
    """Let the queue begin, and the warm-up end, early in a short run."""
    scaled = f'as early as in 200 epochs, in {epochs}'
    begin = plan['queue_begin_epoch']
    if plan['queue_length'] and begin > 1 and epochs < 200:
        begin = max(1, begin * epochs // 200)
        why = f'{plan.reasons["queue_begin_epoch"]}; {scaled}'
        plan.decide('queue_begin_epoch', begin, why)
    if plan['warmup_epochs'] > epochs // 10:
        why = f'{plan.reasons["warmup_epochs"]}; at most a tenth of the run'
        plan.decide('warmup_epochs', epochs // 10, why)


RULES: tuple[Callable[[Plan, Situation], None], ...] = (
    choose_kind,
    choose_views,
    choose_backbone,
    choose_prototypes,
    choose_optimizer,
    choose_batch,
    choose_queue,
    choose_rate,
    choose_colors,
    choose_loading,
    choose_length,
)
