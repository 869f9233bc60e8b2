"""Check a Runner that was built, before it starts something slow."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, get_world_size
from mmengine.runner import Runner

from swav_plugin import __version__
from swav_plugin.checkpoints import read_checkpoint
from swav_plugin.checkpoints.loaders import load_from_local
from swav_plugin.checkpoints.newest import find_checkpoint
from swav_plugin.checkpoints.training_state import check_finite, check_parts
from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.image_folder import NoReadableImage
from swav_plugin.datasets.transforms.loading import UnreadableImage
from swav_plugin.datasets.transforms.randomness import global_generators_from
from swav_plugin.datasets.unreadable import refuse_unreadable

from .errors import UsageError
from .hooks.pretrained import PretrainedHook
from .resume import check_state, config_text, first_difference
from .wrappers import unwrap


def check_batches(runner: Runner) -> None:
    """Check that the training set is large enough for one batch.

    Raises:
        UsageError: It is not, and mmengine would train nothing.
    """
    loader = runner.train_dataloader
    if not len(loader):
        raise UsageError(
            f'the training set has {len(loader.dataset)} images, which give '
            f'no batch of {loader.batch_size} on each of {get_world_size()} '
            'processes, since drop_last drops incomplete ones; set '
            'train_dataloader.batch_size lower.'
        )


def check_samples(runner: Runner, *names: str) -> None:
    """Load one sample of each set.

    A mistake in a pipeline is then found here, in this process, and not in a
    worker after the start. Random numbers stay as they were.

    Args:
        runner: The Runner.
        names: 'train', 'val' or 'test'; those that the config has.
    """
    with global_generators_from(np.random.default_rng(0)):
        for name in names:
            loader = runner.cfg.get(f'{name}_dataloader') and getattr(
                runner, f'{name}_dataloader'
            )
            if loader is None:
                continue
            try:
                loader.dataset[SampleKey(0, 0, 0)]
            except (UnreadableImage, NoReadableImage):
                pass  # `check_images` reports it


def check_same_start(cfg: Config) -> None:
    """Check that all ranks begin with the same code and config.

    A difference would end in a hang, or in wrong results.

    Raises:
        UsageError: On every rank, with the first difference.
    """
    package = Path(__file__).resolve().parents[1]
    code = hashlib.sha256()
    for path in sorted(package.rglob('*.py')):
        code.update(path.read_bytes())
    _compare_ranks(
        {
            'the version of swav_plugin': __version__,
            'the code of swav_plugin': code.hexdigest()[:12],
            'the version of torch': torch.__version__,
            'the config': config_text(cfg),
        }
    )


def check_ranks(runner: Runner) -> None:
    """Check that all ranks have the same seed and the same images.

    Raises:
        UsageError: On every rank, with the first difference.
    """
    dataset = runner.train_dataloader.dataset
    names, sizes = digest_images(dataset)
    _compare_ranks(
        {
            'the seed': runner.seed,
            'the number of training images': len(dataset),
            'the list of training images (digest)': names,
            'the contents of the training images (digest)': sizes,
        }
    )


def digest_images(dataset: Any) -> tuple[str, str]:
    """Return digests of the list of a dataset, and of its files' sizes.

    Of the sizes, a hundred all over the list: each costs a network drive a
    while. Datasets that have no such list give empty ones.
    """
    while hasattr(dataset, 'dataset'):  # mmengine's wrappers
        dataset = dataset.dataset
    infos = getattr(dataset, 'data_bytes', None)
    if not isinstance(infos, np.ndarray) or not len(infos):
        return '', ''
    sizes = hashlib.sha256()
    for index in range(0, len(dataset), max(1, len(dataset) // 100)):
        path = dataset.get_data_info(index).get('img_path')
        if isinstance(path, str) and Path(path).is_file():
            sizes.update(Path(path).stat().st_size.to_bytes(8, 'little'))
    names = hashlib.sha256(infos.data)  # no copy of a long list
    return names.hexdigest()[:12], sizes.hexdigest()[:12]


def _compare_ranks(here: dict[str, Any]) -> None:
    """Raise a UsageError with the first value that is not rank 0's."""
    ranks = all_gather_object(here)
    for rank, there in enumerate(ranks):
        for name, one in ranks[0].items():
            other = there[name]
            if one == other:
                continue
            if name == 'the config':
                key, one, other = first_difference(one, other)
                name = f'the config, {key}'
            raise UsageError(
                f'rank 0 and rank {rank} differ in {name}: {one} and {other}; '
                'start all ranks with the same files and arguments'
            )


def check_weights(runner: Runner) -> None:
    """Check that weights fit the backbone, before images are looked for.

    Raises:
        UsageError: They do not, or the config wants some and none are given.
    """
    for hook in runner.hooks:
        if isinstance(hook, PretrainedHook) and not runner.cfg.get('resume'):
            try:
                hook.fill(runner, dry_run=True)
            except ValueError as error:
                raise UsageError(str(error)) from None


