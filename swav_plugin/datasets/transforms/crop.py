"""Transforms that choose where to look: crops, flips and rotations."""

import math

import numpy as np
from PIL import Image

from swav_plugin.compat.moved import renamed_arguments
from swav_plugin.registry import TRANSFORMS

from .pillow_ops import crop_and_resize, flip
from .randomness import RandomTransform, check_bounds
from .view_params import NUM_FOR_BOX, choose_box


@TRANSFORMS.register_module()
class RandomResizedCrop(RandomTransform):
    """Cut a random box out of the image and resize it to a square.

    The box covers a share of the image's area that is uniform in
    `crop_ratio_range`, and has an aspect ratio that is log-uniform in
    `aspect_ratio_range`. After ten boxes that do not fit, it is the largest
    central one with an allowed aspect ratio. Resizing is bilinear with
    antialiasing.

    Args:
        size: Height and width of the output in pixels.
        crop_ratio_range: Least and largest share of the area, in (0, 1].
        aspect_ratio_range: Least and largest width / height, > 0.

    Source: torchvision.transforms.RandomResizedCrop. The same box gives the
    same pixels.
    """

    @renamed_arguments(scale='size')
    def __init__(
        self,
        size: int,
        crop_ratio_range: tuple[float, float] = (0.14, 1.0),
        aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        super().__init__()
        if not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(
                f'RandomResizedCrop got size={size}; give the size of the '
                'output in whole pixels, >= 1.'
            )
        tiny = 1e-9
        check_bounds(
            self,
            'crop_ratio_range',
            crop_ratio_range,
            tiny,
            1,
            'share of the area within (0, 1]',
        )
        check_bounds(
            self,
            'aspect_ratio_range',
            aspect_ratio_range,
            tiny,
            1 / tiny,
            'width / height, > 0',
        )
        self.size = size
        self.crop_ratio_range = crop_ratio_range
        self.aspect_ratio_range = aspect_ratio_range

    def draw(
        self, rng: np.random.Generator, height: int, width: int
    ) -> tuple[int, int, int, int]:
        """Draw a box: top, left, height, width in pixels."""
        return choose_box(
            rng.random(NUM_FOR_BOX),
            height,
            width,
            np.array(self.crop_ratio_range, float),
            np.array(self.aspect_ratio_range, float),
        )

    def apply(
        self, img: np.ndarray, params: tuple[int, int, int, int]
    ) -> np.ndarray:
        """Cut the box (top, left, height, width) out of img and resize it."""
        return crop_and_resize(img, *params, self.size)


@TRANSFORMS.register_module()
class RandomCrop(RandomTransform):
    """Cut a square of fixed size out of the image, at a random position.

    Not part of SwAV's recipe; benchmarks on Places205 and CIFAR-10 use it.

    Args:
        crop_size: Size of the square in pixels, >= 1.
        padding: Black pixels to add first at each edge of the image, >= 0.

    Source: torchvision.transforms.RandomCrop.
    """

    def __init__(self, crop_size: int, padding: int = 0) -> None:
        super().__init__()
        if crop_size < 1 or padding < 0:
            raise ValueError(
                f'RandomCrop got crop_size={crop_size}, '
                f'padding={padding}; give crop_size >= 1 and '
                'padding >= 0 in pixels.'
            )
        self.crop_size = crop_size
        self.padding = padding

    def draw(
        self, rng: np.random.Generator, height: int, width: int
    ) -> tuple[int, int]:
        """Draw top and left of the square, in the padded image."""
        num_tops, num_lefts = (
            length + 2 * self.padding - self.crop_size + 1
            for length in (height, width)
        )
        if min(num_tops, num_lefts) < 1:
            raise ValueError(
                f'RandomCrop cannot cut a square of {self.crop_size} px out '
                f'of {height}x{width} px with padding={self.padding}; resize '
                'the image first.'
            )
        return int(rng.integers(num_tops)), int(rng.integers(num_lefts))

    def apply(self, img: np.ndarray, params: tuple) -> np.ndarray:
        """Cut the square at (top, left) out of img."""
        top, left = params
        if self.padding:
            margins = (self.padding, self.padding)
            img = np.pad(img, (margins, margins, (0, 0)))
        return img[top : top + self.crop_size, left : left + self.crop_size]


@TRANSFORMS.register_module()
class RandomFlip(RandomTransform):
    """Mirror the image left to right with probability `prob`."""

    def __init__(self, prob: float = 0.5) -> None:
        super().__init__(prob)

    def apply(self, img: np.ndarray, params: None) -> np.ndarray:
        """Mirror img."""
        return flip(img)


@TRANSFORMS.register_module()
class RandomRotation(RandomTransform):
    """Turn the image about its center by a random angle; it keeps its size.

    Bilinear interpolation (Pillow). Not part of SwAV's recipe; it suits small
    sets such as handwritten digits, where color means nothing.

    Args:
        max_angle_rad: The angle is uniform in [-max_angle_rad,
            max_angle_rad], in radians.
        fill: Value of all channels, in [0, 255], of pixels that the turned
            image does not cover; the default is black.
    """

    def __init__(self, max_angle_rad: float, fill: int = 0) -> None:
        super().__init__()
        self.max_angle_rad = max_angle_rad
        self.fill = fill

    def draw(self, rng: np.random.Generator, height: int, width: int) -> float:
        """Draw the angle in radians, counter-clockwise."""
        return self.max_angle_rad * (2 * rng.random() - 1)

    def apply(self, img: np.ndarray, params: float) -> np.ndarray:
        """Turn img by an angle in radians."""
        turned = Image.fromarray(img).rotate(
            math.degrees(params),
            Image.Resampling.BILINEAR,
            fillcolor=(self.fill,) * 3,
        )
        return np.asarray(turned)
