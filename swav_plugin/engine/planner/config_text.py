"""Write the config of a plan: each number with its reason above it."""

import textwrap
from collections.abc import Iterator
from typing import Any

from .evidence import SOURCES
from .situation import Plan

_COLUMNS = 79
Lines = Iterator[str]


def write_config(plan: Plan) -> str:
    """Return the text of a config that trains as it is."""
    blocks = [
        _head(plan),
        _bases(plan),
        _model(plan),
        _data(plan),
        _optimizer(plan),
        _length(plan),
    ]
    return '\n\n'.join('\n'.join(block) for block in blocks) + '\n'


def _head(plan: Plan) -> Lines:
    """Yield the docstring: for what, how long, what to change by hand."""
    s = plan.situation
    where = f'{s.gpus} GPUs' if s.gpus != 1 else 'one GPU'
    if not s.gpus:
        where = f'a CPU with {s.cores or 2} cores'
    yield f'"""SwAV on {s.num_images:,} images on {where}, by swav plan.'
    yield ''
    reasons = ' '.join(plan.reasons.values())
    facts = [
        *(f'Note: {warning}.' for warning in plan.warnings),
        f'Recipe: {plan.reasons["kind"]}.',
        f'Time: {_duration(plan["hours"])} expected, '
        f'{plan.reasons["hours"]}; other {"cards" if s.gpus else "CPUs"} '
        'differ.',
        f'Memory: {plan.reasons["memory"]}.',
        f'Data: {_data_note(plan)}',
        'Change by hand what no planner can know: flip_prob=0.0 where a '
        'mirrored image means something else, as characters do; larger crops '
        '(0.3 to 1) where each image shows one thing that fills it. For a '
        'loss that stays at ln K see Troubleshooting in the documentation.',
        'Sources, which the comments name:',
        *(
            f'- {name}: {what}'
            for name, what in SOURCES.items()
            if name in reasons
        ),
    ]
    for fact in facts:
        yield from textwrap.wrap(fact, _COLUMNS, subsequent_indent='    ')
    yield '"""'


def _data_note(plan: Plan) -> str:
    """Say what is known of the images."""
    s = plan.situation
    if s.folder is None:
        return (
            f'not seen; {s.short_edge} px and colors are assumed. Put the '
            'folder of the images into data_root, or plan with --folder.'
        )
    return (
        f'three of four images have {s.short_edge} px or more along the '
        'shorter edge (headers of a sample).'
    )


def _duration(hours: float) -> str:
    """Return a time that people read.

    >>> _duration(0.3), _duration(30), _duration(120)
    ('18 minutes', '30.0 hours', '5.0 days')
    """
    if hours < 1:
        return f'{hours * 60:.0f} minutes'
    return f'{hours:.1f} hours' if hours < 72 else f'{hours / 24:.1f} days'


def _bases(plan: Plan) -> Lines:
    """Yield the shipped configs that this one changes."""
    model = 'swav_resnet50' if plan.kind == 'large' else 'swav_resnet18'
    schedule = 'adam_coslr_bs256'
    if plan['optimizer'] == 'LARS':
        schedule = 'lars_coslr_bs256'
        if plan['warmup_epochs']:
            schedule = 'lars_warmup_coslr_bs4096'
    yield '_base_ = ['
    for name in (
        f'models/{model}',
        f'schedules/{schedule}',
        'default_runtime',
    ):
        yield f"    'swav_plugin::selfsup/_base_/{name}.py',"
    yield ']'


def _model(plan: Plan) -> Lines:
    """Yield network, neck and prototypes."""
    backbone = plan['backbone']
    hid_channels, out_channels = plan['neck']
    yield 'model = dict('
    yield from _entry(plan, 'backbone', f'backbone={_call(backbone.config)},')
    yield from _comment(plan.reasons['neck'], 4)
    yield '    neck=dict('
    yield f'        in_channels={backbone.num_channels},'
    yield f'        hid_channels={hid_channels},'
    yield f'        out_channels={out_channels},'
    yield '    ),'
    yield '    head=dict('
    for name in ('num_prototypes', 'epsilon', 'queue_length'):
        yield from _entry(plan, name, indent=8)
    yield '    ),'
    yield ')'


