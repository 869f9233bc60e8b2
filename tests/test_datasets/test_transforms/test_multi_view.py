"""Views: decoded once, never copied, the same on any machine."""

import random
from collections.abc import Callable
from pathlib import Path

import mmengine.dataset.sampler
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor

from swav_plugin.datasets import ImageFolder, SampleKey
from swav_plugin.datasets.transforms import (
    MultiView,
    RandomResizedCrop,
    loading,
)
from swav_plugin.registry import TRANSFORMS

from ..conftest import write_image

KEY = SampleKey(7, epoch=2, seed=31)


def crops(size: int) -> list[dict | Callable]:
    """SwAV's transforms for one group of views."""
    return [
        dict(type='RandomResizedCrop', size=size),
        dict(type='RandomFlip'),
        dict(
            type='ColorJitter',
            brightness=0.8,
            contrast=0.8,
            saturation=0.8,
            hue=0.2,
            prob=0.8,
        ),
        dict(type='RandomGrayscale'),
        dict(type='GaussianBlur'),
    ]


def image(height: int = 40, width: int = 60) -> np.ndarray:
    """A (height, width, 3) image of noise."""
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(height, width, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    """Nine images, two of them broken, with 2 + 3 views."""
    root = tmp_path_factory.mktemp('images')
    for i in range(9):
        write_image(root / f'{i}.png', seed=i)
    for name in ('2.png', '6.png'):
        (root / name).write_bytes(b'')
    return ImageFolder(
        root,
        pipeline=[
            dict(type='LoadImage'),
            dict(
                type='MultiView',
                num_views=[2, 3],
                transforms=[crops(16), crops(8)],
            ),
            dict(type='PackViews'),
        ],
    )


Views = dict[int, tuple[list[Tensor], str, list[str]]]


def epochs(
    dataset: ImageFolder,
    numbers: list[int],
    num_workers: int = 0,
    persistent_workers: bool = False,
    seed: int = 31,
) -> list[Views]:
    """Run epochs; position in the epoch -> (views, path, skipped)."""
    with DefaultScope.overwrite_default_scope('swav_plugin'):
        loader = Runner.build_dataloader(
            dict(
                dataset=dataset,
                sampler=dict(type='KeyedSampler'),
                batch_size=2,
                num_workers=num_workers,
                persistent_workers=persistent_workers,
                collate_fn=dict(type='default_collate'),
            ),
            seed=seed,
        )
    found = []
    for number in numbers:
        loader.sampler.set_epoch(number)
        views: Views = {}
        for batch in loader:
            for i, sample in enumerate(batch['data_samples']):
                views[len(views)] = (
                    [view[i] for view in batch['inputs']],
                    sample.img_path,
                    sample.skipped,
                )
        found.append(views)
    return found


def assert_same(first: Views, second: Views) -> None:
    """All views, files and reports are equal."""
    assert first.keys() == second.keys()
    for sample, (views, path, skipped) in first.items():
        assert (path, skipped) == second[sample][1:]
        assert len(views) == 5
        for a, b in zip(views, second[sample][0]):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    'num_workers, persistent', [(1, False), (2, False), (2, True)]
)
def test_views_do_not_depend_on_workers(
    dataset: ImageFolder, num_workers: int, persistent: bool
) -> None:
    one_process = epochs(dataset, [0, 1])
    assert sum(len(skip) > 0 for *_, skip in one_process[0].values()) == 2
    for views, expected in zip(
        epochs(dataset, [0, 1], num_workers, persistent), one_process
    ):
        assert_same(views, expected)


def test_views_do_not_depend_on_ranks(
    dataset: ImageFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one_rank,) = epochs(dataset, [4])
    together: Views = {}
    for rank in range(2):
        monkeypatch.setattr(
            mmengine.dataset.sampler, 'get_dist_info', lambda: (rank, 2)
        )
        (views,) = epochs(dataset, [4])
        together.update({2 * i + rank: view for i, view in views.items()})
    # Nine samples for two ranks: the tenth is the first once more.
    assert_same({9: together.pop(9)}, {9: one_rank[0]})
    assert_same(together, one_rank)


def test_resumed_epoch_is_the_uninterrupted_one(dataset: ImageFolder) -> None:
    uninterrupted = epochs(dataset, [0, 1, 2])
    (resumed,) = epochs(dataset, [2])
    assert_same(resumed, uninterrupted[2])


def test_epochs_and_seeds_give_other_views(dataset: ImageFolder) -> None:
    def first_views(views: Views) -> dict[str, Tensor]:
        return {
            path: view[0] for view, path, skip in views.values() if not skip
        }

    zero, one = (first_views(views) for views in epochs(dataset, [0, 1]))
    other_seed = first_views(epochs(dataset, [0], seed=32)[0])
    assert len(zero) == 7
    for path, view in zero.items():
        assert not torch.equal(view, one[path])
        assert not torch.equal(view, other_seed[path])


