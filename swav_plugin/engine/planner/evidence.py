"""What is known about small sets: kNN we measured, and what others published.

One place, so that a new measurement changes one number.
"""

# kNN top-1 in %, k 20, after training small networks with
# benchmarks/study_small_sets.py; means of the seeds. `digits`: scikit-learn's
# 1,797 digits, 40 epochs. `imagenette`: 2,000 images at 64 px, ResNet-18 at a
# quarter of its width, 20 epochs, 1,000 images to classify: 1.4 points are
# one standard error there. The variants change one thing of `base`: K 300,
# epsilon 0.05, no queue, colors at half strength.
NUM_SEEDS = 3
KNN: dict[str, dict[str, float]] = dict(
    digits={
        'untrained': 82.5,
        'base': 77.7,
        'full-strength colors': 60.6,
        'K 100': 68.2,
        'K 3000': 83.1,
        'epsilon .03': 89.2,
        'K 100, epsilon .03': 90.9,
        'queue of 512': 77.7,
        'K 3000, queue of 512': 83.0,
    },
    imagenette={
        'untrained': 21.4,
        'base': 22.8,
        'full-strength colors': 20.1,
        'K 100': 25.0,
        'K 3000': 26.1,
        'epsilon .03': 26.7,
        'K 100, epsilon .03': 27.5,
        'queue of 512': 22.1,
        'K 3000, queue of 512': 25.5,
    },
)

# Short names of sources in reasons, and what a config says of those it names.
STUDY = 'study of small sets'
LIGHTLY = "lightly's Imagenette recipe"
LIGHTLY_CIFAR = "lightly's CIFAR-10 recipe"
UPSTREAM = 'upstream'
SOURCES = {
    STUDY: 'kNN that we measured (documentation, Results: small sets), '
    f'mean of {NUM_SEEDS} seeds; base: K 300, epsilon .05, no queue, colors '
    'at half strength',
    LIGHTLY: '9,469 images, kNN 86.1 after 200 epochs, 90.2 after 800',
    LIGHTLY_CIFAR: '50,000 images, kNN 84.2 after 200 epochs, 88.4 after 800',
    UPSTREAM: 'arXiv:2006.09882 and facebookresearch/swav; at batch 256 72.7 '
    'linear after 200 epochs of ImageNet',
}


def compare(variant: str, other: str = 'base') -> str:
    """Say what two variants, and no training, reached on both sets.

    >>> compare('epsilon .03')
    'kNN on digits and Imagenette: epsilon .03 89.2 and 26.7, base 77.7 and
    22.8, untrained 82.5 and 21.4 (study of small sets)'
    """
    told = ', '.join(
        f'{name} {KNN["digits"][name]} and {KNN["imagenette"][name]}'
        for name in (variant, other, 'untrained')
    )
    return f'kNN on digits and Imagenette: {told} ({STUDY})'
