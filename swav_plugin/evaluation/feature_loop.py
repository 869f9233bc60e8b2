"""Features once, evaluators many: kNN, SVM and whatever else is measured."""

import hashlib
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import (
    all_gather_object,
    barrier,
    broadcast,
    broadcast_object_list,
    is_main_process,
)
from mmengine.runner import Runner
from mmengine.runner.loops import BaseLoop
from torch import Tensor, nn

import swav_plugin
from swav_plugin.datasets.unreadable import refuse_unreadable
from swav_plugin.engine.errors import mistakes_in_one_line
from swav_plugin.engine.results import (
    RESULTS,
    Result,
    data_roots,
    write_results,
)
from swav_plugin.engine.wrappers import unwrap
from swav_plugin.models.feature_pooling import (
    GRIDS,
    check_features,
    check_windows,
    pick_feature,
)
from swav_plugin.models.swav_neck import SwAVNeck
from swav_plugin.registry import LOOPS, METRICS

from .feature_store import (
    FeatureSet,
    Labels,
    ShardWriter,
    check_finite,
    find_fault,
    hash_images,
    hash_modules,
    open_rows,
    share,
    write_meta,
    writing,
)
from .image_sets import check_classes, in_order, read_annotations

_LOG_EVERY_S = 30


@LOOPS.register_module()
class FeatureEvalLoop(BaseLoop):
    """Extract features of two sets once, then run any number of evaluators.

    As `test_cfg` it measures a checkpoint (tools/test.py). As `val_cfg` of a
    pretraining it gives a curve: its numbers are logged with the epoch, like
    any metric of mmengine's. Features come from the backbone in eval mode,
    without gradients; training goes on as if nothing had happened.

    Ranks share the images and write features to disk, so memory does not grow
    with the sets; evaluators map the files of all ranks.

    Args:
        runner: The Runner; its model has a `backbone` and a
            `data_preprocessor`.
        dataloader: Config of the test images, given by the Runner:
            `val_dataloader` or `test_dataloader`. No sampler.
        evaluator: Configs of evaluators, such as `KNN` and `VOC07SVM`.
        bank_dataloader: Config of the labeled training images.
        features: 'avgpool', the mean of the last feature map, or what
            `pool_output` gives of other outputs; 'neck', SwAV's embedding;
            'feature1' to 'feature5', averaged over windows, which need a
            `ResNetWithStem`.
        windows: 'mmselfsup' for its pooling of feature1 to feature5, which
            needs images of 224 px; 'adaptive' for the same number of windows
            on images of any size.
        dtype: Type of the features on disk, 'float16' or 'float32'.
        cache_dir: Keep features here for later runs with the same weights,
            images and transforms; None to delete them after evaluation.
            Damaged ones are made again.

    Raises:
        ValueError: Model, sets and evaluators do not fit together, or images
            cannot be read (all are named; datasets with skip_unreadable=True
            leave them out); raised before the first feature is made.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: dict,
        evaluator: dict | Sequence[dict],
        bank_dataloader: dict,
        features: Sequence[str] = ('avgpool',),
        windows: str = 'mmselfsup',
        dtype: str = 'float16',
        cache_dir: str | None = None,
    ) -> None:
        if dtype not in ('float16', 'float32'):
            raise ValueError(
                f"got dtype={dtype!r}; use 'float16' or 'float32'."
            )
        sets = dict(bank=bank_dataloader, test=dataloader)
        self._dataset_configs = {
            name: str(loader['dataset']) for name, loader in sets.items()
        }
        super().__init__(runner, in_order(dataloader))
        self._loaders: dict[str, Any] = dict(
            bank=runner.build_dataloader(
                in_order(bank_dataloader), seed=runner.seed
            ),
            test=self.dataloader,
        )
        self.features = list(features)
        self.windows = check_windows(windows)
        self.dtype = dtype
        self.cache_dir = cache_dir
        self._model = unwrap(runner.model)
        _check_model_gives(self._model, self.features)
        self._paths: dict[str, list[str]] = {}
        self._labels: dict[str, Labels] = {}
        for name, loader in self._loaders.items():
            self._paths[name], labels = read_annotations(
                loader.dataset, f'{name} set'
            )
            labels.root = data_roots(sets[name]['dataset'])
            self._labels[name] = labels
        check_classes(self._labels['bank'], self._labels['test'])
        if isinstance(evaluator, dict):
            evaluator = [evaluator]
        self.evaluators = [METRICS.build(config) for config in evaluator]
        for each in self.evaluators:
            self._check_evaluator(each)
        refuse_unreadable(
            {
                f'{name} set': loader.dataset
                for name, loader in self._loaders.items()
            }
        )

    def _check_evaluator(self, evaluator: Any) -> None:
        """Refuse one that wants other features or sets than there are."""
        unknown = set(evaluator.features or ()) - set(self.features)
        if unknown:
            raise ValueError(
                f'{type(evaluator).__name__} wants {sorted(unknown)} but the '
                f'loop extracts {self.features}; add them to its features.'
            )
        evaluator.check(self._labels['bank'], self._labels['test'])

    def run(self) -> dict[str, float]:
        """Extract, evaluate and log; return the numbers by name."""
        # One class serves as both loops, whose hooks have two names.
        is_test = self is self.runner._test_loop
        mode = 'test' if is_test else 'val'
        self.runner.call_hook(f'before_{mode}')
        self.runner.call_hook(f'before_{mode}_epoch')
        token = _same_on_all_ranks(uuid.uuid4().hex[:12])
        folder = Path(self.runner.work_dir, f'features.{token}')
        try:
            with mistakes_in_one_line(self.runner.cfg):
                sets = [self._extract(each, folder) for each in self._loaders]
            results: list[Result] = []
            for evaluator in self.evaluators:
                results += evaluator.evaluate(*sets)
            barrier()
        finally:
            if is_main_process():
                shutil.rmtree(folder, ignore_errors=True)
        for result in results:
            self.runner.logger.info(
                f'{result.name}: {result.value:.2f}  ({result.protocol})'
            )
        if is_test and is_main_process():
            write_results(Path(self.runner.log_dir, RESULTS), results)
        metrics = {result.name: result.value for result in results}
        self.runner.call_hook(f'after_{mode}_epoch', metrics=metrics)
        self.runner.call_hook(f'after_{mode}')
        return metrics

    def _extract(self, name: str, folder: Path) -> FeatureSet:
        """Return the features of one set, from the cache if they are there."""
        if self.cache_dir is not None:
            folder = Path(self.cache_dir).expanduser()
        folder = folder / f'{name}-{self._key(name)}'
        paths = {
            feature: folder
            / '-'.join(
                [feature, self.dtype] + [self.windows] * (feature in GRIDS)
            )
            for feature in self.features
        }
        missing = []
        if is_main_process():
            missing = [
                feature
                for feature, path in paths.items()
                if not self._keep_or_remove(name, path)
            ]
        missing = _same_on_all_ranks(missing)
        if missing:
            self._write(name, {feature: paths[feature] for feature in missing})
        if len(missing) < len(paths):
            self.runner.logger.info(
                f'{name}: using features found in {folder}.'
            )
        return FeatureSet(
            self._labels[name],
            {feature: open_rows(path) for feature, path in paths.items()},
        )

    def _keep_or_remove(self, name: str, path: Path) -> bool:
        """Return True for sound features; remove what has to be made again."""
        if not path.exists():
            return False
        fault = find_fault(path, len(self._paths[name]), self.dtype)
        if fault is None:
            return True
        self.runner.logger.warning(
            f'{name}: the features in {path} are damaged and made again: '
            f'{fault}.'
        )
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        return False

    def _key(self, name: str) -> str:
        """Hash what features of this set depend on, to 24 hex digits."""
        if self.cache_dir is None:
            return 'once'
        key = ''
        if is_main_process():
            parts = [
                swav_plugin.__version__,
                hash_modules(_used_modules(self._model, self.features)),
                hash_images(self._paths[name], self._labels[name].values),
                self._dataset_configs[name],
            ]
            key = hashlib.sha256('\n'.join(parts).encode()).hexdigest()[:24]
        return _same_on_all_ranks(key)

    def _write(self, name: str, paths: dict[str, Path]) -> None:
        """Extract features of one set to a folder each."""
        token = _same_on_all_ranks(uuid.uuid4().hex[:12])
        with ExitStack() as stack:
            folders = {
                feature: stack.enter_context(writing(path, token))
                for feature, path in paths.items()
            }
            with torch.no_grad(), _evaluating(self._model, self.features):
                self._fill(name, folders)

    def _fill(self, name: str, folders: dict[str, Path]) -> None:
        """Run the backbone on this rank's images; write their features."""
        loader = self._loaders[name]
        num_all = len(self._paths[name])
        own = share(num_all, loader.batch_size)
        writers = {
            feature: ShardWriter(folder, len(own), self.dtype)
            for feature, folder in folders.items()
        }
        begin = logged = time.monotonic()
        done = 0
        for batch in loader:
            inputs = self._model.data_preprocessor(batch)['inputs']
            if not isinstance(inputs, Tensor):
                raise ValueError(
                    f'the pipeline of the {name} set gives several views of '
                    'each image, but features are of one; leave MultiView '
                    'out.'
                )
            outputs = self._model.backbone(inputs)
            paths = self._paths[name][own[done] : own[done] + len(inputs)]
            for feature, writer in writers.items():
                rows = self._pool(feature, outputs)
                check_finite(rows, self.dtype, feature, paths)
                writer.write(rows)
            done += len(inputs)
            now = time.monotonic()
            if now - logged > _LOG_EVERY_S:
                logged = now
                self.runner.logger.info(
                    f'{name}: features of {done} of {len(own)} images, '
                    f'{done / (now - begin):.0f} images/s'
                )
        for feature, writer in writers.items():
            checksums: dict[str, int] = {}
            for part in all_gather_object(writer.close()):
                checksums.update(part)
            if is_main_process():
                write_meta(
                    folders[feature],
                    num_all,
                    checksums,
                    dict(feature=feature, set=self._dataset_configs[name]),
                )

    def _pool(self, feature: str, outputs: Any) -> Tensor:
        """Pool one feature from the outputs of the backbone: (N, D)."""
        if feature == 'neck':
            return self._model.neck(self._model.neck.pool(outputs))
        return pick_feature(
            self._model.backbone, outputs, feature, self.windows
        )


