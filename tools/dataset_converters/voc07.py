"""Write the label files that the SVM tools of the fair-SSL benchmark read.

    voc07.py data/VOCdevkit/VOC2007

Our own svm_voc07.py does not need them: it reads the lists of VOC2007. These
files have its labels and low-shot samples for other tools, under ROOT:

    Lists/trainvaltest.txt
    SVMLabels/{train,test}_{images,labels}.npy, {train,test}_targets.json
    SVMLabels/low_shot/labels/train_targets_sample{1-5}_k{k}.{npy,json}

Labels are 1 (present), 0 (absent) and -1 (difficult, or not in the sample).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from swav_plugin.checkpoints.atomic import open_atomic, write_atomic
from swav_plugin.compat.arguments import Parser
from swav_plugin.datasets.voc07 import CLASSES, VOC07
from swav_plugin.evaluation.svm_samples import draw_samples

LOW_SHOT_K = (1, 2, 4, 8, 16, 32, 64, 96)


def put_array(path: Path, array: np.ndarray) -> None:
    """Write an array, whole or not at all."""
    with open_atomic(path) as file:
        np.save(file, array)


def put_marks(
    array_file: Path, json_file: Path, names: list[str], marks: np.ndarray
) -> None:
    """Write (N, 20) marks as an array and, by names, as JSON."""
    put_array(array_file, marks.astype(np.int32))
    by_name = {
        name: dict(zip(CLASSES, row.tolist()))
        for name, row in zip(names, marks)
    }
    write_atomic(json_file, json.dumps(by_name))


def sample_marks(
    marks: np.ndarray, k: int, num_samples: int, seed: int
) -> np.ndarray:
    """Return the marks of the low-shot samples that `VOC07SVM` draws.

    (num_samples, N, 20), from the (N, 20) marks of all images.
    """
    drawn = draw_samples(torch.from_numpy(marks), k, num_samples, seed)
    samples = np.full((num_samples, *marks.shape), -1, np.int32)
    for sample, rows_of_classes in zip(samples, drawn.numpy()):
        for column, rows in enumerate(rows_of_classes):
            sample[rows, column] = marks[rows, column]
    return samples


def convert(
    root: Path,
    splits: tuple[str, str],
    k_values: list[int],
    num_samples: int,
    seed: int,
) -> None:
    """Write all files."""
    listed = []
    for split, part in zip(splits, ('train', 'test')):
        dataset = VOC07(str(root), split)
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        marks = np.stack([info['gt_label'] for info in infos])
        paths = [info['img_path'] for info in infos]
        names = [Path(path).stem for path in paths]
        listed += [Path(path).name for path in paths]
        folder = root / 'SVMLabels'
        put_array(folder / f'{part}_images.npy', np.array(paths))
        put_marks(
            folder / f'{part}_labels.npy',
            folder / f'{part}_targets.json',
            names,
            marks,
        )
        print(f'{folder}/{part}_*: {len(names):,} images')
        if part == 'train':
            for k in k_values:
                samples = sample_marks(marks, k, num_samples, seed)
                for number, sample in enumerate(samples, start=1):
                    stem = f'train_targets_sample{number}_k{k}'
                    file = folder / f'low_shot/labels/{stem}'
                    put_marks(
                        Path(f'{file}.npy'),
                        Path(f'{file}.json'),
                        names,
                        sample,
                    )
            print(
                f'{folder}/low_shot/labels: {num_samples} samples with '
                f'seed {seed} for each k of {k_values}'
            )
    write_atomic(
        root / 'Lists/trainvaltest.txt',
        ''.join(f'{name}\n' for name in listed),
    )
    print(f'{root}/Lists/trainvaltest.txt: {len(listed):,} images')


def main() -> None:
    """Run the command."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('root', metavar='ROOT', type=Path)
    parser.add_argument(
        '--splits',
        nargs=2,
        default=['trainval', 'test'],
        metavar=('TRAIN', 'TEST'),
    )
    parser.add_argument('--k', type=int, nargs='*', default=[*LOW_SHOT_K])
    parser.add_argument('--num-samples', type=int, default=5)
    parser.add_argument(
        '--seed', type=int, default=0, help='that of VOC07SVM in the config'
    )
    args = parser.parse_args()
    try:
        convert(
            args.root, tuple(args.splits), args.k, args.num_samples, args.seed
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
