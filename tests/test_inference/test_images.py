"""Which images a name means; what is loaded is compared in test_apis.py."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swav_plugin.inference import images
from swav_plugin.inference.images import hash_pixels, list_images


def paths(*sources: object) -> list[str]:
    """List images by path."""
    return [sample['img_path'] for sample in list_images(sources)]  # type: ignore[arg-type]


def test_folder_pattern_and_list_mean_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sorted(map(str, folder.rglob('*.png')))
    assert len(expected) == 19
    assert paths(folder) == expected
    assert paths(f'{folder}/**/*.png') == expected
    assert paths(f'{folder}/a', str(folder / 'b')) == expected
    assert paths(*expected) == expected
    # Relative to its own folder, to the current one, and absolute.
    names = [str(Path(path).relative_to(folder)) for path in expected]
    for number, lines in enumerate(
        (names, [f'{name} 3' for name in names], expected)
    ):
        for where in (folder.parent, folder):
            monkeypatch.chdir(where)
            beside = tmp_path if where == folder else folder
            list_file = beside / f'{number}.txt'
            list_file.write_text('\n'.join(lines))
            found = paths(list_file)
            assert [str(Path(path).resolve()) for path in found] == expected
            list_file.unlink()


def test_pattern_leaves_out_what_is_not_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(
        images, 'print_log', lambda text, logger: logged.append(text)
    )
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.PNG')
    (tmp_path / 'a.json').write_text('{}')
    (tmp_path / 'c.png').mkdir()
    assert paths(f'{tmp_path}/*') == [str(tmp_path / 'a.PNG')]
    assert logged == [
        f'{tmp_path}/*: left out files that are not images: 1 .json'
    ]
    with pytest.raises(FileNotFoundError, match=r'no image matches .*1 \.jso'):
        paths(f'{tmp_path}/*.json')
    with pytest.raises(FileNotFoundError, match='that match: none'):
        paths(f'{tmp_path}/[x]*.png')


def test_a_file_may_look_like_a_pattern(tmp_path: Path) -> None:
    name = tmp_path / 'a[1]*.png'
    Image.new('RGB', (8, 8)).save(name)
    assert paths(name) == [str(name)]


def test_a_mixed_list_keeps_its_order(folder: Path) -> None:
    array = np.zeros((4, 4, 3), np.uint8)
    picture = Image.new('L', (4, 4))
    first = folder / 'b/01.png'
    samples = list_images([array, folder / 'a', picture, first])
    assert samples[0]['img'] is array
    assert [Path(each['img_path']).name for each in samples[1:-2]] == [
        f'{number:02}.png' for number in range(0, 19, 2)
    ]
    assert samples[-2]['img'] is picture
    assert samples[-1] == dict(img_path=str(first))


def test_missing_images_of_a_list_are_named(tmp_path: Path) -> None:
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    (tmp_path / 'list.txt').write_text('a.png\nb.png\nc.png\n')
    with pytest.raises(
        FileNotFoundError, match=r'2 of 3 images .*list\.txt .*first is .*/b\.'
    ):
        paths(tmp_path / 'list.txt')


def test_pixels_are_told_apart() -> None:
    array = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    hashes = {
        hash_pixels([dict(img=image)])
        for image in (array, array[::-1], array.reshape(2, 8, 3))
    }
    hashes.add(hash_pixels([dict(img_path='a.png')]))
    assert len(hashes) == 4
    same = [dict(img=array), dict(img=Image.fromarray(array))]
    assert len({hash_pixels([each]) for each in same}) == 1
