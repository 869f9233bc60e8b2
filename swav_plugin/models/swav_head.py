"""SwAVHead: prototypes, queue and loss.

Letters for shapes: V views (the first A get codes), B images per rank,
K prototypes, D embedding size, L queue length, N any rows.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from swav_plugin.registry import MODELS

from .feature_queue import FeatureQueue
from .head_statistics import HeadStatistics
from .health import prototype_cosines
from .swav_loss import (
    check_sinkhorn,
    harden,
    sinkhorn,
    swapped_prediction_loss,
)


@MODELS.register_module()
class SwAVHead(BaseModule):
    """Score embeddings against prototypes and predict swapped codes.

    Args:
        feat_dim: D. `SwAV` takes it from the neck.
        num_prototypes: K, or one K for each of several sets of prototypes
            that share the embedding; their losses are averaged.
        queue_length: L, embeddings kept for each assigned view over all
            ranks; a multiple of the total batch size. 0 for no queue.
        num_assign_views: A. The first A views get codes.
        epsilon: Entropy weight of Sinkhorn.
        num_iters: Sweeps of Sinkhorn.
        temperature: Temperature of the softmax over prototypes.
        hard_assignment: Put all mass of each code on one prototype.
        init_cfg: As in mmengine.

    Without a `SwAVHook` the queue fills from the first step on, takes part as
    soon as it is full, and prototypes are never frozen.

    Raises:
        ValueError: An argument is out of range.

    Source: SwAV (arXiv:2006.09882), section 3.1.
    """

    def __init__(
        self,
        feat_dim: int,
        num_prototypes: int | Sequence[int] = 3000,
        queue_length: int = 0,
        num_assign_views: int = 2,
        epsilon: float = 0.05,
        num_iters: int = 3,
        temperature: float = 0.1,
        hard_assignment: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if isinstance(num_prototypes, int):
            num_prototypes = [num_prototypes]
        if (
            min(num_prototypes, default=0) < 1
            or queue_length < 0
            or num_assign_views < 1
            or not temperature > 0
        ):
            raise ValueError(
                f'SwAVHead got num_prototypes={num_prototypes}, queue_length='
                f'{queue_length}, num_assign_views={num_assign_views} and '
                f'temperature={temperature}; it needs at least one prototype '
                'in each set, one assigned view, a queue of 0 or more and a '
                'temperature > 0.'
            )
        check_sinkhorn(epsilon, num_iters)
        self.num_prototypes = list(num_prototypes)
        self.prototypes = nn.ModuleList(
            nn.Linear(feat_dim, num, bias=False) for num in self.num_prototypes
        )
        self.queue_length = queue_length
        self.queue = (
            FeatureQueue(num_assign_views, queue_length, feat_dim)
            if queue_length
            else None
        )
        self.num_assign_views = num_assign_views
        self.epsilon = epsilon
        self.num_iters = num_iters
        self.temperature = temperature
        self.hard_assignment = hard_assignment
        self._queue_started = True
        self.statistics: HeadStatistics | None = None

    def forward(self, embeddings: Tensor) -> list[Tensor]:
        """Score embeddings against each set: (..., D) -> a list of (..., K).

        Scores are cosines once `normalize_prototypes` has run.
        """
        return [_score(embeddings, each) for each in self._prototypes]

    @torch.no_grad()
    def predict(self, embeddings: Tensor) -> Tensor:
        """Return probabilities over the first set: (N, D) -> (N, K)."""
        # An optimizer step leaves prototypes a little off unit length.
        prototypes = F.normalize(self._prototypes[0], dim=1)
        return (_score(embeddings, prototypes) / self.temperature).softmax(1)

    def loss(self, embeddings: Tensor) -> Tensor:
        """Return the swapped prediction loss of a batch; feed the queue.

        Args:
            embeddings: (V, B, D) rows of unit norm.

        Returns:
            Scalar, the mean over this rank's images and the prototype sets.

        Raises:
            ValueError: There are fewer than `num_assign_views` views.
        """
        num_views = len(embeddings)
        if num_views < self.num_assign_views:
            raise ValueError(
                f'got {num_views} views of which num_assign_views='
                f'{self.num_assign_views} should have codes; give as many '
                'views, or lower model.head.num_assign_views.'
            )
        self.normalize_prototypes()
        losses = []
        for index, prototypes in enumerate(self._prototypes):
            scores = _score(embeddings, prototypes)
            codes = self._codes(scores[: self.num_assign_views], prototypes)
            losses.append(
                swapped_prediction_loss(scores, codes, self.temperature)
            )
            if self.statistics is not None:
                self.statistics.add_scores(
                    index, scores, codes, self.temperature
                )
        loss = torch.stack(losses).mean()
        if self.statistics is not None:
            self.statistics.add_batch(
                embeddings[: self.num_assign_views], loss
            )
        # Only now: the codes of a batch come from the queue before it.
        if self.queue is not None and self._queue_started:
            self.queue.push(embeddings[: self.num_assign_views])
        return loss

    @torch.no_grad()
    def _codes(self, scores: Tensor, prototypes: Tensor) -> Tensor:
        """Turn scores of the assigned views into codes: (A, B, K) both."""
        num_images = scores.shape[1]
        queue = self.queue if self._queue_started else None
        codes = []
        for index, rows in enumerate(scores):
            if queue is not None and queue.is_full:
                # Queued embeddings take part but need no codes themselves.
                queued = _score(queue.shard()[index], prototypes)
                rows = torch.cat([queued, rows])
            code = sinkhorn(rows, self.epsilon, self.num_iters)[-num_images:]
            codes.append(harden(code) if self.hard_assignment else code)
        return torch.stack(codes)

    @torch.no_grad()
    def normalize_prototypes(self) -> None:
        """Scale every prototype to unit length, in place."""
        for prototypes in self._prototypes:
            norms = prototypes.norm(dim=1, keepdim=True)
            prototypes.div_(norms.clamp_(min=1e-12))

    def start_statistics(self) -> HeadStatistics:
        """Keep statistics of all that `loss` computes from now on."""
        prototypes = self._prototypes[0]
        self.statistics = HeadStatistics(
            self.num_prototypes, prototypes.shape[1], prototypes.device
        )
        return self.statistics

    @torch.no_grad()
    def collect_statistics(self) -> None:
        """Collect the statistics of all ranks, and those of a queue in use.

        Reads from the device; all ranks have to call it.
        """
        assert self.statistics is not None
        queue = self.queue if self._queue_started else None
        if queue is not None and queue.is_full:
            for index, prototypes in enumerate(self._prototypes):
                scores = _score(queue.shard(), prototypes)
                self.statistics.add_queued(index, scores, self.temperature)
        self.statistics.collect()

    def prototype_cosines(self) -> dict[str, float]:
        """Return the mean and largest cosine between prototypes.

        Of several sets, of the one with the largest mean.
        """
        sets = [prototype_cosines(each.detach()) for each in self._prototypes]
        return max(
            sets, key=lambda each: each.get('prototype_cosine_mean', -1)
        )

    def start_queue(self) -> None:
        """Fill the queue from the next step on, and use it once full."""
        self._queue_started = True

    def pause_queue(self) -> None:
        """Neither fill nor use the queue; its content stays."""
        self._queue_started = False

    def drop_prototype_gradients(self) -> None:
        """Make the next optimizer step leave the prototypes alone.

        Without a gradient there is no update, no weight decay and no
        momentum, which is what freezing means in SwAV.
        """
        for prototypes in self._prototypes:
            prototypes.grad = None

    @property
    def _prototypes(self) -> list[Tensor]:
        """Return the (K, D) prototypes of each set."""
        return [linear.get_parameter('weight') for linear in self.prototypes]


def _score(embeddings: Tensor, prototypes: Tensor) -> Tensor:
    """Multiply (..., D) by (K, D): (..., K), in the prototypes' precision."""
    with torch.autocast(embeddings.device.type, enabled=False):
        return embeddings.to(prototypes.dtype) @ prototypes.T
