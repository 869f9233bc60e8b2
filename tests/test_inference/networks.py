"""A small SwAV that tells colors apart, and images for it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from swav_plugin.inference.features import extract_features
from swav_plugin.models import SwAV

COLORS = dict(blue=(20, 40, 230), green=(30, 200, 40), red=(220, 30, 30))

MODEL: dict[str, Any] = dict(
    type='SwAV',
    data_preprocessor=dict(
        type='MultiViewPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
    neck=dict(
        type='SwAVNeck', in_channels=64, hid_channels=0, out_channels=16
    ),
    head=dict(type='SwAVHead', num_prototypes=7),
)


def write_colors(folder: Path, num_each: int = 8) -> Path:
    """Write class folders of plain images that vary a little."""
    rng = np.random.default_rng(0)
    for name, color in COLORS.items():
        (folder / name).mkdir(parents=True)
        for index in range(num_each):
            pixels = rng.normal(color, 12, size=(40, 48, 3)).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(
                folder / name / f'{index}.png'
            )
    return folder


def network_for(folder: Path) -> SwAV:
    """Build a network with two prototypes on each color, and one on none.

    They are the embeddings of the first two images of each color, as they
    would be after training; the last is opposite to all.
    """
    torch.manual_seed(0)
    arguments = {key: value for key, value in MODEL.items() if key != 'type'}
    model = SwAV(**arguments).eval()
    files = [
        str(folder / name / f'{index}.png')
        for name in COLORS
        for index in range(2)
    ]
    # Without what all have in common, colors are far apart.
    features, _ = extract_features(model, files, size=32)
    with torch.no_grad():
        projection = model.neck.projection[0]
        projection.bias -= projection(features).mean(0)
    embeddings, _ = extract_features(model, files, layer='embedding', size=32)
    model.head.prototypes[0].weight.data = torch.cat(
        [embeddings, -embeddings.mean(0, keepdim=True)]
    )
    return model
