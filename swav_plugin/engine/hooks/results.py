"""Write the numbers of an evaluation with the protocol they come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size, is_main_process
from mmengine.runner import BaseLoop, Runner

from swav_plugin.engine.results import (
    RESULTS,
    Result,
    data_roots,
    describe_unreadable,
    write_results,
)
from swav_plugin.models.linear_probe import LinearProbe
from swav_plugin.registry import HOOKS

from ..wrappers import unwrap
from .pretrained import PretrainedHook
from .replaceable import ReplaceableHook


@dataclass(frozen=True)
class TrainingProtocol:
    """Protocol of a result of a network that a config trained.

    Args:
        classifier: The classifier on a frozen backbone, or 'all weights
            trained'.
        features: Features of a frozen backbone; empty if all is trained.
        windows: How these features are pooled.
        learning_rates: One for each of several classifiers.
        pretrained: Name of the weights that the backbone started from; None
            where the config or the checkpoint does not say.
        optimizer: Its config.
        schedulers: Their configs.
        multipliers: Factors of the learning rate and such, by parts of names.
        train_set: Folders of the training images.
        num_train_images: None if they were not there, as in a test.
        test_set: Folders of the images that were measured.
        num_test_images: Number of those images.
        batch_size: Images in a batch of one process.
        num_processes: None in a test, which does not know.
        unit: 'epoch' or 'iteration'.
        length: How many of them the config says.
        reached: How many were done; None in a test.
        num_train_unreadable: Training images that cannot be read and were
            left out; None if they were not there.
        num_test_unreadable: The same of the test images.
    """

    classifier: str
    features: list[str]
    windows: str
    learning_rates: list[float]
    pretrained: str | None
    optimizer: dict[str, Any]
    schedulers: list[dict[str, Any]]
    multipliers: dict[str, dict[str, Any]]
    train_set: str
    num_train_images: int | None
    test_set: str
    num_test_images: int
    batch_size: int | None
    num_processes: int | None
    unit: str
    length: int | None
    reached: int | None
    num_train_unreadable: int | None = 0
    num_test_unreadable: int = 0

    def __str__(self) -> str:
        parts = [self.classifier]
        if self.features:
            rates = ', '.join(f'{rate:g}' for rate in self.learning_rates)
            parts = [
                f'{self.classifier} on {", ".join(self.features)} '
                f'({self.windows} windows), learning rate {rates}'
            ]
        if self.pretrained is not None:
            parts.append(f'--pretrained {self.pretrained}')
        parts += map(
            _as_call, filter(None, [self.optimizer, *self.schedulers])
        )
        parts += [
            f'{part} {_as_call(config)}'
            for part, config in self.multipliers.items()
        ]
        if self.reached is None:
            parts += [
                f'batch {self.batch_size} on each GPU',
                f'{self.length} {self.unit}s by the config',
            ]
        else:
            parts += [
                f'batch {self.num_processes}x{self.batch_size}',
                f'after {self.unit} {self.reached} of {self.length}',
            ]
        return ', '.join(parts) + describe_unreadable(
            self.num_train_unreadable, self.num_test_unreadable
        )


@HOOKS.register_module()
class ResultsHook(ReplaceableHook):
    """Keep the numbers of the last evaluation in `results.json`.

    For runs that train and evaluate, and for tests of what they gave; the
    file is in the folder of this run's log, with the entries of
    `Result.to_dict`, as `FeatureEvalLoop` writes them. What mmdet gives as
    fractions is written in percent, and its -1, for sizes of objects that no
    image has, is left out.
    """

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Write the numbers of an evaluation during training."""
        is_by_iteration = _train_cfg(runner).get('max_iters') is not None
        self._write(
            runner,
            metrics,
            **_count_train_images(runner),
            test_loader='val_dataloader',
            num_processes=get_world_size(),
            length=runner.max_iters if is_by_iteration else runner.max_epochs,
            reached=runner.iter if is_by_iteration else runner.epoch,
        )

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Write the numbers of a test."""
        train_cfg = _train_cfg(runner)
        self._write(
            runner,
            metrics,
            num_train_images=None,
            num_train_unreadable=None,
            test_loader='test_dataloader',
            # How many GPUs it was trained on is not known here.
            num_processes=None,
            length=train_cfg.get('max_iters') or train_cfg.get('max_epochs'),
            reached=None,
        )

    def _write(
        self,
        runner: Runner,
        metrics: dict[str, float] | None,
        test_loader: str,
        **training: Any,
    ) -> None:
        """Write numbers of the images of one dataloader."""
        if not is_main_process():
            return
        dataset = getattr(runner, test_loader).dataset
        protocol = TrainingProtocol(
            **describe_training(runner),
            **training,
            test_set=_dataset_folders(runner, test_loader),
            num_test_images=len(dataset),
            num_test_unreadable=getattr(dataset, 'num_unreadable', 0),
        )
        runner.logger.info(f'Protocol: {protocol}')
        write_results(
            Path(runner.log_dir, RESULTS),
            [
                Result(name, value, protocol)
                for name, value in in_percent(metrics or {}).items()
            ],
        )


def in_percent(metrics: Mapping[str, float]) -> dict[str, float]:
    """Give numbers of mmdet in percent, as all others are.

    >>> in_percent({'coco/bbox_mAP': .5, 'coco/bbox_mAP_s': -1, 'mIoU': 40.})
    {'coco/bbox_mAP': 50.0, 'mIoU': 40.0}
    """
    converted = {}
    for name, value in metrics.items():
        if not name.startswith(('coco/', 'pascal_voc/')):
            converted[name] = float(value)  # mmseg's are of NumPy
        elif value >= 0:
            converted[name] = 100 * float(value)
    return converted


def describe_training(runner: Runner) -> dict[str, Any]:
    """Return the fields of a protocol that model and config tell."""
    cfg = runner.cfg
    wrapper = cfg.get('optim_wrapper') or {}
    schedulers = cfg.get('param_scheduler') or []
    if isinstance(schedulers, Mapping):
        schedulers = [schedulers]
    keys = (wrapper.get('paramwise_cfg') or {}).get('custom_keys') or {}
    origins = [
        hook.origin['name']
        for hook in runner.hooks
        if isinstance(hook, PretrainedHook) and hook.origin
    ]
    return dict(
        **_describe_model(unwrap(runner.model)),
        pretrained=origins[0] if origins else None,
        optimizer=dict(wrapper.get('optimizer') or {}),
        schedulers=[dict(scheduler) for scheduler in schedulers],
        multipliers={part: dict(config) for part, config in keys.items()},
        train_set=_dataset_folders(runner, 'train_dataloader'),
        batch_size=(cfg.get('train_dataloader') or {}).get('batch_size'),
        unit='iteration' if _train_cfg(runner).get('max_iters') else 'epoch',
    )


def _describe_model(model: Any) -> dict[str, Any]:
    """Return the fields that say which weights are trained."""
    if not isinstance(model, LinearProbe):
        return dict(
            classifier='all weights trained',
            features=[],
            windows='',
            learning_rates=[],
        )
    norm = 'batch norm and ' if model.head.batch_norm else ''
    return dict(
        classifier=f'frozen backbone, {norm}linear',
        features=list(model.features),
        windows=model.windows,
        learning_rates=list(model.head.learning_rates),
    )


def _count_train_images(runner: Runner) -> dict[str, int | None]:
    """Count the training images, unless the Runner only evaluates."""
    loop = runner._train_loop
    if not isinstance(loop, BaseLoop):
        return dict(num_train_images=None, num_train_unreadable=None)
    dataset = loop.dataloader.dataset
    return dict(
        num_train_images=len(dataset),
        num_train_unreadable=getattr(dataset, 'num_unreadable', 0),
    )


def _train_cfg(runner: Runner) -> Mapping[str, Any]:
    return runner.cfg.get('train_cfg') or {}


def _dataset_folders(runner: Runner, loader: str) -> str:
    """Name the folders of a dataloader's images."""
    return data_roots((runner.cfg.get(loader) or {}).get('dataset'))


def _as_call(config: Mapping[str, Any]) -> str:
    """Write a config as a call.

    >>> _as_call(dict(type='SGD', momentum=0.9))
    'SGD(momentum=0.9)'
    """
    arguments = ', '.join(
        f'{key}={value}'
        for key, value in config.items()
        if key not in ('type', '_scope_')
    )
    return f'{config.get("type", "")}({arguments})'
