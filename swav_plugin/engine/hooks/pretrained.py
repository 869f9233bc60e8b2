"""Start training from a backbone that somebody has pretrained."""

from collections.abc import Mapping
from typing import Any

from mmengine.runner import Runner

from swav_plugin.checkpoints import (
    RANDOM,
    Checkpoint,
    load_backbone,
    load_shared_head,
)
from swav_plugin.registry import HOOKS

from ..wrappers import unwrap
from .replaceable import ReplaceableHook


@HOOKS.register_module()
class PretrainedHook(ReplaceableHook):
    """Fill the backbone from a checkpoint before the first iteration.

    In C4 detectors also the last stage, which is in their shared head.
    Every rank reads the file, once. A resumed run is left alone: its own
    checkpoint holds the backbone already, and says which weights it began
    with.

    Args:
        checkpoint: A file in any layout in ``swav_plugin.checkpoints.keys``,
            its URL, or the name of a model of the zoo. 'random' for a
            backbone as initialized. None if the command line is to name one.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        self.checkpoint = (
            None if checkpoint is None else Checkpoint(checkpoint)
        )
        self.origin: dict[str, str] | None = None

    def fill(self, runner: Runner, dry_run: bool = False) -> None:
        """Load the weights.

        Args:
            runner: Its model is filled.
            dry_run: Only check that this would work, before there are any
                images. The weights are kept in memory until they are loaded.

        Raises:
            ValueError: No checkpoint is named, or a tensor of the backbone is
                not in it or has a different shape.
        """
        if self.checkpoint is None and runner.cfg.get('load_from'):
            return  # the Runner has filled the whole model from that
        if self.checkpoint is None:
            raise ValueError(
                'this config measures a pretrained backbone, but none is '
                'named; add --pretrained CHECKPOINT, or --pretrained random '
                'for a randomly initialized one.'
            )
        if self.checkpoint.source == RANDOM:
            filled = 'The backbone is as initialized: no weights were loaded.'
        else:
            filled = self._load(unwrap(runner.model), dry_run)
        if not dry_run:
            self.checkpoint.drop()
            runner.logger.info(filled)

    def _load(self, model: Any, dry_run: bool) -> str:
        """Fill the parts of a model that are pretrained; say which."""
        assert self.checkpoint is not None
        if not hasattr(model, 'backbone'):
            raise ValueError(
                'pretrained weights fill model.backbone, which '
                f'{type(model).__name__} does not have.'
            )
        count = load_backbone(model.backbone, self.checkpoint, dry_run)
        filled = f'Filled {count} backbone tensors'
        # C4 detectors have the last stage there.
        roi_head = getattr(model, 'roi_head', None)
        shared_head = getattr(roi_head, 'shared_head', None)
        if shared_head is not None:
            count = load_shared_head(shared_head, self.checkpoint, dry_run)
            filled += f' and {count} of the shared head'
        return f'{filled} from {self.checkpoint}.'

    def check_origin(self, state: Mapping[str, Any], path: str) -> None:
        """Check that a run began with the weights named now.

        Args:
            state: The training state that is to be resumed, from `path`.
            path: For the message.

        Raises:
            ValueError: It began with others.
        """
        began = state['meta'].get('pretrained')
        if began is None or self.checkpoint is None:
            return
        if self._describe()['sha256'] != began['sha256']:
            raise ValueError(
                f'{path} comes from a run that began with {began["name"]}, '
                f'not with {self.checkpoint}; to start a new run use another '
                '--work-dir, to continue give the same weights.'
            )

    def before_save_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Note which weights the run began with."""
        if self.origin is not None:
            checkpoint['meta']['pretrained'] = self.origin

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Keep that note in a resumed run."""
        if runner.cfg.get('resume'):
            self.origin = checkpoint['meta'].get('pretrained')

    def before_train(self, runner: Runner) -> None:
        """Load the weights, except into a resumed run, which has them."""
        if runner.iter == 0:
            self.fill(runner)
            if self.checkpoint is not None:
                self.origin = self._describe()
        elif self.checkpoint is not None:
            runner.logger.info(
                f'Resumed at iteration {runner.iter}: {self.checkpoint} is '
                'not loaded again.'
            )

    def _describe(self) -> dict[str, str]:
        """Return name and hash of the checkpoint."""
        assert self.checkpoint is not None
        if self.checkpoint.source == RANDOM:
            return dict(name=RANDOM, sha256='')
        return dict(name=self.checkpoint.name, sha256=self.checkpoint.sha256)
