"""Hooks in `default_hooks` that one in `custom_hooks` may replace."""

import warnings

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from swav_plugin.engine.default_hooks import OUR_HOOKS, hook_class


class ReplaceableHook(Hook):
    """A hook of our recipes, which version 0.1 had in `custom_hooks`.

    A config of that version gives it there once more. Our commands then turn
    off the one in `default_hooks` (`replace_default_hooks`); a script that
    only calls `Runner.from_cfg` has both until the run begins.

    Raises:
        ValueError: Before the run, if `custom_hooks` has several of a kind.
    """

    def before_run(self, runner: Runner) -> None:
        """Let the hook in `custom_hooks` win, with a warning."""
        kind = next(
            base
            for base in type(self).__mro__
            if ReplaceableHook in base.__bases__
        )
        same = [hook for hook in runner.hooks if isinstance(hook, kind)]
        if self not in same or len(same) == 1:
            return
        listed = map(hook_class, runner.cfg.get('custom_hooks') or ())
        if len(same) > 2 or [*listed].count(kind.__name__) > 1:
            raise ValueError(
                f'there are {len(same)} {kind.__name__}s in default_hooks and '
                'custom_hooks; keep one, in default_hooks.'
            )
        # mmengine registers custom hooks after its default ones, and sorts
        # by priority; ours have the usual one, unless a list gave another.
        replaced, _ = sorted(same, key=lambda hook: 'priority' in vars(hook))
        runner._hooks = [hook for hook in runner.hooks if hook is not replaced]
        if is_main_process():
            names = {name: key for key, name in OUR_HOOKS.items()}
            warnings.warn(
                f'custom_hooks has a {kind.__name__}, which takes the place '
                'of the one in default_hooks. In the next version two will be '
                'an error: change the arguments of '
                f'default_hooks.{names[kind.__name__]} instead.',
                FutureWarning,
                stacklevel=2,
            )
