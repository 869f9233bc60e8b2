"""Show what a checkpoint does with a few of the training images.

Its views, the images of its prototypes, nearest neighbors and a map.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmengine.utils import import_modules_from_strings

from swav_plugin.checkpoints import Checkpoint
from swav_plugin.checkpoints.newest import find_checkpoint
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.walk import walk_config
from swav_plugin.engine.wording import counted
from swav_plugin.inference import cluster_output, neighbour_output
from swav_plugin.inference.cluster_output import NamedImages
from swav_plugin.inference.clusters import (
    Clusters,
    assign_embeddings,
    check_has_prototypes,
)
from swav_plugin.inference.gallery import Picture, Section, Strip, address_of
from swav_plugin.inference.neighbour_output import Found
from swav_plugin.inference.neighbours import nearest_others
from swav_plugin.models.pretrained import model_of_checkpoint, model_of_config
from swav_plugin.registry import DATASETS, MODELS

from .content import Missing, Report, Warned
from .embedding_map import draw_map
from .samples import (
    Features,
    Sample,
    build_pipeline,
    compute_features,
    draw_views,
    pick,
    sample_dataset,
    sample_files,
)

MAX_IMAGES = 2000
_VIEWED = 6  # images whose views are shown
_QUERIES, _NEIGHBORS = 12, 7
_PICTURES, _PER_PROTOTYPE = 240, 8
_NAMED = 3  # images that cannot be read


@dataclass(frozen=True)
class Images:
    """What a checkpoint is to be shown on, and for how long.

    Args:
        checkpoint: A file, a URL or a name of the zoo; None for the newest of
            the work dir.
        source: A folder, a pattern or a list; None for the training images.
        dataset: The training set, if it is built already.
        most: How many images.
        max_seconds: For the network; then it makes do with those it has. None
            for as long as it takes.
    """

    checkpoint: str | None = None
    source: str | None = None
    dataset: Any = None
    most: int = MAX_IMAGES
    max_seconds: float | None = None


def show_learned(
    report: Report, work_dir: Path, cfg: Config | None, images: Images
) -> None:
    """Add the pictures to a report."""
    sample: Sample | None = None
    model: Any = None
    features: Features | None = None
    with DefaultScope.overwrite_default_scope('swav_plugin'):
        with report.part('Images'):
            if cfg is not None and cfg.get('custom_imports'):
                import_modules_from_strings(**cfg.custom_imports)
            sample = _take_sample(cfg, images)
        if sample is not None and cfg is not None:
            with report.part('Views'):
                seed = report.facts.get('Seed', '')
                report.sections.append(
                    _show_views(cfg, sample, seed, images.source)
                )
        with report.part('Checkpoint'):
            model = _open_checkpoint(report, work_dir, cfg, images.checkpoint)
        if sample is None or model is None:
            return
        with report.part('Prototypes, neighbors and map'):
            features = compute_features(model, sample, images.max_seconds)
    if features is not None:
        _show_features(report, model, sample, features, images.source)


def _take_sample(cfg: Config | None, images: Images) -> Sample:
    """Choose images of those that were asked for.

    Raises:
        UsageError: There are none, or nothing says where they are.
    """
    if images.source is not None:
        return sample_files(images.source, images.most)
    if images.dataset is not None:
        return sample_dataset(images.dataset, images.most)
    if cfg is None or not (cfg.get('train_dataloader') or {}).get('dataset'):
        raise UsageError(
            'the config does not say where the training images are; give '
            'some with --images'
        )
    config = cfg.train_dataloader.dataset.to_dict()
    for _, node in walk_config(config):
        if isinstance(node, dict) and 'in_memory' in node:
            node['in_memory'] = False  # all of them are not needed
    return sample_dataset(DATASETS.build(config), images.most)


def _show_views(
    cfg: Config, sample: Sample, seed: str, source: str | None
) -> Section:
    """Show the views of a few images, each beside the image itself.

    Args:
        cfg: Of the run.
        sample: The images.
        seed: Of the run.
        source: Where the user has them from; None for those of training.

    Raises:
        UsageError: None of the images can be read.
    """
    config = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor')
    if config is None:
        raise UsageError('the config has no model.data_preprocessor')
    strips = []
    for index, views in draw_views(
        build_pipeline(cfg),
        MODELS.build(config),
        sample.samples,
        int(seed) if seed.isdigit() else 0,
        _VIEWED,
    ):
        name = sample.images.names[index]
        pictures = [Picture(sample.images.files[index], name, 'image')]
        pictures += [
            Picture(
                address_of(view),
                f'view {number} of {name}',
                f'view {number}',
                f'{view.width} px',
            )
            for number, view in enumerate(views, start=1)
        ]
        strips.append(Strip(name, '', pictures))
    if not strips:
        raise UsageError('none of the images can be read')
    sampler = cfg.train_dataloader.get('sampler') or {}
    note = 'Such as the network gets'
    if source is not None:
        note = f'Views of {source}, made as in training'
    elif 'KeyedSampler' in str(sampler.get('type')):
        note = 'As the network got them in the first epoch'
    note += ', with the normalization undone; all at one size here.'
    return Section('Views', note, strips)


def _open_checkpoint(
    report: Report, work_dir: Path, cfg: Config | None, source: str | None
) -> Any:
    """Build the network of a checkpoint, in eval mode.

    Raises:
        UsageError: There is no checkpoint.
        ValueError: It cannot be loaded.
    """
    source = source or find_checkpoint(str(work_dir))
    if source is None:
        raise UsageError(
            f'there is none in {work_dir}; name one: --checkpoint'
        )
    checkpoint = Checkpoint(source)
    if cfg is not None and 'model' in cfg:
        model = model_of_config(cfg, checkpoint)
    else:
        model = model_of_checkpoint(checkpoint)
    checkpoint.drop()
    report.facts['Checkpoint'] = source
    return model.to(get_device()).eval()


def _show_features(
    report: Report,
    model: Any,
    sample: Sample,
    features: Features,
    source: str | None,
) -> None:
    """Show prototypes, neighbors and the map."""
    num = len(features.indices)
    kind = 'training image' if source is None else 'image'
    of = '' if source is None else f' of {source}'
    report.sample = (
        f'{num:,} of {counted(sample.total, kind)}{of}, evenly spread.'
    )
    if num == sample.total:
        report.sample = f'All {counted(num, kind)}{of}.'
        if num == 1:
            report.sample = f'The only {kind}{of}.'
    if source is not None:
        report.sample += ' The network need not have seen them in training.'
    tried = num + len(features.unreadable)
    if tried < len(sample.samples):
        report.sample += f' There was no time for more than {tried:,}.'
    if features.unreadable:
        some = '; '.join(features.unreadable[:_NAMED])
        count = counted(len(features.unreadable), 'image')
        reason = f'{count} of {tried:,} cannot be read: {some}'
        report.missing.append(Missing('Images', reason))
    images = pick(sample.images, features.indices)
    clusters = None
    with report.part('Prototypes'):
        check_has_prototypes(model)
        assert features.embeddings is not None
        clusters = assign_embeddings(
            model.head.cpu(), features.embeddings, images.files
        )
        report.sections.append(_show_prototypes(clusters, images))
        told = cluster_output.describe_collapse(clusters)
        if told:
            report.warnings.append(Warned('Prototypes', told))
    with report.part('Neighbors'):
        report.sections.append(_show_neighbors(features, images))
    with report.part('Map'):
        kinds = images.classes
        if kinds is None and clusters is not None:
            numbers = clusters.prototype.tolist()
            kinds = [f'prototype {number}' for number in numbers]
        vectors = features.embeddings
        report.map = draw_map(
            features.pooled if vectors is None else vectors,
            kinds or ['image'] * num,
            images.names,
        )


def _show_prototypes(clusters: Clusters, images: NamedImages) -> Section:
    """Show the images nearest to the largest prototypes."""
    gallery = cluster_output.lay_out(
        '', {}, clusters, images, _PICTURES, _PER_PROTOTYPE
    )
    section = gallery.sections[0]
    used = int((clusters.counts > 0).sum())
    notes = ['The images nearest to each prototype, with 1 - cosine.']
    if len(section.strips) < used:
        notes.append(f'The {len(section.strips)} largest are shown.')
    notes += [
        f'{name}: {fact}.'
        for name, fact in gallery.facts.items()
        if name != 'Images'
    ]
    return section._replace(note=' '.join(notes))


def _show_neighbors(features: Features, images: NamedImages) -> Section:
    """Show a few images with those nearest to them.

    Raises:
        UsageError: There is only one image.
    """
    num = len(images.files)
    if num < 2:
        raise UsageError('a single image has none')
    chosen = np.linspace(0, num - 1, min(num, _QUERIES)).round().astype(int)
    own = torch.from_numpy(chosen).long()
    found = Found(
        images,
        pick(images, chosen.tolist()),
        *nearest_others(
            features.pooled, features.pooled[own], own, _NEIGHBORS
        ),
        duplicates=None,
    )
    return neighbour_output.lay_out('', {}, found).sections[0]
