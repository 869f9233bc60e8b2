"""HeadStatistics: sums over what a head computes, on its device.

Letters for shapes: V views (the first A get codes), B images per rank,
K prototypes, D embedding size.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from .health import entropy, view_distances, without_colors


class HeadStatistics:
    """Sums for `health.summarize`, of the latest iterations and of the epoch.

    The head adds to sums on its device, from which nothing is read: the host
    does not wait. `collect` reads them, together for all ranks, and adds them
    to the sums on the host:

    - `window`: since the last `end_window`;
    - `recent`: the same and the window before;
    - `epoch`: since the last `end_epoch`.

    Args:
        num_prototypes: K of each set of prototypes.
        feat_dim: D.
        device: Device of the head.
    """

    def __init__(
        self,
        num_prototypes: Sequence[int],
        feat_dim: int,
        device: torch.device,
    ) -> None:
        self._shapes: dict[str, tuple[int, ...]] = dict.fromkeys(
            (
                'loss_share',
                'steps',
                'rows',
                'gradient_norm',
                'gradients',
                'same_image',
                'other_images',
                'same_image_gray',
                'other_images_gray',
            ),
            (),
        )
        self._shapes['gram'] = (feat_dim, feat_dim)
        self._shapes['embeddings'] = (feat_dim,)
        for index, count in enumerate(num_prototypes):
            for name in ('codes', 'predictions', 'nearest', 'queued'):
                self._shapes[f'{name}.{index}'] = (count,)
            for name in (
                'code_entropy',
                'prediction_entropy',
                'agreeing',
                'pairs',
            ):
                self._shapes[f'{name}.{index}'] = ()
        self._ln_k = sum(map(math.log, num_prototypes)) / len(num_prototypes)
        # One tensor: one sum over ranks, one copy to the host. Apple's GPUs
        # have no float64.
        dtype = torch.float32 if device.type == 'mps' else torch.float64
        num = sum(math.prod(shape) for shape in self._shapes.values())
        self._on_device = torch.zeros(num, dtype=dtype, device=device)
        self._sums = self._split(self._on_device)
        self._window, self._last_window, self._epoch = (
            torch.zeros(num, dtype=torch.float64) for _ in range(3)
        )

    def _split(self, flat: Tensor) -> dict[str, Tensor]:
        """Return views of all numbers, by name."""
        parts = flat.split([math.prod(s) for s in self._shapes.values()])
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self._shapes.items(), parts)
        }

    @property
    def window(self) -> dict[str, Tensor]:
        """Return the sums of the window, as far as they are collected."""
        return self._split(self._window)

    @property
    def recent(self) -> dict[str, Tensor]:
        """Return the sums of this window and the last one."""
        return self._split(self._last_window + self._window)

    @property
    def epoch(self) -> dict[str, Tensor]:
        """Return the sums of the epoch, as far as they are collected."""
        return self._split(self._epoch)

    @torch.no_grad()
    def add_batch(self, embeddings: Tensor, loss: Tensor) -> None:
        """Add a batch: (A, B, D) embeddings of assigned views, and its loss.

        The loss counts as a share of ln K.
        """
        rows = embeddings.flatten(0, 1).to(self._on_device.dtype)
        sums = self._sums
        sums['gram'].addmm_(rows.T, rows)
        sums['embeddings'].add_(rows.sum(0))
        sums['rows'].add_(len(rows))
        sums['loss_share'].add_(loss / self._ln_k)
        sums['steps'].add_(1)

    @torch.no_grad()
    def add_scores(
        self, index: int, scores: Tensor, codes: Tensor, temperature: float
    ) -> None:
        """Add what one set of prototypes makes of a batch.

        Args:
            index: Which set.
            scores: (V, B, K), V >= 2.
            codes: (A, B, K).
            temperature: T of the predictions.
        """
        num_assigned, num_images = codes.shape[:2]
        predictions = _predict(scores[:num_assigned], temperature)
        nearest = scores[: max(2, num_assigned)].argmax(2)  # (2 or more, B)
        kinds = torch.arange(scores.shape[2], device=scores.device)
        # Not bincount, which asks the device how long its result is.
        hits = nearest[:num_assigned, :, None] == kinds
        added: dict[str, Tensor | int] = dict(
            codes=codes.sum((0, 1)),
            predictions=predictions.sum((0, 1)),
            nearest=hits.sum((0, 1)),
            code_entropy=entropy(codes).sum(),
            prediction_entropy=entropy(predictions).sum(),
            agreeing=(nearest[0] == nearest[1]).sum(),
            pairs=num_images,
        )
        for name, value in added.items():
            self._sums[f'{name}.{index}'].add_(value)

    @torch.no_grad()
    def add_views(self, view: Tensor, other: Tensor) -> None:
        """Add how far two (B, 3, h, w) views of each image are apart.

        Of 16 images, and of larger views about 16 x 16 pixels: all of them
        took 0.6 % of a step. Views of two sizes are left out.
        """
        if view.shape != other.shape or len(view) < 2:
            return
        step = max(1, view.shape[-1] // 16)
        views = [
            each[:16, :, ::step, ::step].float() for each in (view, other)
        ]
        for suffix, pair in {
            '': views,
            '_gray': [without_colors(each) for each in views],
        }.items():
            same, others = view_distances(*pair)
            self._sums[f'same_image{suffix}'].add_(same)
            self._sums[f'other_images{suffix}'].add_(others)

    @torch.no_grad()
    def add_queued(
        self, index: int, scores: Tensor, temperature: float
    ) -> None:
        """Add (A, N, K) scores of embeddings in the queue."""
        predictions = _predict(scores, temperature)
        self._sums[f'queued.{index}'].add_(predictions.sum((0, 1)))

    @torch.no_grad()
    def add_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Add the norm of all gradients of one optimizer step."""
        norms = torch.stack([gradient.norm() for gradient in gradients])
        self._sums['gradient_norm'].add_(norms.norm())
        self._sums['gradients'].add_(1)

    def collect(self) -> None:
        """Move what was added, on all ranks, to the sums on the host.

        All ranks have to call it equally often, and have the same sums then.
        What is not finite, such as after an overflow in float16, is dropped.
        """
        flat = self._on_device.clone()
        self._on_device.zero_()
        all_reduce(flat)
        flat = flat.cpu().double()
        if flat.isfinite().all():
            self._window += flat
            self._epoch += flat

    def end_window(self) -> None:
        """Begin a new window."""
        self._last_window.copy_(self._window)
        self._window.zero_()

    def end_epoch(self) -> None:
        """Begin a new epoch."""
        self._epoch.zero_()

    def state(self) -> dict[str, Tensor]:
        """Return what is collected, for `restore`."""
        return dict(
            window=self._window.clone(),
            last_window=self._last_window.clone(),
            epoch=self._epoch.clone(),
        )

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; one of another model is left alone."""
        own = self.state()
        if any(
            getattr(state.get(name), 'shape', None) != each.shape
            for name, each in own.items()
        ):
            return
        self._window.copy_(state['window'])
        self._last_window.copy_(state['last_window'])
        self._epoch.copy_(state['epoch'])


def _predict(scores: Tensor, temperature: float) -> Tensor:
    """Return the predictions of a head, (..., K), in float32 or more."""
    return (scores / temperature).softmax(-1)
