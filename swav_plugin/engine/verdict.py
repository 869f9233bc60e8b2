"""Rules that turn statistics of a run into a verdict with a remedy.

The thresholds come from `benchmarks/study_collapses.py`, which provokes these
collapses, and from runs that learn.
"""

from collections.abc import Mapping
from typing import NamedTuple

OK, WARN, COLLAPSED = 'OK', 'WARN', 'COLLAPSED'

# Before this many iterations no rule speaks.
_FIRST = 20
TOO_EARLY = 'too early to tell'

# A statistic or setting, how it is compared, and with what.
Condition = tuple[str, str, float]


class Rule(NamedTuple):
    """One way for a run to go wrong.

    Args:
        state: `WARN` or `COLLAPSED`.
        what: What has happened, in a few words.
        when: All of these must hold. One on a number that is not there, such
            as the overlap of a queue that is not in use, does not.
        remedy: What to change, with the keys of the config.
        after: Iterations of the run before which it does not speak.
    """

    state: str
    what: str
    when: tuple[Condition, ...]
    remedy: str
    after: int = _FIRST


class Verdict(NamedTuple):
    """What became of the rules; its `str` is for the log."""

    state: str
    text: str

    def __str__(self) -> str:
        return f'{self.state}, {self.text}'


# The loss of chance, ln K, is from here to where predictions are wrong.
_CHANCE, _ABOVE = 0.99, 1.05
# Nearly all images get the same prediction, so the loss is that of chance.
_SAME = (('loss_share', '>', _CHANCE), ('information', '<', 0.01))
# The predictions are confident and wrong, long after the first iterations.
_WRONG = (('loss_share', '>', _ABOVE),)
_COLORS = (
    'brightness, contrast, saturation and hue in '
    'train_dataloader.dataset.pipeline'
)
_CROPS = 'crop_ratio_ranges in train_dataloader.dataset.pipeline'

# The first that holds is the verdict, so the cause comes before the effect.
RULES = (
    Rule(
        COLLAPSED,
        'the codes are uniform, so there is nothing to learn',
        (('code_entropy_share', '>', 0.98), ('epsilon', '>', 0.09)),
        'set model.head.epsilon=0.05, or 0.03',
    ),
    Rule(
        COLLAPSED,
        'the images are not told apart: two views of one differ as much as '
        'two views of two',
        (*_SAME, ('view_distance_gray', '>', 0.95)),
        f'look for copies among the images, or cut larger crops ({_CROPS})',
    ),
    Rule(
        COLLAPSED,
        'the images are not told apart: two views of one differ nearly as '
        'much as two views of two',
        (*_SAME, ('view_distance_gray', '>', 0.7)),
        f'cut larger crops ({_CROPS}), then model.head.epsilon=0.03',
    ),
    Rule(
        COLLAPSED,
        'the images are not told apart: the views of one differ in color',
        (*_SAME, ('view_distance', '>', 0.6)),
        f'weaken the colors ({_COLORS}), then model.head.epsilon=0.03',
    ),
    Rule(
        COLLAPSED,
        'the images are not told apart, with few images to a batch norm',
        (*_SAME, ('images_per_norm', '<', 8)),
        'give train_dataloader.batch_size more images, use SyncBN on several '
        "GPUs (sync_bn='torch'), or GroupNorm (model.backbone.norm_cfg)",
    ),
    Rule(
        COLLAPSED,
        'the images are not told apart',
        (*_SAME, ('epsilon', '>', 0.04)),
        f'set model.head.epsilon=0.03, then weaken the colors ({_COLORS})',
    ),
    Rule(
        COLLAPSED,
        'the images are not told apart',
        _SAME,
        'lower optim_wrapper.optimizer.lr, or freeze the prototypes for '
        'longer (default_hooks.swav.freeze_prototypes_iters)',
    ),
    Rule(
        WARN,
        'the queue uses other prototypes than the batch',
        (('queue_overlap', '<', 0.75), ('effective_share', '<', 0.7)),
        'start the queue later: default_hooks.swav.queue_begin_epoch',
    ),
    Rule(
        COLLAPSED,
        'the loss is far above ln K and the embeddings lie on a few lines',
        (*_WRONG, ('rank_me_share', '<', 0.25)),
        'lower optim_wrapper.optimizer.lr, or lengthen the warm-up',
        after=100,
    ),
    Rule(
        WARN,
        'two views of one image differ as much as two views of two',
        (('view_distance_gray', '>', 0.95),),
        f'look for copies among the images, or cut larger crops ({_CROPS})',
    ),
    Rule(
        WARN,
        'the loss is far above ln K and hardly anything has moved',
        _WRONG,
        'raise optim_wrapper.optimizer.lr, unless it is still warming up',
        after=100,
    ),
    Rule(
        WARN,
        'the prototypes have moved together',
        (('prototype_cosine_mean', '>', 0.05), ('embedding_cosine', '>', 0.7)),
        'freeze the prototypes for longer '
        '(default_hooks.swav.freeze_prototypes_iters), or lower '
        'optim_wrapper.optimizer.lr',
        after=50,
    ),
    Rule(
        WARN,
        'the loss is low, yet the embeddings lie on a few lines',
        (('loss_share', '<', 0.35), ('rank_me_share', '<', 0.05)),
        'something gives views away that is not what they show: look for '
        'copies, borders or stamps among the images; or few images share a '
        'batch norm',
        after=100,
    ),
    Rule(
        WARN,
        'the codes are nearly hard, whatever the scores',
        (('code_entropy_share', '<', 0.3), ('epsilon', '<', 0.01)),
        'set a larger model.head.epsilon, 0.03 or 0.05',
    ),
    Rule(
        WARN,
        'few images share a batch norm, which may give away the batch',
        (('information', '<', 0.1), ('images_per_norm', '<', 8)),
        'give train_dataloader.batch_size more images, use SyncBN on several '
        "GPUs (sync_bn='torch'), or GroupNorm (model.backbone.norm_cfg)",
        after=100,
    ),
)