def _data(plan: Plan) -> Lines:
    """Yield the loader with its views."""
    s = plan.situation
    root = 'data/images' if s.folder is None else s.folder
    yield 'train_dataloader = dict('
    yield from _entry(plan, 'batch_size', f'batch_size={plan["batch_size"]},')
    yield from _entry(plan, 'num_workers')
    yield f'    persistent_workers={plan["num_workers"] > 0},'
    yield '    pin_memory=True,'
    yield '    drop_last=True,'
    yield "    sampler=dict(type='KeyedSampler', shuffle=True),"
    yield "    collate_fn=dict(type='collate_views'),"
    yield '    dataset=dict('
    yield "        type='ImageFolder',"
    yield f'        data_root={root!r},'
    yield from _entry(plan, 'in_memory', indent=8)
    yield '        pipeline=['
    yield "            dict(type='LoadImage'),"
    yield '            dict('
    yield from _views(plan)
    yield '            ),'
    yield "            dict(type='PackViews'),"
    yield '        ],'
    yield '    ),'
    yield ')'


def _views(plan: Plan) -> Lines:
    """Yield the arguments of MultiCrop."""
    numbers, sizes, crops = zip(*plan['views'].groups)
    strength = plan['strength']
    color = strength if plan['has_colors'] else 0.0
    gray = 0.2 if plan['has_colors'] else 0.0
    yield "                type='MultiCrop',"
    yield from _comment(plan.reasons['views'], 16)
    for name, value in (
        ('num_views', [*numbers]),
        ('sizes', [*sizes]),
        ('crop_ratio_ranges', [*crops]),
    ):
        yield f'                {name}={value!r},'
    yield from _entry(plan, 'flip_prob', indent=16)
    yield from _comment(plan.reasons['strength'], 16)
    yield f'                brightness={strength},'
    yield f'                contrast={strength},'
    yield from _comment(plan.reasons['has_colors'], 16)
    yield f'                saturation={color},'
    yield f'                hue={color / 4},'
    yield f'                grayscale_prob={gray},'
    yield from _entry(plan, 'jitter_prob', indent=16)
    yield from _entry(plan, 'blur_prob', indent=16)


def _optimizer(plan: Plan) -> Lines:
    """Yield optimizer, rate and precision."""
    yield 'optim_wrapper = dict('
    if plan['amp']:
        yield from _comment(
            f'{plan.reasons["amp"]}; those from before 2020 lack it and need '
            "dtype='float16', loss_scale='dynamic'",
            4,
        )
        yield "    type='AmpOptimWrapper',"
        yield "    dtype='bfloat16',"
        yield '    loss_scale=dict(enabled=False),'
    if plan['accumulation'] > 1:
        yield from _entry(
            plan,
            'accumulation',
            f'accumulative_counts={plan["accumulation"]},',
        )
    yield from _comment(f'{plan["optimizer"]}: {plan.reasons["optimizer"]}', 4)
    yield '    optimizer=dict('
    yield from _entry(plan, 'lr', indent=8)
    yield from _entry(plan, 'weight_decay', indent=8)
    yield '    ),'
    yield ')'
    epochs = plan['warmup_epochs']
    begin = f'Warm-up of {epochs} epochs' if epochs else 'No warm-up'
    yield from _comment(f'{begin}: {plan.reasons["warmup_epochs"]}', 0)


def _length(plan: Plan) -> Lines:
    """Yield epochs, and the hooks that count in them."""
    epochs = plan['epochs']
    yield from _comment(plan.reasons['epochs'], 0)
    yield f'train_cfg = dict(max_epochs={epochs})'
    yield ''
    yield '# The images of one batch, on all devices.'
    yield f'auto_scale_lr = dict(base_batch_size={plan.total_batch})'
    yield ''
    yield 'default_hooks = dict('
    for hook in ('logger', 'checkpoint'):
        name = f'{hook}_interval'
        yield from _entry(plan, name, f'{hook}=dict(interval={plan[name]}),')
    yield '    swav=dict('
    yield from _entry(plan, 'freeze_prototypes_iters', indent=8)
    if plan['queue_length']:
        yield from _entry(plan, 'queue_begin_epoch', indent=8)
    yield '    ),'
    yield ')'


def _entry(
    plan: Plan, name: str, line: str | None = None, indent: int = 4
) -> Lines:
    """Yield a number with its reason above it."""
    value: Any = plan[name]
    yield from _comment(plan.reasons[name], indent)
    yield ' ' * indent + (line or f'{name}={value!r},')


def _call(values: dict) -> str:
    """Return a dict as configs write it.

    >>> _call(dict(depth=18, norm_cfg=dict(type='BN')))
    "dict(depth=18, norm_cfg=dict(type='BN'))"
    """
    items = (
        f'{name}={_call(value) if isinstance(value, dict) else repr(value)}'
        for name, value in values.items()
    )
    return f'dict({", ".join(items)})'


def _comment(text: str, indent: int) -> Lines:
    """Yield a comment in lines that fit."""
    start = ' ' * indent + '# '
    yield from textwrap.wrap(
        f'{text}.' if text[1:2].isupper() else f'{text[0].upper()}{text[1:]}.',
        _COLUMNS,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False,
    )
