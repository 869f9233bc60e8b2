"""What each way to break SwAV looks like in its first epoch.

    python benchmarks/study_collapses.py [KIND ...]

Trains a small network on scikit-learn's digits for one epoch of 112 iterations
for each kind, some seconds each, and prints the statistics of the last 28
iterations, the verdict of `swav_plugin.engine.verdict`, and kNN of what was
learned. The rules there come from this table. Nothing is downloaded. A record
is written after all kinds.
"""

import argparse
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from common import hardware, write_json
from mmengine.registry import init_default_scope
from torch import Tensor

from swav_plugin.engine.verdict import Verdict, judge
from swav_plugin.evaluation import knn_predict
from swav_plugin.models import SwAV
from swav_plugin.models.health import stopping_score, summarize
from swav_plugin.registry import MODELS

# Kinds: what they change, and what the verdict has to say.
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    'healthy': ({}, 'OK'),
    'epsilon .05': (dict(epsilon=0.05), 'OK'),
    'rate too high': (dict(lr=5.0), 'optimizer.lr'),
    'rate too low': (dict(lr=1e-6), 'optimizer.lr'),
    'epsilon too large': (dict(epsilon=0.5), 'epsilon'),
    'epsilon too small': (dict(epsilon=0.001), 'epsilon'),
    'prototypes not frozen': (
        dict(freeze=0, lr=1.0),
        'freeze_prototypes_iters',
    ),
    # They learn all the same, so it is said and no alarm.
    'too many prototypes': (dict(num_prototypes=3000), 'num_prototypes'),
    'queue too early': (dict(queue_length=512), 'queue_begin_epoch'),
    'colors too strong': (dict(color=0.8), 'colors'),
    'crops too small': (
        dict(crops=((0.05, 0.2), (0.02, 0.05))),
        'crop_ratio_ranges',
    ),
    'identical images': (dict(identical=True), 'copies'),
    'batch norm over few images': (dict(batch_size=2), 'batch norm'),
}
DEFAULTS: dict[str, Any] = dict(
    lr=0.05,
    freeze=30,
    batch_size=16,
    color=0.2,
    crops=((0.6, 1.0), (0.3, 0.6)),
    identical=False,
    num_prototypes=60,
    epsilon=0.03,
    queue_length=0,
)
SIZES = (16, 12)  # pixels of the two large and the two small views
NUM_ITERS, WINDOW = 112, 14


def load_digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's digits at 16 px, (N, 1, 16, 16), and labels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images).float().div(16)[:, None]
    images = F.interpolate(images, size=SIZES[0], mode='bicubic')
    return images.clamp(0, 1), torch.tensor(digits.target)


def cut_view(
    images: Tensor,
    size: int,
    area: tuple[float, float],
    color: float,
    generator: torch.Generator,
) -> Tensor:
    """Crop, rotate and color each image: (B, 1, h, w) -> (B, 3, size, size).

    Args:
        images: From 0 to 1.
        size: In pixels.
        area: Least and largest share of the image.
        color: Strength of brightness, contrast and, above 0.3, of a tint.
        generator: Of all random numbers.
    """
    num = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        numbers = torch.rand(num, *shape, generator=generator)
        return low + (high - low) * numbers

    side, angle = uniform(*area).sqrt(), uniform(-0.2, 0.2)
    cos, sin = side * angle.cos(), side * angle.sin()
    x, y = (uniform(-1, 1) * (1 - side) for _ in range(2))
    rows = torch.stack([cos, -sin, x, sin, cos, y], 1).view(num, 2, 3)
    grid = F.affine_grid(rows, [num, 1, size, size], align_corners=False)
    view = F.grid_sample(
        images, grid, align_corners=False, padding_mode='border'
    ).expand(-1, 3, -1, -1)
    view = view * uniform(1 - color, 1 + color, 1, 1, 1)
    means = view.mean((1, 2, 3), keepdim=True)
    view = (view - means) * uniform(1 - color, 1 + color, 1, 1, 1) + means
    if color > 0.3:
        view = view * uniform(1 - color, 1 + color, 3, 1, 1)
    return (view.clamp(0, 1) - 0.45) / 0.22


def build_model(
    num_prototypes: int, epsilon: float, queue_length: int
) -> SwAV:
    """Build a ResNet of two stages with SwAV's neck and head."""
    init_default_scope('swav_plugin')
    return MODELS.build(
        dict(
            type='SwAV',
            backbone=dict(
                type='ResNet_CIFAR',
                depth=18,
                num_stages=2,
                out_indices=(1,),
                strides=(1, 2),
                dilations=(1, 1),
                stem_channels=8,
                base_channels=8,
                norm_cfg=dict(type='BN'),
                zero_init_residual=False,
            ),
            neck=dict(
                type='SwAVNeck',
                in_channels=16,
                hid_channels=64,
                out_channels=32,
            ),
            head=dict(
                type='SwAVHead',
                num_prototypes=num_prototypes,
                epsilon=epsilon,
                queue_length=queue_length,
            ),
        )
    )


