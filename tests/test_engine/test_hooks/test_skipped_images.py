"""Unreadable images are counted over ranks and passes."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.dataset import RepeatDataset
from mmpretrain.structures import DataSample
from PIL import Image
from torch.utils.data import DataLoader

from swav_plugin.datasets.image_folder import ImageFolder, NoReadableImage
from swav_plugin.datasets.transforms.loading import UnreadableImage, read_rgb
from swav_plugin.engine import SkippedImagesHook
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.hooks.skipped_images import skipped_images_stored
from tests.distributed import run_on_ranks


class Records(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def batch(*skipped: list[str]) -> dict:
    return dict(
        data_samples=[
            DataSample(metainfo=dict(skipped=entries)) for entries in skipped
        ]
    )


class Loader(list):
    """Some batches of a set of images."""

    def __init__(self, num_batches: int, dataset: Any) -> None:
        super().__init__([None] * num_batches)
        self.dataset = dataset


def fake_runner(
    work_dir: str, hook: SkippedImagesHook, loader: Loader
) -> SimpleNamespace:
    """What the hook needs of a Runner."""
    records = Records()
    logger = logging.Logger('skipped')
    logger.addHandler(records)
    return SimpleNamespace(
        iter=0,
        train_dataloader=loader,
        work_dir=work_dir,
        logger=logger,
        messages=records.messages,
        hooks=[hook],
    )


def train(
    work_dir: str,
    batches: list[dict],
    batches_per_pass: int = 2,
    num_images: int = 1000,
) -> list[str]:
    """Show the hook some batches; return what it logged."""
    hook = SkippedImagesHook(num_names=2)
    runner = fake_runner(
        work_dir, hook, Loader(batches_per_pass, range(num_images))
    )
    with skipped_images_stored(runner):
        for index, data_batch in enumerate(batches):
            hook.after_train_iter(runner, index, data_batch)
            runner.iter += 1
        hook.after_train(runner)
    return runner.messages


def test_each_pass_is_reported_and_each_file_stored_once(
    tmp_path: Path,
) -> None:
    messages = train(
        str(tmp_path),
        [
            batch([], ['b: y']),
            batch(['a: x', 'c: z']),
            batch([]),
            batch([]),
            batch(['b: y']),
            batch(['b: y']),
            batch(['d: w']),
        ],
    )
    assert [message.split('.')[0] for message in messages] == [
        'Iteration 2: unreadable images since the last count: 3',
        'Iteration 6: unreadable images since the last count: 1',
        # The run ended in the middle of a pass.
        'Iteration 7: unreadable images since the last count: 1',
    ]
    assert messages[0].endswith(': a: x; b: y; ...')
    file = tmp_path / 'skipped_images.txt'
    assert file.read_text() == 'b: y\na: x\nc: z\nd: w\n'
    # A resumed run adds to it.
    train(str(tmp_path), [batch(['d: w', 'e: v'])])
    assert file.read_text() == 'b: y\na: x\nc: z\nd: w\ne: v\n'


def test_nothing_skipped_leaves_no_trace(tmp_path: Path) -> None:
    batches = [batch([]), dict(inputs=[]), dict(data_samples=[DataSample()])]
    assert train(str(tmp_path), batches) == []
    assert not any(tmp_path.iterdir())


def test_any_file_name(tmp_path: Path) -> None:
    # Linux names are bytes; Python shows bad UTF-8 as lone surrogates.
    # A line break is escaped: one file, one line.
    train(str(tmp_path), [batch(['\udcff.jpg: x', 'a\nb.jpg: x'])] * 4)
    file = tmp_path / 'skipped_images.txt'
    assert file.read_bytes() == b'a\\nb.jpg: x\n\xff.jpg: x\n'


def skip_on_rank(rank: int, work_dir: str) -> list[str]:
    return train(work_dir, [batch([f'{rank}: x']), batch(['same: y'])])


def test_ranks_are_put_together(tmp_path: Path) -> None:
    messages, others = run_on_ranks(skip_on_rank, 2, str(tmp_path))
    assert len(messages) == 1 and others == []
    assert 'since the last count: 3.' in messages[0]
    file = tmp_path / 'skipped_images.txt'
    assert file.read_text() == '0: x\n1: x\nsame: y\n'


# Too many


def test_more_than_the_share_stop_the_run(tmp_path: Path) -> None:
    bad = [batch([f'{i}: x']) for i in range(6)]
    # 5 of 100 are 5 %, and may be met again.
    train(str(tmp_path), bad[:5] * 2, num_images=100)
    file = tmp_path / 'skipped_images.txt'
    assert file.read_text() == '0: x\n1: x\n2: x\n3: x\n4: x\n'
    file.unlink()
    with pytest.raises(
        UsageError,
        match=r'6 of 100 images cannot be read, more than max_share=0.05 of '
        r'them: 0: x; 1: x; ... All are listed in .*/skipped_images.txt',
    ):
        train(str(tmp_path), bad, num_images=100)
    assert len(file.read_text().splitlines()) == 6


def test_one_image_never_stops_a_run(tmp_path: Path) -> None:
    train(str(tmp_path), [batch(['a: x'])] * 9, num_images=4)
    with pytest.raises(UsageError, match='2 of 4 images cannot be read'):
        train(str(tmp_path), [batch(['a: x', 'b: y'])], num_images=4)


def test_a_long_pass_stops_early(tmp_path: Path) -> None:
    seen = []

    def batches() -> Any:
        for number in range(1000):
            seen.append(number)
            yield batch([f'{number}: x'], [f'{number}b: x'])

    with pytest.raises(UsageError, match='128 of 2,000 images'):
        train(str(tmp_path), batches(), 1000, num_images=2000)
    # 100 are allowed, which 50 iterations find, and 64 is a power of two.
    assert len(seen) == 64


def test_a_resumed_run_counts_what_it_found_before(tmp_path: Path) -> None:
    """Only what still cannot be read: the message says to repair it."""
    broken = []
    for name in ('a: b.jpg', 'c.jpg', 'gone.jpg', 'repaired.jpg'):
        (tmp_path / name).write_bytes(b'not an image')
        with pytest.raises(UnreadableImage) as caught:
            read_rgb(tmp_path / name)
        broken.append(batch([str(caught.value)]))
    train(str(tmp_path), broken, num_images=100)
    (tmp_path / 'gone.jpg').unlink()
    Image.new('RGB', (2, 2)).save(tmp_path / 'repaired.jpg')
    hook = SkippedImagesHook()
    runner = fake_runner(str(tmp_path), hook, Loader(1, range(100)))
    runner._resume = True
    hook.before_train(runner)
    for number in range(3):
        hook.after_train_iter(runner, 0, batch([f'{number}: x']))
    hook.after_train_iter(runner, 0, broken[0])  # met again
    with pytest.raises(UsageError, match='6 of 100 images cannot be read'):
        hook.after_train_iter(runner, 0, batch(['3: x']))


def test_share_is_of_the_images_of_a_repeated_set(tmp_path: Path) -> None:
    (tmp_path / 'd').mkdir()
    for number in range(10):
        (tmp_path / f'd/{number}.jpg').touch()
    dataset = RepeatDataset(ImageFolder(tmp_path / 'd'), times=100)
    hook = SkippedImagesHook()
    runner = fake_runner(str(tmp_path), hook, Loader(1, dataset))
    with pytest.raises(UsageError, match='2 of 10 images cannot be read'):
        hook.after_train_iter(runner, 0, batch(['a: x', 'b: x']))


def test_a_share_of_one_lets_everything_pass(tmp_path: Path) -> None:
    hook = SkippedImagesHook(max_share=1)
    runner = fake_runner(str(tmp_path), hook, Loader(1, range(2)))
    hook.after_train_iter(runner, 0, batch(['a: x', 'b: x']))
    for share, shown in ((5, '5'), ('10%', "'10%'"), (None, 'None')):
        with pytest.raises(ValueError, match=f'max_share={shown}; give a sh'):
            SkippedImagesHook(max_share=share)  # type: ignore[arg-type]


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
def test_list_is_stored_if_something_else_ends_the_run(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def batches() -> Any:
        yield from [batch([])] * 2
        yield batch(['late: x'])
        raise error('stop')

    with pytest.raises(error, match='stop'):
        train(str(tmp_path), batches(), 99)
    file = tmp_path / 'skipped_images.txt'
    assert file.read_text() == 'late: x\n'


@pytest.mark.parametrize('is_from_worker', [False, True])
def test_list_is_stored_if_nothing_can_be_read(
    tmp_path: Path, is_from_worker: bool
) -> None:
    for number in range(3):
        (tmp_path / f'{number}.jpg').touch()
    dataset = ImageFolder(tmp_path, [dict(type='LoadImage')])

    def batches() -> Any:
        yield batch(['other: x'])
        if is_from_worker:
            next(iter(DataLoader(dataset, num_workers=1)))
        yield dataset[0]

    with pytest.raises(
        UsageError, match='^21 images drawn one after another cannot be read'
    ) as caught:
        train(str(tmp_path), batches(), 99)
    assert isinstance(caught.value.__cause__, NoReadableImage)
    file = tmp_path / 'skipped_images.txt'
    empty = [f'{tmp_path}/{i}.jpg: the file is empty' for i in range(3)]
    assert sorted(file.read_text().splitlines()) == [*empty, 'other: x']


def skip_many_on_rank(rank: int, work_dir: str) -> str:
    try:
        train(work_dir, [batch([f'{rank}: x'])], num_images=20)
    except UsageError as error:
        file = Path(work_dir) / 'skipped_images.txt'
        return f'{error} {file.read_text()!r}'
    return ''


def test_all_ranks_stop_after_the_list_is_stored(tmp_path: Path) -> None:
    # One image on each rank: only together are they too many.
    for message in run_on_ranks(skip_many_on_rank, 2, str(tmp_path)):
        assert message.startswith('2 of 20 images cannot be read')
        assert message.endswith(r"'0: x\n1: x\n'")
