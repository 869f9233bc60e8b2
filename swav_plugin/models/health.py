"""Statistics that tell whether SwAV learns, and the sums they follow from.

All but the cosines between prototypes follow from sums over images, so that
iterations, windows of the log and ranks add up. Letters for shapes: V views
(the first A get codes), B images per rank, K prototypes, D embedding size,
N any rows.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Sums = Mapping[str, Tensor]


def entropy(masses: Tensor) -> Tensor:
    r"""Return the entropy of a distribution given up to scale, in nats.

    .. math:: H(p) = -\sum_k p_k \ln p_k, \quad p = m / \sum_k m_k

    Args:
        masses: (..., K), none below 0.

    Returns:
        (...), 0 to ln K; NaN where all masses are 0.

    >>> entropy(torch.tensor([2., 2., 0.]))  # ln 2
    tensor(0.6931)
    """
    shares = masses / masses.sum(-1, keepdim=True)
    return -torch.xlogy(shares, shares).sum(-1)


def rank_me(gram: Tensor) -> float:
    r"""Return the effective rank of embeddings, from 1 to D.

    .. math:: \exp H(\sigma), with the singular values \sigma of Z

    Args:
        gram: (D, D) Z^T Z of (N, D) embeddings Z: the singular values are
            the square roots of its eigenvalues. float64, for singular values
            below 1e-8 of the largest to vanish.

    Source: RankMe (arXiv:2210.02885), eq. 1 to 3, without the 1e-7 that it
    adds to each share.

    >>> round(rank_me(torch.eye(3).double()), 6)
    3.0
    """
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    return float(entropy(singular).exp())


def embedding_std(gram: Tensor, total: Tensor, count: float) -> float:
    r"""Return the standard deviation of embeddings, 1 if they fill the sphere.

    .. math:: \frac{\sqrt D}{D} \sum_d \mathrm{std}_n(z_{nd})

    Args:
        gram: (D, D) Z^T Z of (N, D) unit vectors.
        total: (D,) their sum.
        count: N.

    Source: SimSiam (arXiv:2011.10566), section 4.1: about 1 / sqrt(D) for
    each dimension if they are spread evenly, 0 if all are the same.
    """
    variance = gram.diagonal() / count - (total / count).square()
    deviations = variance.clamp(min=0).sqrt()
    return float(deviations.mean()) * math.sqrt(len(total))


def mean_cosine(total: Tensor, count: float) -> float:
    r"""Return the mean cosine between two different ones of N unit vectors.

    .. math:: (|\sum_n z_n|^2 - N) / (N (N - 1))

    Args:
        total: (D,) sum of the vectors.
        count: N, at least 2.
    """
    return float(total.square().sum() - count) / (count * (count - 1))


def prototype_cosines(prototypes: Tensor, block: int = 1024) -> dict:
    """Return the mean and the largest cosine between (K, D) prototypes.

    Block by block, since K x K numbers might not fit into memory. Empty for
    a single prototype.
    """
    unit = F.normalize(prototypes.float(), dim=1)
    if len(unit) < 2:
        return {}
    largest = unit.new_tensor(-1.0)
    for start in range(0, len(unit), block):
        cosines = unit[start : start + block] @ unit.T
        cosines.diagonal(start).fill_(-1)
        largest = torch.maximum(largest, cosines.amax())
    return dict(
        prototype_cosine_mean=mean_cosine(unit.double().sum(0), len(unit)),
        prototype_cosine_max=float(largest),
    )


def overlap(masses: Tensor, others: Tensor) -> float:
    r"""Return what two distributions have in common, from 0 to 1.

    .. math:: \sum_k \min(p_k, q_k)

    Args:
        masses: (K,), any scale.
        others: (K,), any scale.
    """
    shares = [each / each.sum() for each in (masses, others)]
    return float(torch.minimum(*shares).sum())


def view_distances(views: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the mean squared distance of views of one image, and of two.

    .. math:: \frac{1}{B} \sum_i |a_i - b_i|^2, \quad
              \frac{1}{B (B - 1)} \sum_{i \ne j} |a_i - b_j|^2

    Where both are equal the augmentation hides which image a view is of, at
    least from who compares pixels; or the images are all the same.

    Args:
        views: (B, ...) first views of B >= 2 images.
        others: (B, ...) second views of the same images.
    """
    views, others = views.flatten(1), others.flatten(1)
    num = len(views)
    same = (views - others).square().sum()
    every = num * (views.square().sum() + others.square().sum())
    every -= 2 * (views.sum(0) @ others.sum(0))
    return same / num, (every - same) / (num * (num - 1))


