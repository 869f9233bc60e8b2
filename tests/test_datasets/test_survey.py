"""What a folder of images is like, from their headers."""

from pathlib import Path

import pytest
from PIL import Image

from swav_plugin.datasets.survey import survey_images


def _write(folder: Path, *sizes: tuple[int, int], mode: str = 'RGB') -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, size in enumerate(sizes):
        Image.new(mode, size).save(folder / f'{i}.png')


def test_sizes_classes_and_number(tmp_path: Path) -> None:
    _write(tmp_path / 'a', (40, 20), (40, 60), (40, 80))
    _write(tmp_path / 'b', (200, 100), (40, 50))
    found = survey_images(str(tmp_path))
    assert (found.num_images, found.num_opened) == (5, 5)
    # Shorter edges 20, 40, 40, 40, 100: the lower quartile.
    assert found.short_edge == 40
    pixels = (40 * 20 + 40 * 60 + 40 * 80 + 200 * 100 + 40 * 50) / 5
    assert found.mean_pixels == pixels
    assert found.num_classes == 2
    assert not found.is_gray


def test_an_image_outside_class_folders_means_no_classes(
    tmp_path: Path,
) -> None:
    _write(tmp_path / 'a', (8, 8))
    assert survey_images(str(tmp_path)).num_classes is None  # one is none
    _write(tmp_path / 'b', (8, 8))
    assert survey_images(str(tmp_path)).num_classes == 2
    _write(tmp_path, (8, 8))
    assert survey_images(str(tmp_path)).num_classes is None


@pytest.mark.parametrize('mode', ['L', '1', 'LA', 'I;16'])
def test_gray_images(tmp_path: Path, mode: str) -> None:
    _write(tmp_path, (8, 8), (9, 9), mode=mode)
    assert survey_images(str(tmp_path)).is_gray
    _write(tmp_path / 'more', (8, 8))
    assert not survey_images(str(tmp_path)).is_gray


def test_a_sample_is_spread_over_the_folder(tmp_path: Path) -> None:
    _write(tmp_path / 'a', *[(8, 8)] * 50)
    _write(tmp_path / 'b', *[(16, 16)] * 50)
    found = survey_images(str(tmp_path), max_opened=10)
    assert (found.num_images, found.num_opened) == (100, 10)
    assert found.mean_pixels == (64 + 256) / 2


def test_what_cannot_be_opened_is_counted(tmp_path: Path) -> None:
    _write(tmp_path, (8, 8))
    (tmp_path / 'broken.jpg').write_bytes(b'text')
    assert survey_images(str(tmp_path)).num_unreadable == 1
    (tmp_path / '0.png').unlink()
    with pytest.raises(ValueError, match='none of the 1 images .* be opened'):
        survey_images(str(tmp_path))