def batches(images: Tensor, setting: dict[str, Any]) -> Iterator[list[Tensor]]:
    """Yield the views of one batch after another."""
    generator = torch.Generator().manual_seed(0)
    size = setting['batch_size']
    while True:
        order = torch.randperm(len(images), generator=generator)
        for rows in order.split(size)[: len(images) // size]:
            yield [
                cut_view(images[rows], px, area, setting['color'], generator)
                for px, area in zip(SIZES, setting['crops'])
                for _ in range(2)
            ]


def train(
    kind: str, num_iters: int = NUM_ITERS
) -> tuple[SwAV, dict[str, float], Verdict]:
    """Train one kind; return the model, its facts, and the verdict."""
    changes, _ = KINDS[kind]
    setting = DEFAULTS | changes
    images, _ = load_digits()
    if setting['identical']:
        images = images[:1].expand(len(images), -1, -1, -1)
    torch.manual_seed(0)
    names = ('num_prototypes', 'epsilon', 'queue_length')
    model = build_model(**{name: setting[name] for name in names}).train()
    statistics = model.head.start_statistics()
    optimizer = torch.optim.SGD(
        model.parameters(), setting['lr'], momentum=0.9, weight_decay=1e-4
    )
    for step, views in zip(range(num_iters), batches(images, setting)):
        optimizer.zero_grad()
        model(views, mode='loss')['loss'].backward()
        if step < setting['freeze']:
            model.head.drop_prototype_gradients()
        is_due = (step + 1) % WINDOW == 0
        if is_due:
            found = [each.grad for each in model.parameters()]
            statistics.add_gradients([g for g in found if g is not None])
        optimizer.step()
        if is_due:
            statistics.end_window()
            model.head.collect_statistics()
    facts = summarize(statistics.recent) | model.head.prototype_cosines()
    facts['stopping_score'] = stopping_score(facts)
    verdict = judge(
        facts
        | dict(
            iteration=num_iters,
            epsilon=setting['epsilon'],
            images_per_norm=setting['batch_size'],
        )
    )
    return model, facts, verdict


@torch.no_grad()
def measure_knn(model: SwAV) -> float:
    """Return kNN accuracy in %: every other digit votes on the others."""
    images, labels = load_digits()
    model.eval()
    features = model.extract_feat(
        ((images - 0.45) / 0.22).expand(-1, 3, -1, -1)
    )
    votes = knn_predict(
        features[::2], labels[::2], features[1::2], 20, 0.1, 10
    )
    is_right = votes.argmax(1) == labels[1::2]
    return 100 * float(is_right.float().mean())


# Columns of the table: heading, statistic.
COLUMNS = {
    'loss': 'loss_share',
    'H(q)': 'code_entropy_share',
    'H(p)': 'prediction_entropy_share',
    'I': 'information',
    'used': 'effective_share',
    'agree': 'agreement',
    'rank': 'rank_me',
    'cos': 'embedding_cosine',
    'C cos': 'prototype_cosine_mean',
    'views': 'view_distance',
    'gray': 'view_distance_gray',
    'queue': 'queue_overlap',
    'grad': 'gradient_norm',
}


def main() -> None:
    """Train the kinds and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('kinds', nargs='*', metavar='KIND', default=[*KINDS])
    args = parser.parse_args()
    print(f'{"kind":30} {"kNN":>5} ' + ' '.join(f'{c:>5}' for c in COLUMNS))
    rows = []
    for kind in args.kinds:
        model, facts, verdict = train(kind)
        accuracy = measure_knn(model)
        numbers = ' '.join(
            f'{facts.get(name, math.nan):5.2f}' for name in COLUMNS.values()
        )
        print(f'{kind:30} {accuracy:5.1f} {numbers}')
        expected = KINDS[kind][1]
        is_right = expected in str(verdict)
        print(
            f'    {verdict}' + ('' if is_right else f' (not {expected})'),
            flush=True,
        )
        rows.append(
            dict(
                kind=kind,
                changed={k: str(v) for k, v in KINDS[kind][0].items()},
                knn=round(accuracy, 1),
                state=verdict.state,
                message=verdict.text,
                expected=expected,
                is_right=is_right,
            )
        )
    if {row['kind'] for row in rows} == {*KINDS}:
        record = dict(hardware=hardware(['mmengine']), rows=rows)
        print(write_json('collapses_cpu', record))


if __name__ == '__main__':
    main()
