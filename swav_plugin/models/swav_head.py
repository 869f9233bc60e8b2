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
from .swav_loss import harden, prototype_loss_, sinkhorn, sinkhorn_with_queue


@MODELS.register_module()
class SwAVHead(BaseModule):
    """Score embeddings against prototypes and predict swapped codes.

    Args:
        feat_dim: D. `SwAV` takes it from the neck.
        num_prototypes: K, or one K for each of several sets of prototypes
            that share the embedding; their losses are averaged.
        queue_length: L, embeddings kept for each coded view over all ranks; a
            multiple of the total batch size. 0 for no queue.
        num_assign_views: A. The first A views get codes.
        epsilon: Entropy weight of Sinkhorn.
        num_iters: Sweeps of Sinkhorn.
        temperature: Of the softmax over prototypes.
        hard_assignment: Whether codes are rounded to one prototype each.
        init_cfg: As in mmengine.

    Without a `SwAVHook` the queue is used from the first step on that finds
    it full and prototypes are never frozen.

    Raises:
        ValueError: If an argument is out of range.

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
            or (num_assign_views < 1 or temperature <= 0)
        ):
            raise ValueError(
                f'SwAVHead got num_prototypes={num_prototypes}, queue_length='
                f'{queue_length}, num_assign_views={num_assign_views} and '
                f'temperature={temperature}; it needs at least one prototype '
                'in each set, one coded view, a queue of 0 or more and a '
                'temperature > 0.'
            )
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
        self._score_buffer: Tensor | None = None

    def forward(self, embeddings: Tensor) -> list[Tensor]:
        """Scores of (N, D) embeddings against each set: a list of (N, K).

        They are cosines where prototypes are normalised, as `loss` does.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            return [
                embeddings.float() @ prototypes.T
                for prototypes in self._prototypes
            ]

    @torch.no_grad()
    def predict(self, embeddings: Tensor) -> Tensor:
        """Softmax over the cosines to the first set: (N, D) -> (N, K)."""
        # An optimizer step leaves prototypes a little off unit length.
        prototypes = F.normalize(self._prototypes[0], dim=1)
        cosines = embeddings.float() @ prototypes.float().T
        return (cosines.float() / self.temperature).softmax(1)

    def loss(self, embeddings: Tensor) -> Tensor:
        """Swapped prediction loss of a batch; also feeds the queue.

        Args:
            embeddings: (V, B, D) rows of unit norm.

        Returns:
            Scalar, the mean over this rank's images and the prototype sets.

        Raises:
            ValueError: If there are fewer than `num_assign_views` views, or
                a single one.
        """
        self.normalize_prototypes()
        num_views, num_images, _ = embeddings.shape
        if num_views < max(2, self.num_assign_views):
            raise ValueError(
                f'got {num_views} views of which num_assign_views='
                f'{self.num_assign_views} should have codes; give two views '
                'or more, or lower model.head.num_assign_views.'
            )
        flat = embeddings.flatten(0, 1).float()
        losses = []
        with torch.no_grad():
            every_score = self(flat)
        for prototypes, scores in zip(self._prototypes, every_score):
            scores = scores.view(num_views, num_images, -1)
            codes = self._codes(scores[: self.num_assign_views], prototypes)
            losses.append(
                prototype_loss_(
                    flat, prototypes, scores, codes, self.temperature
                )
            )
        # Codes were made with the old content; only then the batch goes in.
        if self.queue is not None and self._queue_started:
            self.queue.push(embeddings[: self.num_assign_views])
        return torch.stack(losses).mean()

    @torch.no_grad()
    def normalize_prototypes(self) -> None:
        """Scale every prototype to unit length, in place."""
        for prototypes in self._prototypes:
            norms = prototypes.norm(dim=1, keepdim=True)
            prototypes.div_(norms.clamp_(min=1e-12))

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
        """(K, D) of each set."""
        return [linear.get_parameter('weight') for linear in self.prototypes]

    @torch.no_grad()
    def _codes(self, scores: Tensor, prototypes: Tensor) -> Tensor:
        """(A, B, K) codes of the coded views with (A, B, K) scores."""
        if self._uses_queue:
            assert self.queue is not None
            codes = [
                sinkhorn_with_queue(
                    view,
                    queued,
                    prototypes,
                    self.epsilon,
                    self.num_iters,
                    self._buffer(len(queued), view),
                )
                for view, queued in zip(scores, self.queue.shard())
            ]
        else:
            codes = [
                sinkhorn(view, self.epsilon, self.num_iters) for view in scores
            ]
        if self.hard_assignment:
            codes = [harden(code) for code in codes]
        return torch.stack(codes)

    @property
    def _uses_queue(self) -> bool:
        return (
            self.queue is not None
            and self._queue_started
            and self.queue.is_full
        )

    def _buffer(self, num_queued: int, scores: Tensor) -> Tensor:
        """Scratch memory (N + B, K), kept from step to step."""
        num_rows = num_queued + len(scores)
        buffer = self._score_buffer
        if (
            buffer is None
            or buffer.device != scores.device
            or (len(buffer) < num_rows * max(self.num_prototypes))
        ):
            buffer = self._score_buffer = scores.new_empty(
                num_rows * max(self.num_prototypes)
            )
        return buffer[: num_rows * scores.shape[1]].view(num_rows, -1)