def check_resume(runner: Runner) -> None:
    """Check that a run can go on from what is to be resumed.

    The Runner reads the file again: it takes a name only, and reads it after
    the images were looked for.

    Raises:
        UsageError: It holds weights only, or belongs to a run from
            different weights, with another model or another optimizer, or to
            one that is longer than the config's.
        CheckpointError: It is not a good checkpoint, or not finite.
    """
    if not runner.cfg.get('resume'):
        return
    source = runner.cfg.get('load_from') or find_checkpoint(runner.work_dir)
    if source is None or '://' in source:
        return
    state = load_from_local(source, 'cpu')
    check_parts(state, source)
    meta = state['meta']
    for unit in ('epoch', 'iter'):
        total = (runner.cfg.get('train_cfg') or {}).get(f'max_{unit}s')
        if isinstance(total, int) and meta[unit] > total:
            raise UsageError(
                f'--resume: {source} has {meta[unit]} {unit}s, but '
                f'train_cfg.max_{unit}s={total}; give as many or more'
            )
    own = unwrap(runner.model).state_dict()
    check_finite(state['state_dict'], source, own)
    check_finite({'optimizer': state['optimizer']}, source)
    for hook in runner.hooks:
        if isinstance(hook, PretrainedHook):
            hook.check_origin(state, source)
    check_state(runner, state, source)


def check_load_from(runner: Runner) -> None:
    """Check that `load_from` fills the backbone; the Runner would not.

    The Runner reads the file again, as in `check_resume`.

    Raises:
        UsageError: A tensor of the backbone, or of the last stage in the
            heads of a C4 detector, is missing or has a different shape.
    """
    source = runner.cfg.get('load_from')
    model = unwrap(runner.model)
    if (
        source is None
        or runner.cfg.get('resume')
        or (not hasattr(model, 'backbone'))
    ):
        return
    weights = {
        key.removeprefix('module.'): value
        for key, value in read_checkpoint(source).items()
    }
    check_finite(weights, source, model.state_dict())
    found = {key: value.shape for key, value in weights.items()}
    missing = sorted(
        key
        for key, value in model.state_dict().items()
        if key.startswith(('backbone.', 'roi_head.shared_head.layer'))
        and found.get(key) != value.shape
    )
    if missing:
        raise UsageError(
            f'{len(missing)} tensors are missing from load_from = {source!r} '
            f'or have a different shape, such as {missing[0]}; load_from '
            "needs this model's own names. For others use --pretrained"
        )


def check_labels(runner: Runner, *names: str) -> None:
    """Check that a classifier has the classes of its images, and only those.

    Args:
        runner: The Runner.
        names: 'train', 'val' or 'test'; a set that the config does not have,
            or that does not tell its classes, is left out.

    Raises:
        UsageError: Images have no labels, or labels that are too high (on a
            GPU the loss would stop with an assertion that names none);
            training images have fewer classes than the head; or two sets have
            different classes.
    """
    head, path = _classifying_head(unwrap(runner.model))
    num_classes = getattr(head, 'num_classes', None)
    if num_classes is None:
        return
    known: Sequence[str] = ()
    for name in names:
        if getattr(runner, f'_{name}_loop') is None:
            continue
        dataset = getattr(runner, f'{name}_dataloader').dataset
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        if not hasattr(dataset, 'num_classes') and not classes:
            continue
        found = getattr(dataset, 'num_classes', len(classes or ()))
        _check_num_classes(name, found, path, num_classes)
        if classes and known and set(classes) != set(known):
            only = sorted(set(classes) ^ set(known))[:5]
            raise UsageError(
                f'{names[0]}_dataloader and {name}_dataloader have different '
                f'classes; in one of them only: {", ".join(only)}'
            )
        known = classes or known


def check_images(runner: Runner, *names: str) -> None:
    """Check that all images of a classifier can be read, before it trains.

    `FeatureEvalLoop` checks its own. In pretraining another image takes the
    place of one that cannot be read.

    Args:
        runner: The Runner.
        names: 'train', 'val' or 'test'; a set that the config does not have
            is left out.

    Raises:
        ValueError: Some cannot be read; the message has a line for each.
    """
    head = getattr(unwrap(runner.model), 'head', None)
    if getattr(head, 'num_classes', None) is None:
        return
    refuse_unreadable(
        {
            name: getattr(runner, f'{name}_dataloader').dataset
            for name in names
            if getattr(runner, f'_{name}_loop') is not None
        }
    )


def _classifying_head(model: Any) -> tuple[Any, str]:
    """Return what tells classes apart, of a classifier or a detector."""
    if hasattr(model, 'roi_head'):
        return model.roi_head.bbox_head, 'model.roi_head.bbox_head'
    return getattr(model, 'head', None), 'model.head'


def _check_num_classes(
    name: str, found: int | None, path: str, num_classes: int
) -> None:
    """Raise if a set's number of classes does not fit the head."""
    if found is None:
        raise UsageError(
            f'images of {name}_dataloader have no labels; put them into '
            'one folder for each class, or give a list file with labels '
            '(dataset.ann_file)'
        )
    if found > num_classes:
        raise UsageError(
            f'labels of {name}_dataloader go up to {found - 1}, but the '
            f'head has {num_classes} classes, 0 to {num_classes - 1}; set '
            f'{path}.num_classes={found} or correct the labels.'
        )
    if name == 'train' and found < num_classes:
        raise UsageError(
            f'images of train_dataloader have {found} classes, but the '
            f'head has {num_classes}; set {path}.num_classes={found} or '
            'look for missing images.'
        )
