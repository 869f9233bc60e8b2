"""Unreadable images are counted over ranks and passes."""

import logging
from pathlib import Path
from types import SimpleNamespace

from mmpretrain.structures import DataSample

from swav_plugin.engine import SkippedImagesHook
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


def train(
    work_dir: str, batches: list[dict], batches_per_pass: int = 2
) -> list[str]:
    """Show the hook some batches; return what it logged."""
    records = Records()
    logger = logging.Logger('skipped')
    logger.addHandler(records)
    runner = SimpleNamespace(
        iter=0,
        train_dataloader=[None] * batches_per_pass,
        work_dir=work_dir,
        logger=logger,
    )
    hook = SkippedImagesHook(num_names=2)
    for index, data_batch in enumerate(batches):
        hook.after_train_iter(runner, index, data_batch)
        runner.iter += 1
    hook.after_train(runner)
    return records.messages


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
    assert file.read_text() == 'a: x\nb: y\nc: z\nd: w\n'
    # A resumed run adds to it.
    train(str(tmp_path), [batch(['d: w', 'e: v'])])
    assert file.read_text() == 'a: x\nb: y\nc: z\nd: w\ne: v\n'


def test_nothing_skipped_leaves_no_trace(tmp_path: Path) -> None:
    batches = [batch([]), dict(inputs=[]), dict(data_samples=[DataSample()])]
    assert train(str(tmp_path), batches) == []
    assert not any(tmp_path.iterdir())


def test_any_file_name(tmp_path: Path) -> None:
    # Linux names are bytes; Python shows bad UTF-8 as lone surrogates.
    train(str(tmp_path), [batch(['\udcff.jpg: x'])] * 4)
    file = tmp_path / 'skipped_images.txt'
    assert file.read_bytes() == b'\xff.jpg: x\n'


def skip_on_rank(rank: int, work_dir: str) -> list[str]:
    return train(work_dir, [batch([f'{rank}: x']), batch(['same: y'])])


def test_ranks_are_put_together(tmp_path: Path) -> None:
    messages, others = run_on_ranks(skip_on_rank, 2, str(tmp_path))
    assert len(messages) == 1 and others == []
    assert 'since the last count: 3.' in messages[0]
    file = tmp_path / 'skipped_images.txt'
    assert file.read_text() == '0: x\n1: x\nsame: y\n'