def without_colors(views: Tensor) -> Tensor:
    """Undo what a color jitter does: (B, C, h, w) -> (B, h, w).

    Gray, mean 0 and variance 1: nearly the same for any brightness, contrast,
    saturation, hue and tint.
    """
    gray = views.mean(1)
    gray = gray - gray.mean((1, 2), keepdim=True)
    norm = gray.square().mean((1, 2), keepdim=True).sqrt()
    return gray / norm.clamp(min=1e-6)


def summarize(sums: Sums) -> dict[str, float]:
    """Turn sums of `HeadStatistics` into statistics.

    Of several sets of prototypes it describes the one that tells images apart
    least. What needs rows that are not there is left out.

    Returns:
        By name; see `docs/en/pretrain.md`, "Health".
    """
    rows, steps = float(sums['rows']), float(sums['steps'])
    if rows < 2:
        return {}
    sets = [
        _summarize_set(sums, index)
        for index in range(sum(name.startswith('codes.') for name in sums))
    ]
    rank = rank_me(sums['gram'])
    weakest = min(sets, key=lambda each: each['information'])
    values = dict(
        loss_share=float(sums['loss_share']) / steps,
        **weakest,
        rank_me=rank,
        rank_me_share=rank / len(sums['gram']),
        embedding_std=embedding_std(sums['gram'], sums['embeddings'], rows),
        embedding_cosine=mean_cosine(sums['embeddings'], rows),
    )
    for suffix in ('', '_gray'):
        if sums[f'other_images{suffix}'] > 0:
            values[f'view_distance{suffix}'] = float(
                sums[f'same_image{suffix}'] / sums[f'other_images{suffix}']
            )
    if sums['gradients'] > 0:
        values['gradient_norm'] = float(
            sums['gradient_norm'] / sums['gradients']
        )
    return values


def _summarize_set(sums: Sums, index: int) -> dict[str, float]:
    """Return the statistics of one set of prototypes."""
    own = {
        name.partition('.')[0]: each
        for name, each in sums.items()
        if name.endswith(f'.{index}')
    }
    rows = float(sums['rows'])
    nearest, predictions = own['nearest'], own['predictions']
    ln_k = math.log(max(2, len(nearest)))
    code_entropy = float(own['code_entropy']) / rows
    prediction_entropy = float(own['prediction_entropy']) / rows
    shares = nearest / nearest.sum()
    effective = float(entropy(predictions).exp())
    values = dict(
        code_entropy=code_entropy,
        code_entropy_share=code_entropy / ln_k,
        prediction_entropy=prediction_entropy,
        prediction_entropy_share=prediction_entropy / ln_k,
        # The mutual information of images and prototypes, in nats.
        information=float(entropy(predictions)) - prediction_entropy,
        effective_prototypes=effective,
        effective_share=effective / len(nearest),
        largest_share=float(shares.max()),
        dead_prototypes=float((nearest == 0).sum()),
        dead_share=float((nearest == 0).double().mean()),
        # Of two views of an image, against two views of any two images.
        agreement=float(own['agreeing'] / own['pairs']),
        chance_agreement=float(shares.square().sum()),
    )
    if own['queued'].sum() > 0:
        values['queue_overlap'] = overlap(predictions, own['queued'])
    return values


def stopping_score(statistics: Mapping[str, float]) -> float:
    r"""Score an epoch without labels: the higher, the better the features.

    .. math:: I \cdot \ln \mathrm{RankMe}

    Information between images and prototypes (how well the clusters tell
    images apart) times the log of the effective rank of the embeddings (how
    many directions tell them apart). Each alone can be high in a bad run:
    information grows while embeddings fall onto a few points, and RankMe is
    highest for noise. Over 29 short runs its highest epoch lost 0.8 points of
    kNN on average against the best of ten (docs/en/results.md); the lowest
    loss and the last epoch lost 1.5, RankMe alone 2.6.

    >>> stopping_score(dict(information=2., rank_me=math.e))
    2.0
    """
    return statistics['information'] * math.log(statistics['rank_me'])
