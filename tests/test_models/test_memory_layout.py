"""Channels are innermost on GPUs only, and only if they are to be."""

import pytest
import torch

from swav_plugin.models.memory_layout import memory_layout


@pytest.mark.parametrize(
    'device, channels_last, layout',
    [
        ('cuda', True, torch.channels_last),
        ('mps', True, torch.channels_last),
        ('cuda', False, torch.contiguous_format),
        ('cpu', True, torch.contiguous_format),
        ('cpu', False, torch.contiguous_format),
    ],
)
def test_layout(
    device: str, channels_last: bool, layout: torch.memory_format
) -> None:
    assert memory_layout(torch.device(device), channels_last) is layout
