"""extract_features: the benchmark's numbers, in memory and in files.

Sources of images, and torchvision's features, are in test_apis.py.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from swav_plugin.datasets.transforms import UnreadableImage, read_rgb
from swav_plugin.engine.errors import UsageError
from swav_plugin.evaluation import FeatureSet, Labels, Result
from swav_plugin.inference import files as files_module
from swav_plugin.inference import parts
from swav_plugin.inference.features import extract_features, read_features
from swav_plugin.inference.images import LoadedImages, list_images
from swav_plugin.models import SwAV
from tests.conftest import REPO_ROOT

KNN = REPO_ROOT / 'configs/benchmarks/classification/knn_imagenet.py'
SMALL: dict[str, Any] = dict(size=32, batch_size=1)


class Capture:
    """An evaluator that keeps what it is given."""

    features = None
    seen: list[torch.Tensor] = []

    def check(self, bank: Labels, test: Labels) -> None:
        """Take anything."""

    def evaluate(self, bank: FeatureSet, test: FeatureSet) -> list[Result]:
        """Keep the features of the test images."""
        self.seen.append(test.features['avgpool'][:].clone())
        return []


def test_features_are_those_of_the_knn_benchmark(
    folder: Path, tmp_path: Path
) -> None:
    config = Config.fromfile(KNN)
    config.merge_from_dict(
        {
            'model.backbone.depth': 18,
            'model.backbone.stem_channels': 8,
            'model.backbone.base_channels': 8,
            'work_dir': str(tmp_path),
            'test_cfg.dtype': 'float32',
            'test_cfg.cache_dir': None,
            'log_level': 'WARNING',
        }
    )
    config.test_evaluator = [dict(type=Capture)]
    for loader in (config.test_dataloader, config.test_cfg.bank_dataloader):
        loader.batch_size, loader.num_workers = 8, 0
        loader.dataset.data_root = str(folder)
    runner = Runner.from_cfg(config)
    runner.test()
    found, _ = extract_features(runner.model.eval(), folder, batch_size=8)
    assert torch.equal(found, Capture.seen[-1])


def test_any_kind_of_file_is_read_as_by_the_loader(
    swav: SwAV, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(256, size=(40, 60, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees; stored pixels count
    images = {
        'cmyk.jpg': Image.fromarray(pixels, 'CMYK'),
        'gray.png': Image.fromarray(pixels[..., 0]),
        'turned.jpg': Image.fromarray(pixels[..., :3]),
        'alpha.png': Image.fromarray(pixels, 'RGBA'),
    }
    for name, image in images.items():
        image.save(tmp_path / name, exif=exif)
    expected, _ = extract_features(
        swav, [read_rgb(tmp_path / name) for name in images], **SMALL
    )
    found, _ = extract_features(
        swav, [tmp_path / name for name in images], **SMALL
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize('suffix', ['.npy', '.safetensors', '.parquet'])
def test_files_hold_what_is_returned(
    suffix: str, swav: SwAV, folder: Path, tmp_path: Path
) -> None:
    if suffix == '.parquet':
        pytest.importorskip('pyarrow')
    expected = extract_features(swav, folder, **SMALL)
    out = tmp_path / f'new/features{suffix}'
    returned = extract_features(swav, folder, out=out, **SMALL)
    assert len(expected.files) == 19 > parts._BATCHES
    for found in (returned, read_features(out)):
        assert torch.equal(found.features, expected.features)
        assert found.files == expected.files
        found.features[0] = 0  # is not written to the file
    assert torch.equal(read_features(out).features, expected.features)
    names = [] if suffix == '.parquet' else ['features.txt']
    assert sorted(os.listdir(out.parent)) == sorted([out.name, *names])
    with pytest.raises(UsageError, match=r'features\..* exists; .*overwrite'):
        extract_features(swav, folder, out=out, **SMALL)
    files = expected.files[:2]
    extract_features(swav, files, out=out, overwrite=True, **SMALL)
    assert read_features(out).files == files


def test_their_own_libraries_read_them(
    swav: SwAV, folder: Path, tmp_path: Path
) -> None:
    safetensors = pytest.importorskip('safetensors.torch')
    parquet = pytest.importorskip('pyarrow.parquet')
    expected, files = extract_features(swav, folder, **SMALL)
    for name in ('a.npy', 'b.safetensors', 'c.parquet'):
        extract_features(swav, folder, out=tmp_path / name, **SMALL)
    found = np.load(tmp_path / 'a.npy')
    assert found.dtype == np.float32
    assert np.array_equal(found, expected.numpy())
    tensors = safetensors.load_file(tmp_path / 'b.safetensors')
    assert [*tensors] == ['features']
    assert torch.equal(tensors['features'], expected)
    assert (tmp_path / 'b.txt').read_text() == '\n'.join([*files, ''])
    table = parquet.read_table(tmp_path / 'c.parquet').to_pydict()
    assert table == dict(file=files, features=expected.tolist())


class Stopped(Exception):
    """In place of SIGKILL."""


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stop a run when so many images are loaded; list those that are."""
    loaded: list[int] = []
    load = LoadedImages.__getitem__

    def note(self: LoadedImages, index: int) -> Any:
        if len(loaded) == count:
            raise Stopped
        loaded.append(index)
        return load(self, index)

    monkeypatch.setattr(LoadedImages, '__getitem__', note)
    return loaded


