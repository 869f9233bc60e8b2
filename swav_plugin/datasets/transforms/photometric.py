"""Transforms that change how an image looks: color, grayscale and blur."""

from numbers import Real

import numpy as np

from swav_plugin.registry import TRANSFORMS

from .pillow_ops import gaussian_blur, jitter_colors, to_grayscale
from .randomness import RandomTransform, check_bounds
from .view_params import (
    ADJUSTMENTS,
    NOTHING,
    NUM_FOR_ADJUSTMENTS,
    choose_adjustments,
)

# Principal components of ImageNet's colors: eigenvalues of the covariance of
# (R, G, B) in 0..1, and an eigenvector in each column. From fb.resnet.torch.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = np.array(
    [
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    ]
)


@TRANSFORMS.register_module()
class ColorJitter(RandomTransform):
    """Change brightness, contrast, saturation and hue in random order.

    SwAV uses strengths of .8, .8, .8 and .2 with a probability of .8.

    Args:
        brightness: The factor is uniform in [max(0, 1 - brightness),
            1 + brightness]; 0 leaves the brightness alone. >= 0.
        contrast: The same for contrast.
        saturation: The same for saturation.
        hue: The shift is uniform in [-hue, hue], in turns of the color
            circle; in [0, .5].
        prob: Probability of changing an image.

    Source: torchvision.transforms.ColorJitter. The same factors give the same
    pixels.
    """

    def __init__(
        self,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        strengths = (brightness, contrast, saturation, hue)
        if not all(
            isinstance(strength, Real) and 0 <= strength <= limit
            for strength, limit in zip(strengths, (1e6, 1e6, 1e6, 0.5))
        ):
            raise ValueError(
                f'ColorJitter got brightness={brightness}, '
                f'contrast={contrast}, saturation={saturation}, hue={hue}; '
                'each is one number: the first three >= 0 and hue in [0, .5].'
            )
        # A range for each adjustment; equal ends: never adjusted.
        self.amount_ranges = np.array(
            [
                *((max(0.0, 1 - x), 1 + x) for x in strengths[:3]),
                (-hue, hue),
            ],
            float,
        )

    def draw(
        self, rng: np.random.Generator, height: int, width: int
    ) -> list[tuple[str, float]]:
        """Draw (adjustment, factor) pairs in the order to apply them."""
        order, amounts = np.empty(4), np.empty(4)
        numbers = rng.random(NUM_FOR_ADJUSTMENTS)
        choose_adjustments(numbers, self.amount_ranges, order, amounts)
        return [
            (ADJUSTMENTS[int(i)], float(amounts[int(i)]))
            for i in order
            if i != NOTHING
        ]

    def apply(
        self, img: np.ndarray, params: list[tuple[str, float]]
    ) -> np.ndarray:
        """Make the adjustments of img in turn."""
        return jitter_colors(
            img, [(ADJUSTMENTS.index(name), factor) for name, factor in params]
        )


@TRANSFORMS.register_module()
class Lighting(RandomTransform):
    """Add one random color to all pixels, as the light in ImageNet varies.

    The color is the sum of the principal components of ImageNet's colors,
    each times its eigenvalue and a normal random number. Values are rounded
    and clipped to 0..255; mmselfsup 0.x keeps floats, so values differ by up
    to 0.5. Not part of SwAV's recipe; linear probes of mmselfsup use it.

    Args:
        alphastd: Standard deviation of the random numbers, >= 0.

    Source: Krizhevsky et al., ImageNet Classification with Deep Convolutional
    Neural Networks (2012), section 4.1.
    """

    def __init__(self, alphastd: float = 0.1) -> None:
        super().__init__()
        if alphastd < 0:
            raise ValueError(
                f'Lighting got alphastd={alphastd}; it must be >= 0.'
            )
        self.alphastd = alphastd

    def draw(
        self, rng: np.random.Generator, height: int, width: int
    ) -> np.ndarray:
        """Draw the shift of (R, G, B), in 0..255."""
        alphas = rng.normal(0, self.alphastd, 3)
        return 255 * _EIGENVECTORS @ (alphas * _EIGENVALUES)

    def apply(self, img: np.ndarray, params: np.ndarray) -> np.ndarray:
        """Add a shift to all pixels of img."""
        # Each channel has 256 possible values: look them up.
        values = np.rint(np.arange(256)[:, None] + params)
        tables = np.clip(values, 0, 255).astype(np.uint8)
        return np.stack([tables[img[..., c], c] for c in range(3)], axis=-1)


@TRANSFORMS.register_module()
class RandomGrayscale(RandomTransform):
    """Take the color out of the image with probability `prob`.

    All three channels become the luma of ITU-R 601-2, rounded as in Pillow.
    """

    def __init__(self, prob: float = 0.2) -> None:
        super().__init__(prob)

    def apply(self, img: np.ndarray, params: None) -> np.ndarray:
        """Take the color out of img."""
        return to_grayscale(img)


@TRANSFORMS.register_module()
class GaussianBlur(RandomTransform):
    """Blur the image with probability `prob`.

    With Pillow's approximation of a Gaussian by three box filters, as in
    upstream.

    Args:
        sigma_range: Least and largest standard deviation in pixels, >= 0; it
            is uniform in between.
        prob: Probability of blurring an image.
    """

    def __init__(
        self, sigma_range: tuple[float, float] = (0.1, 2.0), prob: float = 0.5
    ) -> None:
        super().__init__(prob)
        # The upper bound is more than a view has pixels. Work grows with it.
        check_bounds(
            self,
            'sigma_range',
            sigma_range,
            0,
            1000,
            'in pixels, within [0, 1000]',
        )
        self.sigma_range = sigma_range

    def draw(self, rng: np.random.Generator, height: int, width: int) -> float:
        """Draw sigma in pixels."""
        low, high = self.sigma_range
        return low + (high - low) * rng.random()

    def apply(self, img: np.ndarray, params: float) -> np.ndarray:
        """Blur img with a sigma in pixels."""
        return gaussian_blur(img, params)
