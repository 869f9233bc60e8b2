"""For `custom_imports` of a config: hooks that harm a run."""

import resource
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from swav_plugin.registry import HOOKS


@HOOKS.register_module(force=True)
class BreakNumbersHook(Hook):
    """Make something not a number before an iteration.

    Args:
        what: 'images', 'weights' or 'momenta'.
        step: The iteration, from 1.
    """

    def __init__(self, what: str, step: int) -> None:
        self.what = what
        self.step = step

    def before_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None
    ) -> None:
        if runner.iter + 1 != self.step:
            return
        if self.what == 'images':
            preprocessor = runner.model.data_preprocessor

            def break_views(module: Any, args: Any, output: dict) -> None:
                output['inputs'][0].fill_(float('nan'))
                handle.remove()

            handle = preprocessor.register_forward_hook(break_views)
        elif self.what == 'weights':
            next(runner.model.backbone.parameters()).data[0] = float('nan')
        else:
            states = runner.optim_wrapper.optimizer.state.values()
            next(iter(states))['momentum_buffer'][0] = float('nan')


@HOOKS.register_module(force=True)
class FillDiskHook(Hook):
    """Leave no room on a disk for some iterations, not even in its files.

    Args:
        folder: Where the disk is.
        steps: Before which iteration, from 1, it is full, and before which it
            is not any more.
    """

    def __init__(self, folder: str, steps: tuple[int, int]) -> None:
        self.filler = Path(folder, 'filler')
        self.steps = steps

    def before_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None
    ) -> None:
        if runner.iter + 1 == self.steps[0]:
            with suppress(OSError), open(self.filler, 'wb', 0) as file:
                while file.write(bytes(4096)):
                    pass
            # The last page of a file has room for some more lines.
            for path in self.filler.parent.rglob('20*/**/*.*'):
                with suppress(OSError), open(path, 'ab', 0) as file:
                    while file.write(b'\n'):
                        pass
        if runner.iter + 1 == self.steps[1]:
            self.filler.unlink()


@HOOKS.register_module(force=True)
class LittleMemoryHook(Hook):
    """Leave the process 512 MB more than it has when it begins to train."""

    def before_train(self, runner: Any) -> None:
        pages = int(Path('/proc/self/statm').read_text().split()[0])
        limit = pages * resource.getpagesize() + 2**29
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
