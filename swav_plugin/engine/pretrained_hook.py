"""Start the backbone from somebody's weights."""
from typing import Optional

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from swav_plugin.compat.checkpoint_keys import load_backbone, load_shared_head
from swav_plugin.registry import HOOKS

RANDOM = 'random'


@HOOKS.register_module()
class PretrainedHook(Hook):
    """Fill the backbone from a checkpoint before the first iteration.

    In C4 detectors also the last stage, which is in their shared head.
    Every rank reads the file. A resumed run is left alone: its own checkpoint
    holds the backbone already.

    Args:
        checkpoint: File in any layout that
            ``swav_plugin.compat.checkpoint_keys`` knows, its URL, or the name
            of a model of the zoo. 'random' for a backbone as initialised.
            None where the command line is to name one.
    """

    def __init__(self, checkpoint: Optional[str] = None) -> None:
        self.checkpoint = checkpoint

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
                'as initialised.')
        if self.checkpoint == RANDOM:
            runner.logger.info('The backbone is as initialised: no weights '
                               'were loaded.')
            return
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        count = load_backbone(model.backbone, self.checkpoint)
        filled = f'{count} backbone tensors'
        # C4 detectors have the last stage there.
        shared_head = getattr(
            getattr(model, 'roi_head', None), 'shared_head', None)
        if shared_head is not None:
            count = load_shared_head(shared_head, self.checkpoint)
            filled += f' and {count} of the shared head'
        runner.logger.info(f'Filled {filled} from {self.checkpoint}.')

    def before_train(self, runner: Runner) -> None:
        """Load the weights; of a resumed run they are there already."""
        if runner.iter == 0:
            self.fill(runner)
        elif self.checkpoint is not None:
            runner.logger.info(
                f'Resumed at iteration {runner.iter}: {self.checkpoint} is '
                'not loaded again.')
