"""FeatureQueue: the latest embeddings of earlier batches, as model state.

Letters for shapes: A assigned views, B images per rank, D embedding size,
L queue length.
"""

from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import get_dist_info
from torch import Tensor, nn


class FeatureQueue(nn.Module):
    """First-in, first-out store of embeddings, the same on every rank.

    Every rank keeps the whole queue in a buffer, so a checkpoint from any
    rank is complete and a run may resume on another number of ranks. For
    Sinkhorn each rank takes its own `shard`.

    Args:
        num_views: A, the number of assigned views; each has its own queue.
        length: L, rows kept for each view over all ranks.
        feat_dim: D.

    Source: SwAV (arXiv:2006.09882), section 3.1. A queue replicated over
    ranks holds the same rows as one split over them, so the codes are equal.
    """

    features: Tensor
    num_rows: Tensor

    def __init__(self, num_views: int, length: int, feat_dim: int) -> None:
        super().__init__()
        self.length = length
        self.register_buffer(
            'features', torch.zeros(num_views, length, feat_dim)
        )
        self.register_buffer('num_rows', torch.tensor(0))
        # A copy of `num_rows` for the host: reading the buffer would make
        # the host wait for the device in every step.
        self._num_rows = 0

    @property
    def is_full(self) -> bool:
        """True once every row has been written; only then is it used."""
        return self._num_rows >= self.length

    def shard(self) -> Tensor:
        """Return this rank's rows: (A, about L / number of ranks, D)."""
        rank, world_size = get_dist_info()
        return self.features[:, rank::world_size]

    @torch.no_grad()
    def push(self, embeddings: Tensor) -> None:
        """Put the batch of all ranks in front and drop the oldest rows.

        Args:
            embeddings: This rank's (A, B, D); B is the same on all ranks.

        Raises:
            ValueError: The batch of all ranks is larger than the queue.
        """
        embeddings = embeddings.detach().to(self.features.dtype).contiguous()
        _, world_size = get_dist_info()
        if world_size > 1:
            parts = [torch.empty_like(embeddings) for _ in range(world_size)]
            dist.all_gather(parts, embeddings)
            # Samplers deal images out to ranks in turn: this is their order,
            # the same at any number of ranks.
            embeddings = torch.stack(parts, dim=2).flatten(1, 2)
        num_new = embeddings.shape[1]
        if num_new > self.length:
            raise ValueError(
                f'a batch of {num_new} images over all ranks does not fit '
                f'into a queue of {self.length}; set queue_length to a '
                'multiple of the total batch size, or to 0 for no queue.'
            )
        kept = self.features[:, : self.length - num_new]
        self.features.copy_(torch.cat([embeddings, kept], dim=1))
        self._num_rows = min(self._num_rows + num_new, self.length)
        self.num_rows.fill_(self._num_rows)

    def clear(self) -> None:
        """Forget all rows."""
        self.features.zero_()
        self.num_rows.zero_()
        self._num_rows = 0

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load a queue of any length: its newest rows, as many as fit.

        A shorter one than this is filled up with zeros and is not full.

        Raises:
            ValueError: It has a different number of views or embedding size.
        """
        saved = state_dict.get(f'{prefix}features')
        if saved is not None:
            state_dict = dict(state_dict)
            # A queue of this length would hold the newest of the saved rows.
            features = saved.new_zeros(
                *saved.shape[:1], self.length, *saved.shape[2:]
            )
            kept = saved[:, : self.length]
            features[:, : kept.shape[1]] = kept
            if features.shape != self.features.shape:
                raise ValueError(
                    f'the checkpoint has a queue of {tuple(saved.shape)} and '
                    f'the model one of {tuple(self.features.shape)}: '
                    '(assigned views, length, embedding size). Only the '
                    'length may differ.'
                )
            state_dict[f'{prefix}features'] = features
            state_dict[f'{prefix}num_rows'] = state_dict[
                f'{prefix}num_rows'
            ].clamp(max=self.length)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._num_rows = int(self.num_rows)
