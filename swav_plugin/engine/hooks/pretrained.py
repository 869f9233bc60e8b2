"""Start the backbone from somebody's weights."""

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from swav_plugin.checkpoints.download import hash_file
from swav_plugin.checkpoints.keys import load_backbone, load_shared_head
from swav_plugin.checkpoints.zoo import checkpoint_name, checkpoint_path
from swav_plugin.registry import HOOKS

RANDOM = 'random'


@HOOKS.register_module()
class PretrainedHook(Hook):
    """Fill the backbone from a checkpoint before the first iteration.

    In C4 detectors also the last stage, which is in their shared head.
    Every rank reads the file. A resumed run is left alone: its own checkpoint
    holds the backbone already, and says which weights it began with.

    Args:
        checkpoint: File in any layout that
            ``swav_plugin.checkpoints.keys`` knows, its URL, or the name
            of a model of the zoo. 'random' for a backbone as initialised.
            None where the command line is to name one.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        self.checkpoint = checkpoint
        self.origin: dict[str, str] | None = None

    def fill(self, runner: Runner) -> None:
        """Load the weights, also before there are any images.

        Raises:
            ValueError: When no checkpoint is named, or a backbone key is
                missing from it or has another shape.
        """
        if self.checkpoint is None and runner.cfg.get('load_from'):
            return  # the Runner has filled the whole model from that
        if self.checkpoint is None:
            raise ValueError(
                'this config measures a pretrained backbone, but none is '
                'named; add --pretrained CKPT, or --pretrained random for one '
                'as initialised.'
            )
        if self.checkpoint == RANDOM:
            runner.logger.info(
                'The backbone is as initialised: no weights were loaded.'
            )
            return
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        if not hasattr(model, 'backbone'):
            raise ValueError(
                'pretrained weights fill model.backbone, which '
                f'{type(model).__name__} does not have.'
            )
        count = load_backbone(model.backbone, self.checkpoint)
        filled = f'{count} backbone tensors'
        # C4 detectors have the last stage there.
        shared_head = getattr(
            getattr(model, 'roi_head', None), 'shared_head', None
        )
        if shared_head is not None:
            count = load_shared_head(shared_head, self.checkpoint)
            filled += f' and {count} of the shared head'
        runner.logger.info(f'Filled {filled} from {self.checkpoint}.')

    def check_origin(self, state: Mapping[str, Any], path: str) -> None:
        """Look whether a training began with the weights named now.

        Args:
            state: The checkpoint that is to be resumed, in `path`.

        Raises:
            ValueError: It began with others.
        """
        began = state['meta'].get('pretrained')
        if began is None or self.checkpoint is None:
            return
        if _describe(self.checkpoint)['sha256'] != began['sha256']:
            raise ValueError(
                f'{path} is of a training that began with {began["name"]}, '
                f'not with {self.checkpoint}; give another --work-dir for a '
                'new training, or the same weights to go on.'
            )

    def before_save_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Note which weights the training began with."""
        if self.origin is not None:
            checkpoint['meta']['pretrained'] = self.origin

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Keep that note in a resumed training."""
        if runner.cfg.get('resume'):
            self.origin = checkpoint['meta'].get('pretrained')

    def before_train(self, runner: Runner) -> None:
        """Load the weights; of a resumed run they are there already."""
        if runner.iter == 0:
            self.fill(runner)
            if self.checkpoint is not None:
                self.origin = _describe(self.checkpoint)
        elif self.checkpoint is not None:
            runner.logger.info(
                f'Resumed at iteration {runner.iter}: {self.checkpoint} is '
                'not loaded again.'
            )


def _describe(checkpoint: str) -> dict[str, str]:
    """Name and hash of weights."""
    if checkpoint == RANDOM:
        return dict(name=RANDOM, sha256='')
    return dict(
        name=checkpoint_name(checkpoint),
        sha256=hash_file(checkpoint_path(checkpoint)),
    )
