"""Use features that `swav extract` or another command has written.

Letters for shapes: N images, C channels of a feature.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.wording import counted

from .features import extract_features
from .files import ImageFeatures, read_features

_NUM_CHECKED = 4  # images whose features are computed once more
# Half precision or another device change a cosine by less than 0.01; that of
# the features of two networks is far lower.
_LEAST_COSINE = 0.95


def reuse_features(
    path: str | Path,
    files: Sequence[str],
    model: Any,
    layer: str,
    size: Any,
) -> tuple[ImageFeatures, list[str]]:
    """Read features of images, and check that they are of this network.

    Args:
        path: What `extract_features` or `swav extract` has written.
        files: The images that the user named.
        model: As for `extract_features`, as are `layer` and `size`.

    Returns:
        The features, in the order of the file and under the names in
        `files`; and those of `files` that have none.

    Raises:
        FileNotFoundError: There is no such file.
        UsageError: It is damaged, or of other images, or of another network
            or layer.
    """
    found = read_features(path)
    named = {os.path.realpath(file): file for file in files}
    known = [os.path.realpath(file) for file in found.files]
    if not known:
        raise UsageError(f'{path} has no features; compute it again')
    others = [each for each in known if each not in named]
    if others:
        raise UsageError(
            f'{path} has features of {counted(len(others), "image")} that '
            f'you did not name, such as {others[0]!r}: give the images that '
            'it was computed from, or compute it again'
        )
    _check_network(path, found, model, layer, size)
    missing = {*named} - {*known}
    return (
        found._replace(files=[named[each] for each in known]),
        [named[each] for each in named if each in missing],
    )


def _check_network(
    path: str | Path, found: ImageFeatures, model: Any, layer: str, size: Any
) -> None:
    """Compute a few features once more, and compare."""
    num = len(found.files)
    picks = torch.linspace(0, num - 1, min(num, _NUM_CHECKED)).long()
    again, _ = extract_features(
        model, [found.files[i] for i in picks], layer, size
    )
    width, expected = found.features.shape[1], again.shape[1]
    hint = f'give the MODEL, layer and size that {path} was computed with'
    if width != expected:
        raise UsageError(
            f'{path} has features of width {width:,}, but {layer!r} of this '
            f'network has {expected:,}; {hint}'
        )
    cosines = F.cosine_similarity(found.features[picks], again)
    if not cosines.min() >= _LEAST_COSINE:
        raise UsageError(
            f'{path} is not of this network: {layer!r} of '
            f'{found.files[picks[cosines.argmin()]]} differs from it '
            f'(cosine {cosines.min():.2f}); {hint}'
        )
