"""Training log lines: how far, how fast, and is it learning."""

import datetime
import math
import re
import sys

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import LoggerHook
from mmengine.runner import LogProcessor, Runner

from swav_plugin.registry import LOG_PROCESSORS

from .wrappers import unwrap


def log_interval(runner: Runner) -> int:
    """Return how many iterations a line of the log is about."""
    return next(
        (h.interval for h in runner.hooks if isinstance(h, LoggerHook)), 50
    )


@LOG_PROCESSORS.register_module()
class SwAVLogProcessor(LogProcessor):
    """mmengine's log processor with speed, data wait and loss beside ln K.

    A loss that stays at ln K (K prototypes) means that every image gets the
    same codes: nothing is learned. A training line reads::

        Epoch(train)  [1][ 50/318]  lr: 4.8000e-01  eta: 1:02:03
        time: 0.431 s  data wait: 3.1%  594.0 images/s  memory: 9213 MB
        loss: 7.9876 (ln K 8.0064)

    Losses are means over ``window_size`` iterations and over the ranks, so
    the same run on more ranks logs the same curve. ``time``, seconds per
    iteration, is rank 0's; images/s counts all ranks; memory is the peak of
    tensors on the fullest GPU since the last line or, on CPU, the peak of
    rank 0's main process since it started. TensorBoard and the JSON log get
    the same scalars, and these besides: ``images_per_s``, ``data_wait``
    (share of the time, 0 to 1), ``ln_K`` (mean over several heads) and
    ``memory`` (MB).
    """

    def get_log_after_iter(
        self, runner: Runner, batch_idx: int, mode: str
    ) -> tuple[dict, str]:
        """Return the scalars and the line of one iteration.

        Lines of ``mode`` 'val' and 'test' are mmengine's.
        """
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != 'train':
            return tag, line
        _average_losses(tag)
        prefix = 'train/' if self.log_with_hierarchy else ''
        for name, value in self._added_scalars(runner, tag, prefix).items():
            tag[prefix + name] = value
        if 'memory' not in tag:
            tag.update(_process_memory())
        # mmengine's own front part, e.g. "Epoch(train)  [1][ 50/318]".
        match = re.match(r'.*?/\d+\]', line)
        assert match is not None, line
        return tag, '  '.join([match.group(), *self._items(runner, tag)])

    @staticmethod
    def _added_scalars(
        runner: Runner, tag: dict, prefix: str
    ) -> dict[str, float]:
        """Return scalars that follow from model, data and times."""
        added = {}
        head = getattr(unwrap(runner.model), 'head', None)
        num_prototypes = getattr(head, 'num_prototypes', None)
        if num_prototypes:
            logs = [math.log(count) for count in num_prototypes]
            added['ln_K'] = sum(logs) / len(logs)
        if f'{prefix}time' in tag:
            time_s = tag[f'{prefix}time']
            added['data_wait'] = tag[f'{prefix}data_time'] / time_s
            images = getattr(
                runner.train_dataloader.batch_sampler, 'batch_size', None
            )
            if images is not None:
                added['images_per_s'] = images * get_world_size() / time_s
        return added

    def _items(self, runner: Runner, tag: dict) -> list[str]:
        """Format the scalars, with what everybody looks for in front."""
        digits = self.num_digits
        left = {key.removeprefix('train/'): tag[key] for key in tag}
        # In mmengine's front part already; the base of lr; in data wait.
        for name in ('epoch', 'iter', 'base_lr', 'data_time'):
            left.pop(name, None)
        items = [
            f'{name}: {left.pop(name):.{digits}e}'
            for name in list(left)
            if name.endswith('lr')
        ]
        if 'time' in left:
            eta_s = int(runner.message_hub.get_info('eta'))
            items += [
                f'eta: {datetime.timedelta(seconds=eta_s)}',
                f'time: {left.pop("time"):.3f} s',
                f'data wait: {100 * left.pop("data_wait"):.1f}%',
            ]
        if 'images_per_s' in left:
            items.append(f'{left.pop("images_per_s"):.1f} images/s')
        if 'memory' in left:
            items.append(f'memory: {left.pop("memory")} MB')
        ln_k = left.pop('ln_K', None)
        if 'loss' in left:
            beside = '' if ln_k is None else f' (ln K {ln_k:.{digits}f})'
            items.append(f'loss: {left.pop("loss"):.{digits}f}{beside}')
        for name, value in left.items():
            if isinstance(value, float):
                value = f'{value:.{digits}f}'
            items.append(f'{name}: {value}')
        return items


def _average_losses(tag: dict) -> None:
    """Replace this rank's losses by the means over all ranks.

    Every rank formats the same lines, so each takes part.
    """
    names = sorted(name for name in tag if 'loss' in name)
    losses = torch.tensor([tag[name] for name in names], dtype=torch.float64)
    all_reduce(losses, op='mean')
    tag.update(zip(names, losses.tolist()))


def _process_memory() -> dict[str, int]:
    """Return this process's peak memory in MB, if the system tells it."""
    if torch.cuda.is_available() or sys.platform == 'win32':
        return {}
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, kB on Linux.
    return {'memory': peak // (1024**2 if sys.platform == 'darwin' else 1024)}