def judge(facts: Mapping[str, float]) -> Verdict:
    """Apply the rules to statistics and settings; the first that holds wins.

    Args:
        facts: By name; `iteration` counts those that are done.
    """
    is_early = facts['iteration'] < _FIRST
    for rule in RULES:
        if not all(_holds(facts, condition) for condition in rule.when):
            continue
        if facts['iteration'] < rule.after:
            is_early = True
        else:
            numbers = ', '.join(
                f'{name} {facts[name]:.3g}' for name, _, _ in rule.when
            )
            text = f'{rule.what} ({numbers}): {rule.remedy}'
            return Verdict(rule.state, text)
    text = _describe(facts)
    if is_early:
        text = f'after {facts["iteration"]} iterations {TOO_EARLY}: {text}'
    return Verdict(OK, text)


def _holds(facts: Mapping[str, float], condition: Condition) -> bool:
    name, sign, limit = condition
    if name not in facts:
        return False
    return facts[name] > limit if sign == '>' else facts[name] < limit


def _describe(facts: Mapping[str, float]) -> str:
    """Say how a run is doing, in a few numbers."""
    text = (
        f'loss {facts["loss_share"]:.3f} ln K, '
        f'{facts["effective_prototypes"]:.0f} prototypes in use, '
        f'views agree on {facts["agreement"]:.0%}, '
        f'RankMe {facts["rank_me"]:.1f}, '
        f'stopping score {facts["stopping_score"]:.2f}'
    )
    if _CHANCE < facts['loss_share'] <= _ABOVE:
        # Healthy runs begin like this, too.
        text += (
            '; the loss is still at ln K, which is chance: if it stays there, '
            f'set model.head.epsilon=0.03, then weaken the colors ({_COLORS})'
        )
    elif facts['loss_share'] < _CHANCE and facts['dead_share'] > 0.5:
        text += (
            f'; {facts["dead_prototypes"]:.0f} prototypes are nearest to no '
            'image, so fewer would do (model.head.num_prototypes)'
        )
    return text
