"""SwAVHook: when prototypes thaw, when the queue starts, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import Dataset

NUM_IMAGES, BATCH = 16, 4


class RandomViews(Dataset):
    """Two views of fixed noise for each image."""

    def __len__(self) -> int:
        return NUM_IMAGES

    def __getitem__(self, index: int) -> dict[str, list[Tensor]]:
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=[torch.randn(3, 8, 8, generator=generator)] * 2)


class Recorder(Hook):
    """Prototypes and the number of queued rows after every iteration."""

    def __init__(self) -> None:
        self.prototypes: list[Tensor] = []
        self.num_rows: list[int] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        head = runner.model.head
        weight = head.prototypes[0].weight.detach()
        self.prototypes.append(F.normalize(weight, dim=1))
        if head.queue is not None:
            self.num_rows.append(int(head.queue.num_rows))

    def moved(self) -> list[bool]:
        """Tell for each iteration after the first if prototypes moved."""
        # Normalizing once more changes the last bit.
        return [
            not torch.allclose(a, b, atol=1e-6)
            for a, b in zip(self.prototypes, self.prototypes[1:])
        ]


def train(
    work_dir: Path,
    hook: dict,
    head: dict,
    max_epochs: int = 2,
    accumulative_counts: int = 1,
    resume: bool = False,
    load_from: str | None = None,
    train_cfg: dict | None = None,
    default_hooks: dict | None = None,
    **kwargs: Any,
) -> Recorder:
    recorder = Recorder()
    torch.manual_seed(0)
    runner = Runner(
        model=dict(
            type='SwAV',
            backbone=dict(
                type='ResNet',
                depth=18,
                base_channels=4,
                stem_channels=4,
                norm_cfg=dict(type='GN', num_groups=2),
            ),
            neck=dict(
                type='SwAVNeck', in_channels=32, hid_channels=0, out_channels=8
            ),
            head=dict(type='SwAVHead', **head),
        ),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=RandomViews(),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
            batch_size=BATCH,
            num_workers=0,
        ),
        train_cfg=train_cfg or dict(by_epoch=True, max_epochs=max_epochs),
        optim_wrapper=dict(
            accumulative_counts=accumulative_counts,
            optimizer=dict(type='SGD', lr=0.5, momentum=0.9),
        ),
        custom_hooks=[dict(type='SwAVHook', **hook), recorder],
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=1),
            **(default_hooks or {}),
        ),
        randomness=dict(seed=0),
        resume=resume,
        load_from=load_from,
        default_scope='swav_plugin',
        experiment_name=f'hook_{work_dir.name}_{max_epochs}',
        cfg=kwargs,
    )
    runner.train()
    return recorder


def test_prototypes_thaw_after_so_many_steps(tmp_path: Path) -> None:
    recorder = train(
        tmp_path, dict(freeze_prototypes_iters=3), dict(num_prototypes=4)
    )
    assert recorder.moved() == [False, False] + [True] * 5


def test_with_accumulation_it_counts_steps_not_batches(tmp_path: Path) -> None:
    recorder = train(
        tmp_path,
        dict(freeze_prototypes_iters=2),
        dict(num_prototypes=4),
        accumulative_counts=2,
    )
    # Batches 2 and 4 end frozen steps; 6 and 8 move the prototypes.
    assert recorder.moved() == [False] * 4 + [True, False, True]


def test_a_resumed_run_thaws_at_the_same_step(tmp_path: Path) -> None:
    train(
        tmp_path,
        dict(freeze_prototypes_iters=6),
        dict(num_prototypes=4),
        max_epochs=1,
    )
    resumed = train(
        tmp_path,
        dict(freeze_prototypes_iters=6),
        dict(num_prototypes=4),
        resume=True,
    )
    assert resumed.moved() == [False, True, True]


def test_the_queue_starts_with_its_epoch(tmp_path: Path) -> None:
    recorder = train(
        tmp_path,
        dict(queue_begin_epoch=1),
        dict(num_prototypes=4, queue_length=8),
    )
    assert recorder.num_rows == [0] * 4 + [4, 8, 8, 8]


def test_the_queue_starts_under_an_iteration_based_loop_too(
    tmp_path: Path,
) -> None:
    recorder = train(
        tmp_path,
        dict(queue_begin_epoch=1),
        dict(num_prototypes=4, queue_length=8),
        train_cfg=dict(by_epoch=False, max_iters=7),
    )
    assert recorder.num_rows == [0] * 4 + [4, 8, 8]


def test_weights_of_another_run_come_without_its_queue(tmp_path: Path) -> None:
    head = dict(num_prototypes=4, queue_length=8)
    train(tmp_path / 'one', {}, head)
    recorder = train(
        tmp_path / 'other',
        dict(queue_begin_epoch=1),
        head,
        load_from=str(tmp_path / 'one/epoch_2.pth'),
    )
    assert recorder.num_rows == [0] * 4 + [4, 8, 8, 8]


def test_a_resumed_run_goes_on_as_an_uninterrupted_one(tmp_path: Path) -> None:
    settings: tuple = (
        dict(queue_begin_epoch=0, freeze_prototypes_iters=2),
        dict(num_prototypes=4, queue_length=8),
    )
    whole = train(tmp_path / 'whole', *settings, max_epochs=3)
    train(tmp_path / 'parts', *settings, max_epochs=1)
    rest = train(tmp_path / 'parts', *settings, max_epochs=3, resume=True)
    for expected, prototypes in zip(whole.prototypes[4:], rest.prototypes):
        assert torch.equal(prototypes, expected)
    assert rest.num_rows == whole.num_rows[4:]


@pytest.mark.parametrize(
    'head,message',
    [
        (dict(num_prototypes=4, queue_length=10), 'to 8 or 12, or to 0'),
        (dict(num_prototypes=4, queue_length=2), 'to 4, or to 0'),
    ],
)
def test_impossible_recipes_are_refused_before_training(
    tmp_path: Path, head: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train(tmp_path, {}, head)


@pytest.mark.parametrize(
    'head,message',
    [
        (
            dict(num_prototypes=5),
            '5 prototypes share 4 images: each gets 0.8 of an image, so every '
            'code is spread over 2 prototypes or more.',
        ),
        (
            dict(num_prototypes=13, queue_length=8),
            '13 prototypes share 4 images and 8 queued: each gets 0.92 of',
        ),
        (
            dict(num_prototypes=[3, 20]),
            'num_prototypes to at most 4, or model.head.queue_length to at '
            'least 16.',
        ),
    ],
)
def test_more_prototypes_than_images_is_a_warning(
    tmp_path: Path, head: dict, message: str
) -> None:
    recorder = train(tmp_path, {}, head)
    assert len(recorder.prototypes) == 8  # it trains
    log = next(tmp_path.glob('*/*.log')).read_text()
    (line,) = [line for line in log.splitlines() if 'prototypes share' in line]
    assert ' - WARNING - ' in line and message in line


def test_as_many_prototypes_as_images_is_no_warning(tmp_path: Path) -> None:
    train(tmp_path, {}, dict(num_prototypes=12, queue_length=8), max_epochs=1)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'prototypes share' not in log


@pytest.mark.parametrize('priority', [{}, dict(priority='HIGH')])
def test_a_custom_hook_wins(tmp_path: Path, priority: dict) -> None:
    # A script of the user's with mmengine's Runner, whose config has the list
    # of version 0.1 on top of a recipe.
    with pytest.warns(FutureWarning, match='default_hooks.swav') as warned:
        recorder = train(
            tmp_path,
            dict(freeze_prototypes_iters=3, **priority),
            dict(num_prototypes=4),
            default_hooks=dict(
                swav=dict(type='SwAVHook', freeze_prototypes_iters=6)
            ),
        )
    assert recorder.moved() == [False, False] + [True] * 5
    assert sum(each.category is FutureWarning for each in warned) == 1


def test_several_custom_hooks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='there are 2 SwAVHooks .* keep one'):
        train(
            tmp_path,
            {},
            dict(num_prototypes=4),
            default_hooks=dict(swav=dict(type='SwAVHook')),
            custom_hooks=[dict(type='SwAVHook')] * 2,
        )


def test_accumulation_says_what_the_codes_see(tmp_path: Path) -> None:
    train(
        tmp_path,
        {},
        dict(num_prototypes=4, queue_length=8),
        accumulative_counts=2,
    )
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'they see 4 images at a time and 8 queued, not 8' in log


def test_checkpointing_a_whole_backbone_is_refused(tmp_path: Path) -> None:
    # It would train on with a backbone that never changes.
    with pytest.raises(ValueError, match='with_cp=True'):
        train(
            tmp_path,
            {},
            dict(num_prototypes=4),
            activation_checkpointing=['backbone'],
        )
