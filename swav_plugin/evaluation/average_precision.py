"""Average precision of rankings, as VOC and as scikit-learn compute it.

N images, P classifiers.
"""

import torch
from torch import Tensor


def average_precision(
    scores: Tensor, positive: Tensor, counted: Tensor, interpolate: bool = True
) -> Tensor:
    """Compute the area under precision over recall for each classifier.

    Images with equal scores enter the ranking together.

    Args:
        scores: (N, P), higher is more likely positive.
        positive: (N, P) bool.
        counted: (N, P) bool; other images are as if they were not there.
        interpolate: At each recall take the best precision at that recall or
            above, as VOC since 2010 and mmselfsup do for the test set (all
            points, not 11). Without it, this is scikit-learn's
            `average_precision_score`, which mmselfsup uses to choose costs.
            It is never larger.

    Returns:
        (P,) in [0, 1]; NaN without positive images.

    >>> scores = torch.tensor([[4.], [3.], [2.], [1.]])
    >>> positive = torch.tensor([[False], [True], [True], [False]])
    >>> everything = torch.ones(4, 1, dtype=torch.bool)
    >>> average_precision(scores, positive, everything)  # 2/3 at all recalls
    tensor([0.6667], dtype=torch.float64)
    >>> average_precision(scores, positive, everything, interpolate=False)
    tensor([0.5833], dtype=torch.float64)
    """
    scores, order = scores.sort(dim=0, descending=True)
    hits = (positive & counted).gather(0, order).double()
    found = hits.cumsum(0)
    precision = found / counted.gather(0, order).cumsum(0).clamp(min=1)
    # A precision exists only after all images with a score have entered.
    is_last = torch.ones_like(scores, dtype=torch.bool)
    is_last[:-1] = scores[:-1] != scores[1:]
    if interpolate:
        precision = torch.where(is_last, precision, 0.0)
        precision = precision.flip(0).cummax(0).values.flip(0)
    else:
        rows = torch.arange(len(scores), device=scores.device)[:, None]
        rows = torch.where(is_last, rows, len(scores))
        precision = precision.gather(0, rows.flip(0).cummin(0).values.flip(0))
    return (hits * precision).sum(0) / found[-1]