def _check_model_gives(model: Any, features: Sequence[str]) -> None:
    """Refuse features that the model does not give."""
    if 'neck' in features and not isinstance(
        getattr(model, 'neck', None), SwAVNeck
    ):
        raise ValueError(
            "features=['neck'] needs a model with a SwAVNeck; this "
            f'{type(model).__name__} has none.'
        )
    of_backbone = [feature for feature in features if feature != 'neck']
    check_features(model.backbone, of_backbone)


def _used_modules(model: Any, features: Sequence[str]) -> list[nn.Module]:
    """Return the modules that features come from."""
    used = [model.data_preprocessor, model.backbone]
    return [*used, model.neck] if 'neck' in features else used


@contextmanager
def _evaluating(model: nn.Module, features: Sequence[str]) -> Iterator[None]:
    """Set eval mode with the statistics of rank 0, as checkpoints have them.

    Plain batch norm keeps its own statistics on each rank. Modes, statistics
    and random numbers are as before when this ends.
    """
    training = [(module, module.training) for module in model.modules()]
    buffers = [
        buffer
        for module in _used_modules(model, features)
        for buffer in module.buffers()
    ]
    own = [buffer.clone() for buffer in buffers]
    model.eval()
    try:
        # A data loader draws one of torch's random numbers when it starts.
        with torch.random.fork_rng(devices=()):
            for buffer in buffers:
                broadcast(buffer, src=0)
            yield
    finally:
        for module, was_training in training:
            module.training = was_training
        for buffer, before in zip(buffers, own):
            buffer.copy_(before)


def _same_on_all_ranks(value: Any) -> Any:
    """Return what rank 0 has."""
    values = [value]
    broadcast_object_list(values, src=0)
    return values[0]
