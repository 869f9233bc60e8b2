"""The benchmarks of the suite, one record for each.

The command and the report read everything from there. To add one, follow "Add
a benchmark" in CONTRIBUTING.md.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from swav_plugin import shipped
from swav_plugin.compat.stack import downstream_hint

from .data import DatasetFolder

CONFIGS = shipped.CONFIGS / 'benchmarks'

# Rows of published numbers.
MMSELFSUP = 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96, mmselfsup'
UPSTREAM = '200 epochs, batch 256, facebookresearch/swav'
PAPER = 'SwAV paper, 800 epochs'


class Table(NamedTuple):
    """A table of the report.

    Args:
        title: As on mmselfsup's benchmark page, if it has the table.
        note: What the numbers are.
    """

    title: str
    note: str


class Column(NamedTuple):
    """A column of a table, and the result that fills it.

    Args:
        table: Which one.
        title: At its head.
        wanted: The `name` of a result, or fields of its protocol. The first
            of these that was measured counts.
        shows: 'value', or a field to show in its place.
    """

    table: Table
    title: str
    wanted: tuple[dict[str, Any], ...]
    shows: str = 'value'


@dataclass(frozen=True)
class Benchmark:
    """One run: what is measured, on which data, and where its numbers go.

    Args:
        config: Below configs/benchmarks.
        data: What it reads.
        columns: Columns of one table or several. A table may have columns of
            several benchmarks.
        published: Numbers as published: by the name of their row, then by
            the title of their column in the table of the first of `columns`.
        trains: With tools/train.py; else it is a run of tools/test.py.
        library: What its config builds on, besides mmpretrain.
    """

    config: str
    data: DatasetFolder
    columns: tuple[Column, ...]
    published: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    trains: bool = True
    library: str = ''

    def published_in(self, column: Column) -> dict[str, str]:
        """Return the published numbers of a column, by their row."""
        if column.table != self.columns[0].table:
            return {}
        return {
            row: numbers[column.title]
            for row, numbers in self.published.items()
            if column.title in numbers
        }

    def missing_library(self) -> str | None:
        """Say what to install for this benchmark, if anything."""
        if not self.library or importlib.util.find_spec(self.library):
            return None
        return f'{self.library} is not installed: {downstream_hint()}'


def _top1(table: Table, **features: str) -> tuple[Column, ...]:
    """Return columns of linear classifiers on features, by title."""
    return tuple(
        Column(
            table,
            title,
            # With several learning rates, the best of them.
            tuple(
                dict(name=f'{feature}/{top1}')
                for top1 in ('top1_best_by_val', 'top1')
            ),
        )
        for title, feature in features.items()
    )


def _named(table: Table, **names: str) -> tuple[Column, ...]:
    """Return columns of results with these names, by title."""
    return tuple(
        Column(table, title, (dict(name=name),))
        for title, name in names.items()
    )


def _svm(table: Table, rule: str) -> tuple[Column, ...]:
    """Return columns of SVMs, layer and cost chosen by 'test' or 'cv'."""
    full = (dict(feature_rule=rule), dict(feature_rule=None))  # one layer
    return (
        Column(table, 'Best Layer', full, shows='feature'),
        Column(table, 'SVM', full),
        *(
            Column(table, f'k={k}', (dict(k=k, cost_rule=rule),))
            for k in (1, 2, 4, 8, 16, 32, 64, 96)
        ),
    )


def _boxes(table: Table) -> tuple[Column, ...]:
    """Return columns of COCO's numbers for boxes."""
    return _coco_columns(table, {'Box': 'bbox'})


def _boxes_and_masks(table: Table) -> tuple[Column, ...]:
    """Return columns of COCO's numbers for boxes, then for masks."""
    return _coco_columns(table, {'Box': 'bbox', 'Mask': 'segm'})


def _coco_columns(table: Table, kinds: dict[str, str]) -> tuple[Column, ...]:
    """Return columns of COCO's numbers for some kinds, by title."""
    names = {
        f'{title}({kind})': f'coco/{key}_{name}'
        for kind, key in kinds.items()
        for title, name in (
            ('mAP', 'mAP'),
            ('AP50', 'mAP_50'),
            ('AP75', 'mAP_75'),
        )
    }
    return _named(table, **names)


def _few_labels(percent: int) -> tuple[Column, ...]:
    """Return columns of training on a share of ImageNet's labels."""
    names = {f'{percent} % Top-{top}': f'accuracy/top{top}' for top in (1, 5)}
    return _named(_FEW_LABELS, **names)


_MAPS = {f'Feature{i}': f'feature{i}' for i in range(1, 6)}

