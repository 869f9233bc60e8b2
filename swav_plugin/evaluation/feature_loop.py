"""Features once, evaluators many: kNN, SVM and whatever else is measured."""

import hashlib
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence, Sized
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import (
    barrier,
    broadcast,
    broadcast_object_list,
    is_main_process,
)
from mmengine.runner import Runner
from mmengine.runner.loops import BaseLoop
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

import swav_plugin
from swav_plugin.compat.wrappers import unwrap
from swav_plugin.engine.results import (
    RESULTS,
    Result,
    data_roots,
    write_results,
)
from swav_plugin.models.feature_pooling import (
    GRIDS,
    check_features,
    check_windows,
    pick_feature,
)
from swav_plugin.models.swav_neck import SwAVNeck
from swav_plugin.registry import LOOPS, METRICS

from .feature_store import (
    META,
    FeatureSet,
    Labels,
    ShardWriter,
    hash_images,
    hash_modules,
    open_rows,
    share,
    write_meta,
    writing,
)

_LOG_EVERY_S = 30


class ShareSampler(Sampler):
    """Sample the images of this rank, in order, each on one rank only.

    mmengine's samplers repeat some images where the set does not divide
    evenly by the ranks.
    """

    def __init__(self, dataset: Sized, seed: Any, batch_size: int) -> None:
        self._images = share(len(dataset), batch_size)

    def __iter__(self) -> Iterator[int]:
        """Yield indices of images."""
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)


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
        features: 'avgpool', the mean of the last feature map; 'neck', SwAV's
            embedding; 'feature1' to 'feature5', averaged over windows, which
            need a `ResNetWithStem`.
        windows: 'mmselfsup' for its pooling of feature1 to feature5, which
            needs images of 224 px; 'adaptive' for the same number of windows
            on images of any size.
        dtype: Type of the features on disk, 'float16' or 'float32'.
        cache_dir: Keep features here for later runs with the same weights,
            images and transforms; None to delete them after evaluation.

    Raises:
        ValueError: Model, sets and evaluators do not fit together; raised
            before the first image is read.
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
        self._transforms = {
            name: str(loader['dataset']) for name, loader in sets.items()
        }
        super().__init__(runner, _in_order(dataloader))
        self._loaders: dict[str, Any] = dict(
            bank=runner.build_dataloader(
                _in_order(bank_dataloader), seed=runner.seed
            ),
            test=self.dataloader,
        )
        self.features = list(features)
        self.windows = check_windows(windows)
        self.dtype = dtype
        self.cache_dir = cache_dir
        self._model = unwrap(runner.model)
        _check_features(self._model, self.features)
        self._paths: dict[str, list[str]] = {}
        self._labels: dict[str, Labels] = {}
        for name, loader in self._loaders.items():
            self._paths[name], labels = _read_annotations(
                loader, f'{name} set'
            )
            labels.root = data_roots(sets[name]['dataset'])
            self._labels[name] = labels
        _check_classes(self._labels['bank'], self._labels['test'])
        if isinstance(evaluator, dict):
            evaluator = [evaluator]
        self.evaluators = [METRICS.build(config) for config in evaluator]
        for each in self.evaluators:
            self._check_evaluator(each)

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
            sets = [self._extract(name, folder) for name in ('bank', 'test')]
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
            folder = Path(self.cache_dir)
        folder = folder / f'{name}-{self._key(name)}'
        paths = {
            feature: folder
            / '-'.join(
                [feature, self.dtype] + [self.windows] * (feature in GRIDS)
            )
            for feature in self.features
        }
        missing = _same_on_all_ranks(
            [
                feature
                for feature, path in paths.items()
                if not (path / META).is_file()
            ]
        )
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

    def _key(self, name: str) -> str:
        """Hash what features of this set depend on, to 24 hex digits."""
        if self.cache_dir is None:
            return 'once'
        key = ''
        if is_main_process():
            parts = [
                swav_plugin.__version__,
                hash_modules(_used(self._model, self.features)),
                hash_images(self._paths[name], self._labels[name].values),
                self._transforms[name],
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
        num_own = len(share(num_all, loader.batch_size))
        writers = {
            feature: ShardWriter(folder, num_own, self.dtype)
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
            for feature, writer in writers.items():
                writer.write(self._pool(feature, outputs))
            done += len(inputs)
            now = time.monotonic()
            if now - logged > _LOG_EVERY_S:
                logged = now
                self.runner.logger.info(
                    f'{name}: features of {done} of {num_own} images, '
                    f'{done / (now - begin):.0f} images/s'
                )
        for feature, writer in writers.items():
            writer.close()
            if is_main_process():
                write_meta(
                    folders[feature],
                    num_all,
                    dict(feature=feature, set=self._transforms[name]),
                )

    def _pool(self, feature: str, outputs: Any) -> Tensor:
        """Pool one feature from the outputs of the backbone: (N, D)."""
        if feature == 'neck':
            return self._model.neck(self._model.neck.pool(outputs))
        return pick_feature(
            self._model.backbone, outputs, feature, self.windows
        )


def _in_order(config: dict) -> dict:
    """Make a dataloader's config give each image once, on one rank."""
    if not isinstance(config, dict):
        raise ValueError(
            'FeatureEvalLoop needs the configs of its dataloaders, but got a '
            f'{type(config).__name__}.'
        )
    for key in ('sampler', 'batch_sampler'):
        kind = (config.get(key) or {}).get('type', 'DefaultSampler')
        if kind != 'DefaultSampler' or (config.get(key) or {}).get('shuffle'):
            raise ValueError(
                f'{key}={config[key]} has no use here: FeatureEvalLoop gives '
                f'each image to one rank, in order; leave {key} out.'
            )
    config = dict(
        config,
        drop_last=False,
        sampler=dict(type=ShareSampler, batch_size=config['batch_size']),
    )
    config.setdefault('collate_fn', dict(type='default_collate'))
    config.pop('batch_sampler', None)
    return config


def _read_annotations(
    loader: DataLoader, name: str
) -> tuple[list[str], Labels]:
    """Read paths and labels of a set, without opening an image."""
    dataset: Any = loader.dataset
    if not getattr(dataset, 'test_mode', True):
        raise ValueError(
            f'the {name} has test_mode=False: an unreadable image would be '
            'replaced by another and counted under the wrong label. Set '
            'test_mode=True.'
        )
    paths, labels = [], []
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        paths.append(str(info.get('img_path', '')))
        if info.get('gt_label') is None:
            raise ValueError(
                f'the {name} has no label for image {i}, {paths[-1]}; put '
                'images into one folder for each class, or give a list file '
                'with labels.'
            )
        labels.append(info['gt_label'])
    values = torch.as_tensor(np.array(labels))
    classes = tuple(getattr(dataset, 'metainfo', {}).get('classes') or ())
    return paths, Labels(name, values, classes)


def _check_classes(bank: Labels, test: Labels) -> None:
    """Refuse sets in which the same label means different classes."""
    if bank.classes and test.classes and bank.classes != test.classes:
        only = sorted(set(bank.classes) ^ set(test.classes))[:5]
        raise ValueError(
            f'bank and test set have different classes ({len(bank.classes)} '
            f'and {len(test.classes)}; in one of them only: '
            f'{", ".join(only)}), so their labels do not mean the same. Give '
            'folders with the same names, or list files.'
        )


def _check_features(model: Any, features: Sequence[str]) -> None:
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


def _used(model: Any, features: Sequence[str]) -> list[nn.Module]:
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
        for module in _used(model, features)
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