def test_views_differ_from_each_other() -> None:
    # A constant crop of noise: equal views would have equal pixels.
    multi_view = MultiView(8, [[RandomResizedCrop(16)]])
    views = multi_view(dict(img=image(), sample_idx=KEY))['img']
    assert len({view.tobytes() for view in views}) == 8


def test_a_view_does_not_depend_on_the_number_of_views() -> None:
    few, many = (
        MultiView(n, [crops(16)] + [crops(8)] * (len(n) - 1))(
            dict(img=image(), sample_idx=KEY)
        )['img']
        for n in ([2], [2, 6])
    )
    assert len(many) == 8
    assert [view.shape for view in many[1:3]] == [(16, 16, 3), (8, 8, 3)]
    for a, b in zip(few, many):
        np.testing.assert_array_equal(a, b)


class Record:
    """A transform of another package that keeps what it saw."""

    def __init__(self) -> None:
        self.images: list[np.ndarray] = []
        self.numbers: list[tuple[int, float, float]] = []

    def __call__(self, results: dict) -> dict:
        self.images.append(results['img'])
        self.numbers.append(
            (random.getrandbits(63), np.random.rand(), torch.rand(()).item())
        )
        return results


def test_image_is_decoded_once_and_never_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / '0.png', seed=0)
    decoded = []

    def read_rgb(path: str, value_range: None) -> np.ndarray:
        decoded.append(image())
        return decoded[-1]

    monkeypatch.setattr(loading, 'read_rgb', read_rgb)
    record = Record()
    ImageFolder(
        tmp_path,
        [
            dict(type='LoadImage'),
            MultiView([2, 6], [[record], [record]]),
        ],
    )[0]
    assert len(decoded) == 1
    assert len(record.images) == 8
    for seen in record.images:
        assert np.shares_memory(seen, decoded[0])


def test_writing_into_the_shared_image_is_an_error() -> None:
    def blacken(results: dict) -> dict:
        results['img'][:] = 0
        return results

    img = image()
    with pytest.raises(ValueError, match='read-only'):
        MultiView(2, [[blacken]])(dict(img=img, sample_idx=KEY))
    np.testing.assert_array_equal(img, image())
    # After a crop the pixels are the view's own.
    views = MultiView(
        2,
        [
            [
                dict(type='RandomFlip', prob=0.0),
                lambda results: dict(results, img=results['img'].copy()),
                blacken,
            ]
        ],
    )(dict(img=img, sample_idx=KEY))['img']
    assert not np.stack(views).any()


def test_other_keys_of_a_view_do_not_reach_the_others() -> None:
    seen = []

    def note(results: dict) -> dict:
        seen.append(results.get('flip'))
        results['flip'] = True
        return results

    results = MultiView(3, [[note]])(dict(img=image(), sample_idx=KEY))
    assert seen == [None] * 3
    assert set(results) == {'img', 'sample_idx'}


def test_global_generators_are_keyed_for_other_packages() -> None:
    first, second, other = Record(), Record(), Record()
    for record, key in (
        (first, KEY),
        (second, KEY),
        (other, SampleKey(7, epoch=3, seed=31)),
    ):
        random.seed(0)
        np.random.seed(len(other.numbers))
        MultiView(2, [[record, record]])(dict(img=image(), sample_idx=key))
    assert first.numbers == second.numbers
    assert len(set(first.numbers + other.numbers)) == 8
    # The caller's numbers go on as if nothing had happened.
    random.seed(0)
    expected = random.random()
    random.seed(0)
    MultiView(2, [[first]])(dict(img=image(), sample_idx=KEY))
    assert random.random() == expected


def test_transforms_of_mmcv_and_mmpretrain_by_name() -> None:
    # The crop is mmpretrain's; Normalize is mmcv's; both by plain name.
    multi_view = TRANSFORMS.build(
        dict(
            type='MultiView',
            num_views=2,
            transforms=[
                [
                    dict(type='EfficientNetRandomCrop', scale=24),
                    dict(
                        type='Normalize',
                        mean=[0] * 3,
                        std=[255] * 3,
                        to_rgb=False,
                    ),
                ]
            ],
        )
    )
    first, second = (
        multi_view(dict(img=image(), sample_idx=KEY))['img'] for _ in range(2)
    )
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)
        assert a.shape == (24, 24, 3) and a.max() <= 1
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize(
    'num_views, groups, message',
    [
        (
            [2, 6],
            1,
            'got 1 crop groups but 2 counts; give one count for each ',
        ),
        (2, 2, 'got 2 crop groups but 1 counts'),
        ([2, 0], 2, 'every group needs at least one view'),
        ([2, 6.0], 2, 'every group needs at least one view'),
        ([], 0, 'every group needs at least one view'),
    ],
)
def test_counts_must_fit_groups(
    num_views: int | list[int], groups: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MultiView(num_views, [crops(16)] * groups)


def test_flat_list_of_transforms_is_an_error() -> None:
    with pytest.raises(ValueError, match='give one list for each group'):
        MultiView(2, crops(16))  # type: ignore[arg-type]
