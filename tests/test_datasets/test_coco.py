"""Files in COCO's layout: what is computed, and what is refused."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swav_plugin.datasets.coco import complete_coco, read_coco
from swav_plugin.datasets.coco_masks import find_fault

BOX = [10, 20, 30, 40]
SQUARE = [[10, 20, 40, 20, 40, 60, 10, 60]]


def example() -> dict[str, Any]:
    """Two images of 160x120 with three objects, as COCO has them."""
    return dict(
        images=[
            dict(id=i, file_name=f'{i}.png', height=120, width=160)
            for i in (4, 9)
        ],
        categories=[dict(id=7, name='nut'), dict(id=3, name='bolt')],
        annotations=[
            dict(
                id=number + 1,
                image_id=image_id,
                category_id=category_id,
                bbox=list(BOX),
                area=1200,
                iscrowd=0,
                segmentation=copy.deepcopy(SQUARE),
            )
            for number, (image_id, category_id) in enumerate(
                [(4, 7), (9, 3), (9, 7)]
            )
        ],
    )


def without(key: str, *values: Any) -> dict[str, Any]:
    """The example; the first objects lack a key, or have these values."""
    content = example()
    entries = content['annotations']
    for entry in entries[: max(1, len(values))]:
        del entry[key]
    for entry, value in zip(entries, values):
        entry[key] = value
    return content


def values(content: dict, key: str) -> list:
    return [annotation[key] for annotation in content['annotations']]


def refused(content: dict, **options: Any) -> str:
    with pytest.raises(ValueError) as error:
        complete_coco(content, **options)
    return str(error.value)


def test_a_whole_file_stays_as_it_is(test_data: Path) -> None:
    content = example()
    assert complete_coco(content, needs_masks=True) == []
    assert content == example()
    root = test_data / 'coco_mini'
    for split in ('train2017', 'val2017'):
        content = read_coco(root / f'annotations/instances_{split}.json')
        before = copy.deepcopy(content)
        assert complete_coco(content, root / split, True, True) == []
        assert content == before


def test_what_is_computed_is_what_coco_has(test_data: Path) -> None:
    """Areas, boxes, sizes and ids of real objects, crowds among them."""
    pytest.importorskip('pycocotools')
    root = test_data / 'coco_mini'
    content = read_coco(root / 'annotations/instances_train2017.json')
    expected = copy.deepcopy(content)
    for image in content['images']:
        del image['height'], image['width']
    for annotation in content['annotations']:
        for key in ('area', 'bbox', 'id'):
            del annotation[key]
        if not annotation['iscrowd']:
            del annotation['iscrowd']
    notes = complete_coco(content, root / 'train2017', needs_masks=True)
    assert [note.partition(':')[0] for note in notes] == [
        'images without height and width, which are read from the files',
        'objects without bbox, which is computed',
        'objects without area, which is computed',
        'objects without iscrowd, taken for 0',
        'annotations without a whole number as id (all are numbered anew)',
    ]
    assert content['images'] == expected['images']
    assert values(content, 'iscrowd') == values(expected, 'iscrowd')
    assert values(content, 'id') == [
        *range(1, len(content['annotations']) + 1)
    ]
    for annotation, original in zip(
        content['annotations'], expected['annotations']
    ):
        # COCO rounds to 2 digits; its boxes of crowds end at the middle of
        # the last pixel.
        atol = 1 if original['iscrowd'] else 0.011
        np.testing.assert_allclose(
            annotation['bbox'], original['bbox'], rtol=0, atol=atol
        )
        # COCO's areas of crowds are not those of their pixels.
        if original['iscrowd']:
            continue
        # Parts of an object may overlap: their sum is the larger then.
        assert annotation['area'] >= original['area'] - 0.02
        if len(original['segmentation']) == 1:
            np.testing.assert_allclose(
                annotation['area'], original['area'], atol=0.02
            )


@pytest.mark.parametrize('area', [None, 0, -3, float('nan'), 'large', True])
def test_areas(area: Any) -> None:
    content = without('area', area, area)
    content['annotations'][1]['segmentation'] = [[0, 0, 10, 0, 10, 10]]
    del content['annotations'][1]['iscrowd']
    notes = complete_coco(content)
    assert values(content, 'area') == [1200, 50, 1200]
    assert 'objects without area, which is computed: 2, such as ' in notes[0]
    content = without('area', area)
    del content['annotations'][0]['segmentation']
    complete_coco(content)
    assert values(content, 'area') == [1200] * 3


@pytest.mark.parametrize(
    'ids, what',
    [
        ([0, 1, 2], 'with the id 0'),
        ([5, 5, 6], 'with the same id'),
        ([None, 1, 2], 'without a whole number as id'),
        (['a', 'b', 'c'], 'without a whole number as id'),
        ([1.5, 2, 3], 'without a whole number as id'),
        ([True, 2, 3], 'without a whole number as id'),
    ],
)
def test_ids_that_cannot_stay(ids: list, what: str) -> None:
    content = without('id', *ids)
    (note,) = complete_coco(content)
    assert note.startswith(f'annotations {what} (all are numbered anew): ')
    assert values(content, 'id') == [1, 2, 3]


@pytest.mark.parametrize('ids', [[7, 3, 5], [-1, 2, 3], [10**15, 2, 3]])
def test_ids_that_can_stay(ids: list) -> None:
    content = without('id', *ids)
    assert complete_coco(content) == []
    assert values(content, 'id') == ids


def test_objects_that_are_there_twice() -> None:
    content = example()
    content['annotations'].append(copy.deepcopy(content['annotations'][1]))
    assert 'duplicate annotations: 1, such as annotations[3]' in (
        refused(content)
    )


def test_crowds() -> None:
    content = without('iscrowd', None, 1)
    (note,) = complete_coco(content)
    assert note.startswith('objects without iscrowd, taken for 0: 1')
    assert values(content, 'iscrowd') == [0, 1, 0]
    for value in ('0', 2, []):
        assert 'an iscrowd that is neither 0 nor 1: 1, such as annot' in (
            refused(without('iscrowd', value))
        )


@pytest.mark.parametrize(
    'segmentation, fault',
    [
        (None, 'objects without segmentation, which Mask R-CNN needs'),
        ([], 'objects without segmentation, which Mask R-CNN needs'),
        ([1, 2, 3, 4, 5, 6], 'of one polygon [x1, y1, ...] (COCO has [['),
        ([[1, 2, 3, 4]], 'with fewer than three points in a polygon'),
        ([[1, 2, 3, 4, 5, 6, 7]], 'with fewer than three points in a polygon'),
        ([['1', '2']], 'that is neither a list of polygons nor a run-length'),
        ('polygon', 'that is neither a list of polygons nor a run-length'),
        (dict(counts=[3]), 'without size or counts'),
        (dict(size=[120, 160]), 'without size or counts'),
        (
            dict(size=[160, 120], counts='a'),
            'whose size differs from its image',
        ),
        (dict(size=[120, 160], counts=[0, 100]), 'whose runs do not add up'),
        (dict(size=[120, 160], counts='PPYo1'), 'whose runs do not add up'),
        (dict(size=[120, 160], counts=[None]), 'whose runs do not add up'),
    ],
)
def test_masks(segmentation: Any, fault: str) -> None:
    """Boxes alone do not care."""
    content = without('segmentation', segmentation)
    assert f'{fault}' in refused(content, needs_masks=True)
    content = without('segmentation', segmentation)
    assert complete_coco(content) == []
    del content['annotations'][0]['bbox']
    assert (
        'without a bbox of four numbers: 1, such as annotations[0], None'
        in (refused(content))
    )


def test_compressed_masks_are_read_as_pycocotools_writes_them() -> None:
    coder = pytest.importorskip('pycocotools.mask')
    rng = np.random.default_rng(0)
    for share in (0, 0.001, 0.3, 0.999, 1):
        mask = rng.random((120, 160)) < share
        code = coder.encode(np.asfortranarray(mask.astype(np.uint8)))
        counts = code['counts'].decode()
        assert find_fault(dict(code, counts=counts), (120, 160)) is None
        assert find_fault(dict(code, counts=counts[:-1]), (120, 160))


@pytest.mark.parametrize(
    'boxes, fault',
    [
        ([None], 'objects without a bbox of four numbers'),
        ([[1, 2, 3]], 'objects without a bbox of four numbers'),
        ([['1', 2, 3, 4]], 'objects without a bbox of four numbers'),
        ([[1, 2, float('nan'), 4]], 'objects without a bbox of four numbers'),
        # As corners.
        (
            [[100, 60, 150, 100], [90, 50, 130, 110], [10, 10, 20, 20]],
            'boxes outside their image that look like [x1, y1, x2, y2] '
            "(COCO's are [x, y, width, height]): 2, such as annotations[0], "
            '[100, 60, 150, 100] in an image of 160x120',
        ),
        ([[170, 5, 10, 10]], 'boxes outside their image: 1, such as '),
        ([[5, -30, 10, 10]], 'boxes outside their image: 1, such as '),
        # As shares of the image.
        (
            [[0.1, 0.1, 0.5, 0.4]] * 3,
            'boxes smaller than a pixel (coordinates are pixels, not shares',
        ),
    ],
)
def test_boxes(boxes: list, fault: str) -> None:
    content = without('bbox', *boxes)
    for annotation in content['annotations']:
        del annotation['segmentation']
    assert fault in refused(content)


def test_boxes_that_can_be_used() -> None:
    content = without('bbox', [150, 100, 30, 10], [5, 5, 0, 9], [0, 0, 160, 9])
    assert complete_coco(content) == [
        'boxes that reach over the edge of their image: 1, such as '
        'annotations[0], [150, 100, 30, 10] in an image of 160x120',
        'boxes smaller than a pixel, which training leaves out and '
        'evaluation counts as missed: 1, such as annotations[1], '
        '[5, 5, 0, 9] in an image of 160x120',
    ]
    # Rounding is no fault.
    content = without('bbox', [0.4, 0.4, 160, 120], [-0.5, 0, 9, 9])
    assert complete_coco(content) == []


def test_a_few_strange_cases_do_not_stop_thousands() -> None:
    """As COCO itself has a few."""
    content = example()
    (first, *_) = content['annotations']
    strange = dict(first, bbox=[300, 5, 9, 9], segmentation=[[1, 2, 3, 4]])
    content['annotations'] = [
        dict(first, id=number) for number in range(1, 2000)
    ]
    content['annotations'].append(dict(strange, id=2000))
    assert [
        note.partition(':')[0]
        for note in complete_coco(content, needs_masks=True)
    ] == [
        'objects with a segmentation with fewer than three points in a '
        'polygon',
        'boxes outside their image',
    ]


@pytest.mark.parametrize(
    'key, change, fault',
    [
        ('images', dict(id=None), 'images without id: 1, such as images[0]'),
        (
            'images',
            dict(id=9),
            'images with the same id: 1, such as images[1]',
        ),
        (
            'images',
            dict(id='4'),
            "images with both text and number ids: 1, such as id '4'",
        ),
        ('images', dict(file_name=''), 'images without file_name: 1'),
        ('images', dict(file_name=3), 'images without file_name: 1'),
        ('categories', dict(id=None), 'categories without id: 1'),
        ('categories', dict(id=3), 'categories with the same id: 1'),
        ('categories', dict(name=None), 'categories without name: 1'),
        ('categories', dict(name='bolt'), 'categories of the same name: 1'),
        (
            'annotations',
            dict(category_id=0),
            'annotations of an image or a category that is not listed: 1, '
            'such as annotations[0] of image 4 and category 0',
        ),
        ('annotations', dict(image_id='4'), "image '4' and category 7"),
        ('annotations', dict(image_id=None), 'image None and category 7'),
        ('annotations', dict(category_id=[7]), 'image 4 and category [7]'),
    ],
)
def test_ids_and_names(key: str, change: dict, fault: str) -> None:
    content = example()
    content[key][0].update(change)
    assert fault in refused(content)


@pytest.mark.parametrize('key', ['images', 'annotations', 'categories'])
def test_empty_lists(key: str) -> None:
    assert refused(example() | {key: []}) == f'the list of {key} is empty.'


def test_all_reasons_are_told_at_once() -> None:
    content = without('area', None)
    content['annotations'][1]['category_id'] = 0
    content['images'][0]['file_name'] = None
    assert refused(content) == (
        'images without file_name: 1, such as images[0]; annotations of an '
        'image or a category that is not listed: 1, such as annotations[1] of '
        'image 9 and category 0; objects without area, which is computed: 1, '
        'such as annotations[0].'
    )


@pytest.mark.parametrize('given', [None, 0, -5, '120', float('nan')])
def test_sizes_come_from_the_pictures(given: Any, tmp_path: Path) -> None:
    content = example()
    for image in content['images']:
        image['height'] = given
    Image.new('RGB', (160, 120)).save(tmp_path / '4.png')
    # Turned by its EXIF orientation, as mmdet loads it.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (120, 160)).save(tmp_path / '9.png', exif=exif)
    (note,) = complete_coco(content, tmp_path)
    assert note.startswith('images without height and width, which are')
    assert [image['height'] for image in content['images']] == [120, 120]
    assert [image['width'] for image in content['images']] == [160, 160]
    del content['images'][0]['width']
    (tmp_path / '4.png').write_text('no picture')
    assert refused(content, image_root=tmp_path) == (
        'images without height and width whose pictures cannot be read '
        f'either: 1, such as {tmp_path}/4.png.'
    )
    content['images'][0].update(height=120, width=160)
    complete_coco(content, tmp_path)  # which need not look at it
    assert refused(content, image_root=tmp_path, checks_sizes=True) == (
        f'pictures that cannot be read: 1, such as {tmp_path}/4.png.'
    )


@pytest.mark.parametrize(
    'text, fault',
    [
        ('', 'is not a JSON file'),
        ('{"images": [', 'is not a JSON file'),
        ('[' * 200_000, 'is not a JSON file'),
        ('[]', "has no 'images'"),
        ('3', "has no 'images'"),
        ('{"images": [], "annotations": []}', "has no 'categories'"),
        ('{"images": {}}', "'images' is not a list of objects"),
        ('{"images": [3]}', "'images' is not a list of objects"),
    ],
)
def test_files_that_are_something_else(
    text: str, fault: str, tmp_path: Path
) -> None:
    path = tmp_path / 'a.json'
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        read_coco(path)
    assert str(error.value).startswith(f'{path}') and fault in str(error.value)
    path.write_bytes(b'\xef\xbb\xbf' + json.dumps(example()).encode())
    assert read_coco(path) == example()
