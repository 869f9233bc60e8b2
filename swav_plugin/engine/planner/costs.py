"""What a training step costs: memory by formula, speed from measurements.

Both follow the activations that the backbone keeps for its backward pass,
which grow with the pixels of all views.
"""

import math
from dataclasses import dataclass

from .situation import Plan, Situation


@dataclass(frozen=True)
class Backbone:
    """A network that can be planned.

    Args:
        name: For people.
        kept_fp32: Bytes kept for the backward pass by each pixel of a view.
        kept_amp: The same under autocast to bfloat16.
        num_parameters: Without neck and prototypes.
        num_channels: Of its last feature map.
        config: What the config says of it, beyond its base.
    """

    name: str
    kept_fp32: float
    kept_amp: float
    num_parameters: int
    num_channels: int
    config: dict

    def kept(self, amp: bool) -> float:
        """Return the bytes kept by each pixel of a view."""
        return self.kept_amp if amp else self.kept_fp32


# Bytes counted with torch.autograd.graph.saved_tensors_hooks: of the tensors
# that a forward pass in training keeps, without parameters and buffers, each
# storage once, the difference between two batch sizes. float32 on the meta
# device (on a CPU it is the same to the byte), bfloat16 on a CPU. Exact for
# sizes divisible by 32. `tests/test_engine/test_planner.py` counts them again.
BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone('ResNet-50', 1712, 872, 23_508_032, 2048, dict(depth=50)),
        Backbone('ResNet-34', 642, 337, 21_284_672, 512, dict(depth=34)),
        Backbone('ResNet-18', 442, 237, 11_176_512, 512, dict(depth=18)),
        Backbone(
            'ResNet-18 with the CIFAR stem', 4588, 2294, 11_168_832, 512,
            dict(type='ResNet_CIFAR', depth=18),
        ),
        Backbone(
            'ResNet-18 at a quarter of its width', 119.5, 63.75, 702_096, 128,
            dict(depth=18, stem_channels=16, base_channels=16),
        ),
        # As swav_demo_digits: 32 px become 4x4. The stem of an ImageNet
        # ResNet would leave 1x1.
        Backbone(
            'three stages of 16 to 64 channels', 392, 196, 174_896, 64,
            dict(
                _delete_=True, type='ResNet_CIFAR', depth=18, num_stages=3,
                out_indices=(2,), strides=(2, 2, 2), dilations=(1, 1, 1),
                stem_channels=16, base_channels=16,
                norm_cfg=dict(type='BN'), zero_init_residual=False,
            ),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Views:
    """The views of an image: groups of (number, size in px, crop range)."""

    groups: tuple[tuple[int, int, tuple[float, float]], ...]

    @property
    def pixels(self) -> int:
        """Pixels of all views of an image."""
        return sum(number * size**2 for number, size, _ in self.groups)

    def __str__(self) -> str:
        return ' + '.join(
            f'{number}x{size}' for number, size, _ in self.groups
        )


# What a process holds besides: CUDA and its libraries, or Python on a CPU.
FIXED_BYTES = 1.5e9
# cuDNN's workspaces and gaps between blocks take more than the formula says:
# EasyCV states 11.3 GB for ResNet-50 at 32 images in float32, it says 8.9.
USABLE_SHARE = 0.8
# Of the memory of a machine without a GPU: the system, the files that it keeps
# and the data workers have the rest.
CPU_SHARE = 0.75


def step_bytes(
    backbone: Backbone,
    views: Views,
    batch_size: int,
    amp: bool,
    num_prototypes: int,
    hid_channels: int,
    out_channels: int,
    moments: int,
) -> float:
    """Return the memory of a training step on one device, in bytes.

    Activations; views in float32; weights, gradients and moments of the
    optimizer; scores, codes and predictions.

    Args:
        backbone: The network.
        views: The views of an image.
        batch_size: Images of one device.
        amp: Activations in bfloat16.
        num_prototypes: K.
        hid_channels: Hidden units of the neck.
        out_channels: D.
        moments: Numbers that the optimizer keeps for each parameter.
    """
    activations = batch_size * views.pixels * backbone.kept(amp)
    images = batch_size * views.pixels * 3 * 4
    parameters = (
        backbone.num_parameters
        + backbone.num_channels * hid_channels
        + hid_channels * out_channels
        + out_channels * num_prototypes
    )
    num_views = sum(number for number, _, _ in views.groups)
    scores = 3 * 4 * num_views * batch_size * num_prototypes
    return activations + images + parameters * 4 * (2 + moments) + scores


@dataclass(frozen=True)
class Speed:
    """A measured speed.

    Args:
        images_per_s: Of one device or core.
        pixels: Of the views of one image.
        kept: Bytes kept by each of these pixels.
        source: Where it was measured.
    """

    images_per_s: float
    pixels: int
    kept: float
    source: str

    def images_per_s_of(
        self, backbone: Backbone, pixels: int, amp: bool
    ) -> float:
        """Return the speed of another network and other views.

        Steps are bound by memory: H200 and CPU move about as many bytes of
        activations a second with ResNet-18 as with ResNet-50.
        """
        moved = self.images_per_s * self.pixels * self.kept
        return moved / (pixels * backbone.kept(amp))


H200 = 'one H200 (documentation, Results)'
LARGE_CARD_GB = 80  # from here on a card counts as an H200

# By kind of recipe, on a card with LARGE_CARD_GB or more, and on any other.
SPEEDS = dict(
    large=(
        Speed(932.17, 155_648, 872, H200),
        Speed(102, 155_648, 872, 'one V100 of four, facebookresearch/swav'),
    ),
    small=(
        Speed(5128, 57_344, 237, H200),
        Speed(430, 57_344, 237, 'one A6000 (lightly: 200 epochs in 73.3 min)'),
    ),
)
# 2,000 images x 20 epochs in 427 s, start and kNN included.
CPU_SPEED = Speed(
    93.7, 10_240, 119.5, 'one core in float32 (documentation, Results)'
)

# One core, on 48 photographs of 500 x 375 px: to decode one, and to cut its
# views of 155,648 px once it is decoded; `swav_plugin, images in memory` and
# `decoding alone` of benchmarks/results/views_cpu_2026-11-28.json.
DECODE_S = 2.24e-3 / 187_552
CUT_S = 2.13e-3 / 155_648
# Of that speed, what each of two worker processes reaches: 341.9 images/s
# together (workers_cpu_2026-11-28.json) where one core alone makes 232.7.
WORKER_SHARE = 341.9 / 2 / 232.7


def loader_images_per_s(
    pixels: float, views: Views, workers: int, in_memory: bool
) -> float:
    """Return how many images a second data workers decode and cut.

    It was measured for photographs of 0.2 megapixels with up to two workers,
    and taken to be proportional to the pixels and the workers. Slow disks are
    not in it.

    Args:
        pixels: Height times width of the images.
        views: What is cut from each.
        workers: Processes on a core each; 0 for the main process.
        in_memory: Images are decoded once, before the training.
    """
    seconds = views.pixels * CUT_S + (not in_memory) * pixels * DECODE_S
    return (workers * WORKER_SHARE if workers else 1) / seconds


def images_per_s(
    kind: str, backbone: Backbone, views: Views, gpus: int, memory_gb: float,
    cores: int,
) -> tuple[float, str]:  # fmt: skip
    """Return the expected speed of all devices, and what it is taken from.

    More devices or cores count in full, and each card as the one of its size
    that was measured.
    """
    of_kind = SPEEDS['large' if kind == 'large' else 'small']
    if not gpus:
        speed, number = CPU_SPEED, max(1, cores - 1)
        counts = ''
    elif memory_gb >= LARGE_CARD_GB:
        speed, number = of_kind[0], gpus
        counts = f', which any card of {LARGE_CARD_GB} GB or more counts as'
    else:
        speed, number = of_kind[1], gpus
        counts = f', which any card under {LARGE_CARD_GB} GB counts as'
    times = f'{number} times ' if number > 1 else ''
    told = f'from {times}the speed of {speed.source}{counts}'
    if number > 1:
        told += ', as if nothing were lost between them'
    one = speed.images_per_s_of(backbone, views.pixels, amp=gpus > 0)
    return number * one, told


def largest_batch(wanted: int, fits: float) -> int:
    """Return the largest power-of-two fraction of `wanted` up to `fits`.

    >>> largest_batch(256, 100)
    64
    """
    return (
        wanted
        if fits >= wanted
        else int(wanted / 2 ** math.ceil(math.log2(wanted / max(fits, 1e-9))))
    )


def memory_needed(
    plan: Plan, batch_size: int, has_reserve: bool = True
) -> float:
    """Return the memory of a device that holds a batch, in bytes.

    Args:
        plan: With its network, views and prototypes.
        batch_size: Images of the device.
        has_reserve: With what should stay free.
    """
    hid_channels, out_channels = plan['neck']
    needed = step_bytes(
        plan['backbone'],
        plan['views'],
        batch_size,
        plan['amp'],
        plan['num_prototypes'],
        hid_channels,
        out_channels,
        moments=1 if plan['optimizer'] == 'LARS' else 2,
    )
    if not has_reserve:
        return needed + FIXED_BYTES
    share = CPU_SHARE if plan.kind == 'cpu' else 1
    return (needed / USABLE_SHARE + FIXED_BYTES) / share


def images_that_fit(plan: Plan, s: Situation) -> float:
    """Return how many images a device holds; may be below 1."""
    none, one = (memory_needed(plan, number) for number in (0, 1))
    return max(0.0, (s.memory_gb * 1e9 - none) / (one - none))


def run_speed(plan: Plan, s: Situation) -> tuple[float, str]:
    """Return images/s of the run, and what they come from.

    The slower one of network and data loader decides.
    """
    network, told = images_per_s(
        plan.kind, plan['backbone'], plan['views'], s.gpus, s.memory_gb,
        s.cores or 2,
    )  # fmt: skip
    pixels = s.mean_pixels or s.short_edge**2 * 4 / 3
    number = plan['num_workers'] * max(1, s.gpus)
    loader = loader_images_per_s(
        pixels,
        plan['views'],
        min(number, s.cores or number),
        plan['in_memory'],
    )
    if not number:  # one after the other
        loader = 1 / (1 / loader + 1 / network)
    data = f'{number} data workers' if number > 1 else 'one data worker'
    if not number:
        data = 'one core, which also trains,'
    if loader >= network:
        return network, f'{told}; {data} can load {loader:,.0f}'
    return loader, (
        f'as {data} can load no more images of {pixels / 1e6:.2g} megapixels; '
        f'the network would take {network:,.0f}, {told}. '
        'More CPU cores or smaller copies of the images make it faster'
    )