def test_a_run_goes_on_where_it_ended(
    swav: SwAV,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = extract_features(swav, folder, **SMALL)
    out = tmp_path / 'features.npy'
    with monkeypatch.context() as patch:
        stop_after(18, patch)
        with pytest.raises(Stopped):
            extract_features(swav, folder, out=out, **SMALL)
    assert os.listdir(tmp_path) == ['.features.npy.parts']
    # Other options do not go on with these parts, nor remove them.
    for changes in (dict(layer='embedding'), dict(size=48)):
        with pytest.raises(UsageError, match='parts of another run that has'):
            extract_features(swav, folder, out=out, **{**SMALL, **changes})
    with pytest.raises(UsageError, match='images 19, not 3'):
        extract_features(swav, expected.files[:3], out=out, **SMALL)
    with pytest.raises(UsageError, match='another network or other images'):
        extract_features(swav, expected.files[::-1], out=out, **SMALL)
    loaded = stop_after(100, monkeypatch)
    found = extract_features(swav, folder, out=out, **SMALL)
    assert loaded == [16, 17, 18]
    assert torch.equal(found.features, expected.features)
    assert found.files == expected.files
    assert sorted(os.listdir(tmp_path)) == ['features.npy', 'features.txt']


def test_a_run_without_any_part_is_in_nobodys_way(
    swav: SwAV,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / 'features.npy'
    with monkeypatch.context() as patch:
        stop_after(0, patch)
        with pytest.raises(Stopped):
            extract_features(swav, folder, out=out, **SMALL)
    images = dict(size=48, batch_size=1)
    found = extract_features(swav, folder, out=out, **images)
    assert torch.equal(
        found.features, extract_features(swav, folder, **images).features
    )


@pytest.mark.parametrize('name', ['size', 'batch_size'])
@pytest.mark.parametrize('value', [0, -1, 32.5])
def test_numbers_out_of_range_are_told(
    name: str, value: Any, swav: SwAV, folder: Path
) -> None:
    with pytest.raises(ValueError, match=f'got {name}={value}; give a whole'):
        extract_features(swav, folder, **{**SMALL, name: value})


def test_models_of_others_are_told_apart(folder: Path) -> None:
    model = torchvision.models.resnet18().eval()
    with pytest.raises(
        ValueError,
        match='this ResNet has no backbone and no data_preprocessor; build',
    ):
        extract_features(model, folder, **SMALL)


def test_parts_of_another_run_can_be_removed(
    swav: SwAV,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / 'features.npy'
    with monkeypatch.context() as patch:
        stop_after(18, patch)
        with pytest.raises(Stopped):
            extract_features(swav, folder, out=out, **SMALL)
    images = dict(size=48, batch_size=1)
    expected = extract_features(swav, folder, **images)
    found = extract_features(swav, folder, out=out, overwrite=True, **images)
    assert torch.equal(found.features, expected.features)


def test_two_runs_do_not_write_the_same_file(
    swav: SwAV, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'features.npy'
    job = parts.Extraction(list_images(folder))
    with parts.open_parts(out, swav, job):
        with pytest.raises(UsageError, match='another process is computing'):
            extract_features(swav, folder, out=out, **SMALL)


@pytest.mark.parametrize('with_file', [False, True])
def test_unreadable_images_are_left_out_only_if_asked_to(
    with_file: bool, swav: SwAV, with_broken: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'features.npy' if with_file else None
    options = dict(out=out, size=32, batch_size=4)
    with pytest.raises(UnreadableImage, match='00x.png: not an image'):
        extract_features(swav, with_broken, **options)
    found = extract_features(
        swav, with_broken, skip_unreadable=True, **options
    )
    whole = [
        path for path in sorted(with_broken.iterdir()) if 'x' not in path.name
    ]
    assert found.files == list(map(str, whole))
    alone = extract_features(swav, whole, **SMALL)
    torch.testing.assert_close(
        found.features, alone.features, rtol=0, atol=1e-5
    )
    if with_file:
        listed = (tmp_path / 'features.unreadable.txt').read_text()
        assert [line.partition(': ')[0] for line in listed.splitlines()] == [
            str(with_broken / f'{number:02}x.png') for number in (0, 3, 17)
        ]


@pytest.mark.parametrize('with_file', [False, True])
def test_many_unreadable_images_are_an_error(
    with_file: bool, swav: SwAV, with_broken: Path, tmp_path: Path
) -> None:
    (with_broken / '99.png').write_bytes(b'')
    with pytest.raises(
        ValueError, match='4 of 32 images cannot be read, more than the 10%'
    ):
        extract_features(
            swav,
            with_broken,
            out=tmp_path / 'features.npy' if with_file else None,
            skip_unreadable=True,
            **SMALL,
        )
    assert not (tmp_path / 'features.npy').exists()


def test_reasons_outlive_a_stop(
    swav: SwAV,
    with_broken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: dict[str, Any] = dict(out=tmp_path / 'features.npy', **SMALL)
    with monkeypatch.context() as patch:
        stop_after(20, patch)
        with pytest.raises(Stopped):
            extract_features(
                swav, with_broken, skip_unreadable=True, **options
            )
    with pytest.raises(UnreadableImage, match='x.png: not an image'):
        extract_features(swav, with_broken, **options)
    found = extract_features(
        swav, with_broken, skip_unreadable=True, **options
    )
    assert len(found.files) == 28
    text = (tmp_path / 'features.unreadable.txt').read_text()
    assert len(text.splitlines()) == 3
    # The list goes when it is no longer true.
    extract_features(swav, found.files, overwrite=True, **options)
    assert not (tmp_path / 'features.unreadable.txt').exists()


def test_a_whole_part_may_be_unreadable(
    swav: SwAV, folder: Path, tmp_path: Path
) -> None:
    image = (folder / 'a/00.png').read_bytes()
    for number in range(90):
        is_broken = 8 <= number < 16
        (tmp_path / f'{number:02}.png').write_bytes(
            b'' if is_broken else image
        )
    found = extract_features(
        swav,
        tmp_path,
        out=tmp_path / 'features.npy',
        skip_unreadable=True,
        **SMALL,
    )
    assert found.features.shape == (82, 64)
    assert len((tmp_path / 'features.unreadable.txt').read_bytes()) > 0


def test_a_stop_while_writing_leaves_nothing_in_the_way(
    swav: SwAV,
    with_broken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: dict[str, Any] = dict(
        out=tmp_path / 'features.npy', skip_unreadable=True, **SMALL
    )

    def stop(*args: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(files_module, '_write_rows', stop)
        with pytest.raises(Stopped):
            extract_features(swav, with_broken, **options)
    names = {'.features.npy.parts', 'with_broken'}
    assert {*os.listdir(tmp_path)} == names
    loaded = stop_after(0, monkeypatch)
    assert len(extract_features(swav, with_broken, **options).files) == 28
    assert not loaded


def test_the_list_of_images_is_never_replaced(
    swav: SwAV, folder: Path, tmp_path: Path
) -> None:
    text = '\n'.join(f'{path} 1' for path in sorted(folder.rglob('*.png')))
    (tmp_path / 'a.txt').write_text(text)
    with pytest.raises(UsageError, match='would replace the list of images'):
        extract_features(
            swav,
            tmp_path / 'a.txt',
            out=tmp_path / 'a.npy',
            overwrite=True,
            **SMALL,
        )
    assert (tmp_path / 'a.txt').read_text() == text


def test_outputs_that_cannot_be_written_are_told_first(
    swav: SwAV,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop_after(0, monkeypatch)
    (tmp_path / 'a.npy').mkdir()
    broken_name = tmp_path / 'a\nb.png'
    broken_name.write_bytes((folder / 'a/00.png').read_bytes())
    for out, images, message in (
        ('a.csv', folder, r"ends with '.csv'; .*\.npy, \.safetensors, \.parq"),
        ('a.npy', folder, 'is a folder'),
        ('b.npy', broken_name, 'has a line break'),
    ):
        with pytest.raises(UsageError, match=message):
            extract_features(swav, images, out=tmp_path / out, **SMALL)
    monkeypatch.setattr(files_module, 'find_spec', lambda name: None)
    with pytest.raises(UsageError, match=r'pip install .swav_plugin\[parq'):
        extract_features(swav, folder, out=tmp_path / 'a.parquet', **SMALL)


def test_half_precision_is_close(swav: SwAV, folder: Path) -> None:
    expected, _ = extract_features(swav, folder, layer='embedding', size=32)
    found, _ = extract_features(
        swav, folder, layer='embedding', size=32, amp=True
    )
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    # bfloat16 has 8 bits; a dozen layers add up, on vectors of norm 1.
    assert (found * expected).sum(1).min() > 0.98
    torch.testing.assert_close(
        found.norm(dim=1), torch.ones(19), rtol=0, atol=1e-5
    )


def test_random_numbers_stay(swav: SwAV, folder: Path) -> None:
    state = torch.get_rng_state()
    extract_features(swav, folder, size=32, num_workers=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_features_that_are_not_finite_are_refused(folder: Path) -> None:
    class Broken(torch.nn.Module):
        backbone = torch.nn.Flatten()
        data_preprocessor = staticmethod(
            lambda data: dict(inputs=data['inputs'] * float('nan'))
        )

    with pytest.raises(ValueError, match='avgpool is not finite .*00.png'):
        extract_features(Broken().eval(), folder, **SMALL)
