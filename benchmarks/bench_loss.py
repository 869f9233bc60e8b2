"""Loss step of SwAV, ours against mmpretrain's, forward and backward.

Both get the same embeddings, prototypes and queue. A step normalizes the
prototypes, makes codes, computes the loss, feeds the queue and runs backward.
Each side has its own process; they take turns. mmpretrain runs on one rank,
where its codes are right.

    taskset -c 1 python benchmarks/bench_loss.py
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from common import hardware, interleave_processes, summary, write_json
from torch import Tensor

from swav_plugin.models import SwAVHead

NUM_VIEWS, NUM_ASSIGNED, FEAT_DIM, NUM_PROTOTYPES = 8, 2, 128, 3000
Step = Callable[[], Tensor]


def make_steps(batch_size: int, queue_length: int) -> dict[str, Step]:
    """Make a training step of each implementation, from equal states."""
    from mmpretrain.models.losses import SwAVLoss

    generator = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, generator=generator), dim=-1)

    prototypes = unit(NUM_PROTOTYPES, FEAT_DIM)
    embeddings = unit(NUM_VIEWS * batch_size, FEAT_DIM)
    queue = (
        unit(NUM_ASSIGNED, queue_length, FEAT_DIM) if queue_length else None
    )
    return {
        'mmpretrain': _step_of_mmpretrain(
            SwAVLoss, prototypes, embeddings, queue
        ),
        'swav_plugin': _step_of_ours(prototypes, embeddings, queue),
    }


def make_step(name: str, batch_size: int, queue_length: int) -> Step:
    """Make the training step of one implementation."""
    return make_steps(batch_size, queue_length)[name]


def _step_of_mmpretrain(
    loss_class: type,
    prototypes: Tensor,
    embeddings: Tensor,
    queue: Tensor | None,
) -> Step:
    loss = loss_class(
        feat_dim=FEAT_DIM,
        num_prototypes=NUM_PROTOTYPES,
        num_crops=[NUM_ASSIGNED, NUM_VIEWS - NUM_ASSIGNED],
    )
    loss.prototypes.weight.data.copy_(prototypes)
    loss.queue = None if queue is None else queue.clone()
    return _training_step(loss, loss.prototypes.weight, embeddings)


def _step_of_ours(
    prototypes: Tensor, embeddings: Tensor, queue: Tensor | None
) -> Step:
    length = 0 if queue is None else queue.shape[1]
    head = SwAVHead(FEAT_DIM, NUM_PROTOTYPES, length)
    head.prototypes[0].weight.data.copy_(prototypes)
    if queue is not None:
        head.queue.push(queue)

    def loss(flat: Tensor) -> Tensor:
        return head.loss(flat.unflatten(0, (NUM_VIEWS, -1)))

    return _training_step(loss, head.prototypes[0].weight, embeddings)


def _training_step(
    loss: Callable[[Tensor], Tensor], prototypes: Tensor, embeddings: Tensor
) -> Step:
    embeddings = embeddings.clone().requires_grad_()

    def step() -> Tensor:
        embeddings.grad = prototypes.grad = None
        value = loss(embeddings)
        value.backward()
        gradients = torch.cat([embeddings.grad, prototypes.grad])
        return torch.cat([value.detach()[None], gradients.flatten()])

    return step


def difference(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Compare losses, and gradients relative to the largest."""
    loss = abs(float(one[0]) - float(other[0]))
    gradients = (one[1:] - other[1:]).abs().max() / one[1:].abs().max()
    return loss, float(gradients)


def main() -> None:
    """Print a table and write it to results/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings('ignore')

    results = []
    print(
        f'{"batch":>5} {"queue":>5} {"":<12} {"median ms":>9} '
        f'{"speedup [range]":>20}  loss and gradient difference'
    )
    for queue_length in (0, 3840):
        for batch_size in (32, 64):
            steps = make_steps(batch_size, queue_length)
            first = {name: step() for name, step in steps.items()}
            loss, gradient = difference(*first.values())
            times = interleave_processes(
                {
                    name: partial(make_step, name, batch_size, queue_length)
                    for name in steps
                },
                args.rounds,
            )
            for row in summary(times, baseline='mmpretrain'):
                row.update(
                    batch_size=batch_size,
                    queue_length=queue_length,
                    loss_difference=loss,
                    gradient_difference=gradient,
                )
                results.append(row)
                low, high = row['speedup_range']
                speedup = f'{row["speedup"]:.2f} [{low:.2f}-{high:.2f}]'
                print(
                    f'{batch_size:5} {queue_length:5} {row["name"]:<12} '
                    f'{row["median_ms"]:9.1f} {speedup:>20}  '
                    f'{loss:.1e} {gradient:.1e}'
                )
    path = write_json('loss_cpu', dict(hardware=hardware(), results=results))
    print(f'written to {path.name}')


if __name__ == '__main__':
    main()
