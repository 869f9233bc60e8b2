"""Start the backbone from somebody's weights."""
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from swav_plugin.compat.checkpoint_keys import load_backbone
from swav_plugin.registry import HOOKS


@HOOKS.register_module()
class PretrainedHook(Hook):
    """Fill the backbone from a checkpoint before the first iteration.

    Every rank reads the file. A resumed run is left alone: its own checkpoint
    holds the backbone already.

    Args:
        checkpoint: File in any layout that
            ``swav_plugin.compat.checkpoint_keys`` knows, its URL, or the name
            of a model of the zoo.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def before_train(self, runner: Runner) -> None:
        """Load the weights.

        Raises:
            ValueError: When a backbone key is missing from the checkpoint or
                the checkpoint has backbone keys that the model lacks.
        """
        if runner.iter > 0:
            runner.logger.info(
                f'Resumed at iteration {runner.iter}: {self.checkpoint} is '
                'not loaded again.')
            return
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        num_tensors = load_backbone(model.backbone, self.checkpoint)
        runner.logger.info(f'Filled {num_tensors} backbone tensors from '
                           f'{self.checkpoint}.')
