"""Memory that runs out in an evaluation is not the training batch's fault.

For a step of the training see `test_faults/test_bad_luck.py`.
"""

from types import SimpleNamespace

import pytest
from mmengine.config import Config

from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.out_of_memory import out_of_memory_in_one_line


class Loop:
    """A validation that needs too much."""

    def run(self) -> None:
        raise MemoryError('Unable to allocate 3.00 GiB for an array')


def test_an_evaluation_names_its_own_batches() -> None:
    loop = Loop()
    cfg = Config(
        dict(
            train_dataloader=dict(batch_size=256),
            val_dataloader=dict(batch_size=64),
            val_cfg=dict(bank_dataloader=dict(batch_size=128)),
        )
    )
    runner = SimpleNamespace(_val_loop=loop, cfg=cfg, iter=20)
    with (
        pytest.raises(
            UsageError,
            match=r'^evaluation after iteration 20: out of memory on \w+: '
            r'\d+\.\d GB are in use and 3\.2 GB more were asked for\. The '
            'batches of the training fit; those of the evaluation do not: '
            r'lower val_dataloader\.batch_size=64 and val_cfg\.'
            r'bank_dataloader\.batch_size=128\. If that .* val_cfg=None, ',
        ),
        out_of_memory_in_one_line(runner),
    ):
        loop.run()
    del cfg.val_cfg['bank_dataloader']
    with (
        pytest.raises(UsageError, match=r'lower val_data.*=64\. If that'),
        out_of_memory_in_one_line(runner),
    ):
        loop.run()