_KNN = Table(
    'ImageNet Nearest-Neighbor Classification',
    'Top-1 of weighted votes among the nearest training images.',
)
_SVM = Table(
    'VOC SVM / Low-shot SVM',
    'mAP of linear SVMs on VOC07. As in mmselfsup, the best layer and the '
    'cost of low-shot SVMs are chosen on the test set; low-shot SVMs see the '
    'layer that is best in cross-validation.',
)
_SVM_CV = Table(
    'VOC SVM / Low-shot SVM, chosen without the test set',
    'The same with layer and cost chosen on training images.',
)
_LINEAR = Table(
    'ImageNet Linear Evaluation',
    'Top-1 of linear classifiers on frozen features: feature maps averaged '
    'over windows to 8,192 or 9,216 numbers, and AvgPool.',
)
_FEW_LABELS = Table(
    'ImageNet with few labels',
    "All weights trained on 1 % or 10 % of the labels. Not on mmselfsup's "
    'benchmark page.',
)

_IMAGENET = DatasetFolder('imagenet', 'imagenet')
_COCO = DatasetFolder('coco', 'coco')
_IN1K = 'classification/imagenet'

# In the order in which they run: the quick ones first.
BENCHMARKS = dict(
    knn=Benchmark(
        config='classification/knn_imagenet.py',
        data=_IMAGENET,
        columns=tuple(
            Column(_KNN, f'k={k}', (dict(feature='avgpool', k=k, top=1),))
            for k in (10, 20, 100, 200)
        ),
        published={
            MMSELFSUP: {
                'k=10': '60.5',
                'k=20': '60.6',
                'k=100': '59.0',
                'k=200': '57.6',
            }
        },
        trains=False,
    ),
    svm=Benchmark(
        config='classification/svm_voc07.py',
        data=DatasetFolder('voc07', 'VOCdevkit/VOC2007'),
        columns=_svm(_SVM, 'test') + _svm(_SVM_CV, 'cv'),
        published={
            MMSELFSUP: {
                'Best Layer': 'feature5',
                'SVM': '87.00',
                'k=1': '44.68',
                'k=2': '55.41',
                'k=4': '67.64',
                'k=8': '73.67',
                'k=16': '78.14',
                'k=32': '81.58',
                'k=64': '83.98',
                'k=96': '85.15',
            }
        },
        trains=False,
    ),
    linear_mhead=Benchmark(
        config=f'{_IN1K}/resnet50_mhead_linear-8xb32-steplr-90e_in1k.py',
        data=_IMAGENET,
        columns=_top1(_LINEAR, **_MAPS),
        published={
            MMSELFSUP: dict(
                Feature1='16.98',
                Feature2='34.96',
                Feature3='49.26',
                Feature4='65.98',
                Feature5='70.74',
            )
        },
    ),
    linear=Benchmark(
        config=f'{_IN1K}/resnet50_linear-8xb32-coslr-100e_in1k.py',
        data=_IMAGENET,
        columns=_top1(_LINEAR, AvgPool='avgpool'),
        published={
            MMSELFSUP: dict(AvgPool='70.47'),
            UPSTREAM: dict(AvgPool='72.7'),
        },
    ),
    places205=Benchmark(
        config='classification/places205/'
        'resnet50_mhead_8xb32-steplr-28e_places205.py',
        data=DatasetFolder('places205', 'places205'),
        columns=_top1(
            Table(
                'Places205 Linear Evaluation',
                'Top-1 of linear classifiers on frozen features.',
            ),
            **_MAPS,
        ),
        published={
            MMSELFSUP: dict(
                Feature1='23.33',
                Feature2='35.45',
                Feature3='43.13',
                Feature4='51.98',
                Feature5='55.09',
            )
        },
    ),
    inaturalist2018=Benchmark(
        config='classification/inaturalist2018/'
        'resnet50_mhead_8xb32-steplr-84e_inat18.py',
        data=DatasetFolder('inaturalist2018', 'inaturalist2018'),
        columns=_top1(
            Table(
                'iNaturalist2018 Linear Evaluation',
                'Top-1 of linear classifiers on frozen features. '
                "mmselfsup's benchmark page names it, without numbers.",
            ),
            **_MAPS,
        ),
    ),
    # SwAV's own recipes, of the several there are.
    semisup_1percent=Benchmark(
        config=f'{_IN1K}/imagenet_1percent/'
        'resnet50_head250_8xb32-steplr2e-2-20e_in1k-1pct.py',
        data=DatasetFolder('imagenet_1percent', 'imagenet'),
        columns=_few_labels(1),
        published={PAPER: {'1 % Top-1': '53.9', '1 % Top-5': '78.5'}},
    ),
    semisup_10percent=Benchmark(
        config=f'{_IN1K}/imagenet_10percent/'
        'resnet50_head20_8xb32-steplr1e-2-20e_in1k-10pct.py',
        data=DatasetFolder('imagenet_10percent', 'imagenet'),
        columns=_few_labels(10),
        published={PAPER: {'10 % Top-1': '70.2', '10 % Top-5': '89.9'}},
    ),
    cifar10=Benchmark(
        config='classification/cifar10/resnet50_8xb128-steplr-350e_cifar10.py',
        data=DatasetFolder('cifar10', 'cifar10'),
        columns=_named(
            Table(
                'CIFAR-10',
                "Top-1 after training all weights. Not on mmselfsup's "
                'benchmark page.',
            ),
            **{'Top-1': 'accuracy/top1'},
        ),
    ),
    faster_rcnn_c4=Benchmark(
        config='mmdetection/voc0712/faster-rcnn_r50-c4_ms-24k_voc0712.py',
        data=DatasetFolder('voc0712', 'VOCdevkit'),
        columns=_named(
            Table(
                'Pascal VOC 2007 + 2012 Detection',
                'Faster R-CNN, ResNet-50 C4, 24,000 iterations. AP50, AP (the '
                'mean of AP50 to AP95) and AP75 with 11 points, as in '
                "VOC2007; the others COCO's way.",
            ),
            **{
                'AP50': 'pascal_voc/AP50',
                'AP': 'pascal_voc/mAP',
                'AP75': 'pascal_voc/AP75',
                'COCO AP50': 'coco/bbox_mAP_50',
                'COCO AP': 'coco/bbox_mAP',
                'COCO AP75': 'coco/bbox_mAP_75',
            },
        ),
        published={MMSELFSUP: dict(AP50='77.64')},
        library='mmdet',
    ),
    mask_rcnn_fpn_1x=Benchmark(
        config='mmdetection/coco/mask-rcnn_r50_fpn_ms-1x_coco.py',
        data=_COCO,
        columns=_boxes_and_masks(
            Table(
                'COCO2017 Detection and Instance Segmentation',
                'Mask R-CNN, ResNet-50 FPN, 12 epochs.',
            )
        ),
        published={
            MMSELFSUP: {
                'mAP(Box)': '40.2',
                'AP50(Box)': '60.5',
                'AP75(Box)': '43.9',
                'mAP(Mask)': '36.3',
                'AP50(Mask)': '57.5',
                'AP75(Mask)': '38.8',
            }
        },
        library='mmdet',
    ),
    faster_rcnn_fpn_1x=Benchmark(
        config='mmdetection/coco/faster-rcnn_r50_fpn_ms-1x_coco.py',
        data=DatasetFolder('coco_boxes', 'coco'),
        columns=_boxes(
            Table(
                'COCO2017 Detection',
                'Faster R-CNN, ResNet-50 FPN, 12 epochs. For sets with boxes '
                "only; not on mmselfsup's benchmark page.",
            )
        ),
        library='mmdet',
    ),
    mask_rcnn_c4_1x=Benchmark(
        config='mmdetection/coco/mask-rcnn_r50-c4_ms-1x_coco.py',
        data=_COCO,
        columns=_boxes_and_masks(
            Table(
                'COCO2017 Detection and Instance Segmentation, C4',
                "Mask R-CNN, ResNet-50 C4, 12 epochs. Not on mmselfsup's "
                'benchmark page.',
            )
        ),
        library='mmdet',
    ),
    fcn_voc12aug=Benchmark(
        config='mmsegmentation/voc12aug/'
        'fcn_r50-d8_4xb4-20k_voc12aug-512x512.py',
        data=DatasetFolder('voc12aug', 'VOCdevkit/VOC2012'),
        columns=_named(
            Table(
                'Pascal VOC 2012 + Aug Segmentation',
                'FCN, ResNet-50 with dilation, 20,000 iterations.',
            ),
            mIoU='mIoU',
        ),
        published={MMSELFSUP: dict(mIoU='63.73')},
        library='mmseg',
    ),
    fcn_cityscapes=Benchmark(
        config='mmsegmentation/cityscapes/'
        'fcn_r50-d8_4xb2-40k_cityscapes-769x769.py',
        data=DatasetFolder('cityscapes', 'cityscapes'),
        columns=_named(
            Table(
                'Cityscapes Segmentation',
                'FCN, ResNet-50 with dilation, 40,000 iterations. '
                "mmselfsup's benchmark page names it, without numbers.",
            ),
            mIoU='mIoU',
        ),
        library='mmseg',
    ),
)


def known_datasets() -> dict[str, DatasetFolder]:
    """Return the datasets of all benchmarks by name."""
    return {
        benchmark.data.name: benchmark.data
        for benchmark in BENCHMARKS.values()
    }
