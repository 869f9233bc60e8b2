"""Read files in COCO's layout, and fill in what files of one's own lack.

COCO's own files are whole. What pycocotools and mmdet need beyond boxes and
classes is often missing elsewhere: they then stop in the middle of a run, or
score wrong. Everything that trains on such a file, tests on it or checks it
reads it here; the file itself is never changed.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .coco_masks import THIN, area_of, box_of, find_fault, is_numbers
from .transforms.pillow_files import open_image

_EXIF_ORIENTATION = 0x0112
# COCO itself has a few such cases among 860,000 objects.
_TOLERATED_SHARE = 0.001


def read_coco(
    path: Path, keys: Sequence[str] = ('images', 'annotations', 'categories')
) -> dict:
    """Read a JSON file in COCO's layout.

    Args:
        path: The file.
        keys: The lists that it must have.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is cut off, or lacks a list.
    """
    if not path.is_file():
        raise FileNotFoundError(f'there is no {path}.')
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is not a JSON file: {error}.') from error
    for key in keys:
        if not isinstance(content, dict) or key not in content:
            raise ValueError(f'{path} has no {key!r}.')
        if not isinstance(content[key], list) or not all(
            isinstance(entry, dict) for entry in content[key]
        ):
            raise ValueError(f'{path}: {key!r} is not a list of objects.')
    return content


class Findings:
    """Cases of each kind: how many, and the first one."""

    def __init__(self) -> None:
        self._cases: dict[str, list[Any]] = {}

    def add(self, kind: str, case: str, count: int = 1) -> None:
        """Count cases of a kind."""
        self._cases.setdefault(kind, [0, case])[0] += count

    def lines(self) -> list[str]:
        """Say each kind in a line.

        >>> findings = Findings()
        >>> findings.add('annotations without bbox', 'annotations[3]')
        >>> findings.lines()
        ['annotations without bbox: 1, such as annotations[3]']
        """
        return [
            f'{kind}: {count:,}, such as {first}'
            for kind, (count, first) in self._cases.items()
        ]


def complete_coco(
    content: dict,
    image_root: str | Path | None = None,
    needs_masks: bool = False,
    checks_sizes: bool = False,
) -> list[str]:
    """Fill in what can be computed; refuse what cannot be used.

    Computed are areas, from masks or boxes; boxes, from masks; `iscrowd`;
    heights and widths, from the pictures; and, where one is missing, doubled
    or 0, which pycocotools takes for no object, all ids of annotations.

    Args:
        content: What `read_coco` returned; changed in place.
        image_root: Folder of the images; None leaves unknown sizes out.
        needs_masks: Every object must have a mask.
        checks_sizes: Compare all heights and widths with the pictures.

    Returns:
        What was computed, and what is odd but usable, a line for each kind.

    Raises:
        ValueError: The content cannot be used; the message has every reason,
            and the notes.
    """
    for key in ('images', 'annotations', 'categories'):
        if not content[key]:
            raise ValueError(f'the list of {key} is empty.')
    check = _Completion(content, needs_masks)
    check.index()
    if image_root is not None:
        check.fill_sizes(Path(image_root), checks_sizes)
    for number, annotation in enumerate(content['annotations']):
        check.fill_annotation(f'annotations[{number}]', annotation)
    check.check_masks()
    check.check_boxes()
    check.fill_ids()
    notes = check.notes.lines()
    problems = check.problems.lines()
    if problems:
        raise ValueError('; '.join(problems + notes) + '.')
    return notes


@dataclass
class _Completion:
    """One run of `complete_coco`.

    Args:
        content: What the file holds.
        needs_masks: Every object must have a mask.
        images: By id.
        category_ids: Ids of all categories.
        thin: Cases of a mask that encloses nothing.
        boxes: Case, then left, top, width, height of each box and width and
            height of its image.
        problems: What cannot be used.
        notes: What was computed, or is odd.
    """

    content: dict
    needs_masks: bool
    images: dict[Any, dict] = field(default_factory=dict)
    category_ids: set[Any] = field(default_factory=set)
    thin: list[str] = field(default_factory=list)
    boxes: list[tuple] = field(default_factory=list)
    problems: Findings = field(default_factory=Findings)
    notes: Findings = field(default_factory=Findings)

    def index(self) -> None:
        """Index images and categories; each needs an id and a name."""
        self.images = self._by_id('images', 'file_name')
        self.category_ids = {*self._by_id('categories', 'name')}
        names: set[Any] = set()
        for category in self.content['categories']:
            name = str(category.get('name'))
            if name in names:
                self.problems.add('categories of the same name', repr(name))
            names.add(name)

    def _by_id(self, key: str, text: str) -> dict[Any, dict]:
        found: dict[Any, dict] = {}
        kinds = {type(entry.get('id')) for entry in self.content[key]}
        if {int, str} <= kinds:
            self.problems.add(
                f'{key} with both text and number ids',
                next(
                    f'id {entry["id"]!r}'
                    for entry in self.content[key]
                    if isinstance(entry.get('id'), str)
                ),
            )
        for number, entry in enumerate(self.content[key]):
            case = f'{key}[{number}]'
            if not isinstance(entry.get('id'), (int, str)):
                self.problems.add(f'{key} without id', case)
                continue
            if entry['id'] in found:
                self.problems.add(
                    f'{key} with the same id', f'{case}, id {entry["id"]!r}'
                )
            if not isinstance(entry.get(text), str) or not entry[text]:
                self.problems.add(f'{key} without {text}', case)
            found[entry['id']] = entry
        return found

    def fill_sizes(self, root: Path, checks_all: bool) -> None:
        """Give each image its height and width, as it will be loaded."""
        wanted = [
            image
            for image in self.images.values()
            if isinstance(image.get('file_name'), str)
            and (checks_all or not _has_size(image))
        ]
        paths = [root / image['file_name'] for image in wanted]
        with ThreadPoolExecutor(16) as pool:
            sizes = list(pool.map(picture_size, paths))
        for image, path, size in zip(wanted, paths, sizes):
            if size is None and _has_size(image):
                if path.is_file():  # else it is missing, which others say
                    self.problems.add(
                        'pictures that cannot be read', str(path)
                    )
            elif size is None:
                self.problems.add(
                    'images without height and width whose pictures cannot '
                    'be read either',
                    str(path),
                )
            elif not _has_size(image):
                image.update(size)
                self.notes.add(
                    'images without height and width, which are read from '
                    'the files',
                    str(path),
                )
            elif (size['height'], size['width']) != (
                image['height'],
                image['width'],
            ):
                self.problems.add(
                    'images whose size differs from the file',
                    f'{path} with {size["width"]}x{size["height"]}, not '
                    f'{image["width"]}x{image["height"]}',
                )

    def fill_annotation(self, case: str, annotation: dict) -> None:
        """Complete one object: box, area, crowd."""
        image_id = annotation.get('image_id')
        category_id = annotation.get('category_id')
        image = self.images.get(image_id) if _is_id(image_id) else None
        if (
            image is None
            or not _is_id(category_id)
            or category_id not in self.category_ids
        ):
            self.problems.add(
                'annotations of an image or a category that is not listed',
                f'{case} of image {image_id!r} and category {category_id!r}',
            )
            return
        mask = self._mask(case, annotation, image)
        if annotation.get('bbox') is None and mask is not None:
            annotation['bbox'] = box_of(mask)
            self.notes.add('objects without bbox, which is computed', case)
        box: Any = annotation.get('bbox')
        if not is_numbers(box) or len(box) != 4:
            self.problems.add(
                'objects without a bbox of four numbers', f'{case}, {box!r}'
            )
            return
        if _has_size(image):
            size = (image['width'], image['height'])
            self.boxes.append((case, *box, *size))
        area: Any = annotation.get('area')
        if not is_numbers([area]) or area <= 0:
            annotation['area'] = (
                box[2] * box[3] if mask is None else area_of(mask)
            )
            if area is None or annotation['area'] > 0:
                self.notes.add('objects without area, which is computed', case)
        crowd = annotation.setdefault('iscrowd', None)
        if crowd is None:
            annotation['iscrowd'] = 0
            self.notes.add('objects without iscrowd, taken for 0', case)
        elif crowd not in (0, 1):
            self.problems.add(
                'objects with an iscrowd that is neither 0 nor 1',
                f'{case}, {crowd!r}',
            )

    def _mask(self, case: str, annotation: dict, image: dict) -> Any:
        """Return the mask of an object; None if it has none of use."""
        mask = annotation.get('segmentation') or None
        if mask is None:
            if self.needs_masks:
                self.problems.add(
                    'objects without segmentation, which Mask R-CNN needs '
                    '(Faster R-CNN needs boxes only; check those as '
                    'coco_boxes)',
                    case,
                )
            return None
        size = None
        if _has_size(image):
            size = image['height'], image['width']
        fault = find_fault(mask, size)
        if fault is None:
            return mask
        if fault == THIN:
            self.thin.append(case)
        elif self.needs_masks:
            self.problems.add(f'objects with a segmentation {fault}', case)
        return None

    def check_masks(self) -> None:
        """Count masks that enclose nothing, which mmdet leaves out."""
        if self.thin and self.needs_masks:
            share = len(self.thin) / len(self.content['annotations'])
            is_few = share <= _TOLERATED_SHARE
            findings = self.notes if is_few else self.problems
            kind = f'objects with a segmentation {THIN}'
            findings.add(kind, self.thin[0], len(self.thin))

    def check_boxes(self) -> None:
        """Check that boxes are in their images, and in pixels."""
        if not self.boxes:
            return
        numbers = np.array([box[1:] for box in self.boxes], float)
        x, y, w, h, right, bottom = numbers.T
        is_small = (w < 1) | (h < 1)
        is_outside = (x >= right) | (y >= bottom) | (x + w <= 0) | (y + h <= 0)
        is_outside &= ~is_small
        # Some tools round.
        is_over = (x < -1) | (y < -1) | (x + w > right + 1)
        is_over |= y + h > bottom + 1
        # Read as left, top, right, bottom.
        fits = (w > x) & (h > y) & (x >= -1) & (y >= -1)
        fits &= (w <= right + 1) & (h <= bottom + 1)
        if is_small.all():
            self._add_boxes(
                self.problems,
                'boxes smaller than a pixel (coordinates are pixels, not '
                'shares of the image)',
                is_small,
            )
        elif is_over.any() and fits.all():
            self._add_boxes(
                self.problems,
                'boxes outside their image that look like [x1, y1, x2, y2] '
                "(COCO's are [x, y, width, height])",
                is_over,
            )
        else:
            is_few = is_outside.mean() <= _TOLERATED_SHARE
            self._add_boxes(
                self.notes if is_few else self.problems,
                'boxes outside their image',
                is_outside,
            )
            self._add_boxes(
                self.notes,
                'boxes that reach over the edge of their image',
                is_over & ~is_outside & ~is_small,
            )
            self._add_boxes(
                self.notes,
                'boxes smaller than a pixel, which training leaves out and '
                'evaluation counts as missed',
                is_small,
            )

    def _add_boxes(
        self, findings: Findings, kind: str, chosen: np.ndarray
    ) -> None:
        """Count the chosen boxes, if any."""
        indices = np.flatnonzero(chosen)
        if len(indices):
            case, *box, width, height = self.boxes[indices[0]]
            first = f'{case}, {box} in an image of {width}x{height}'
            findings.add(kind, first, len(indices))

    def fill_ids(self) -> None:
        """Number all annotations from 1 unless their ids can be used."""
        annotations = self.content['annotations']
        seen: dict[int, dict] = {}
        can_stay = True
        for number, annotation in enumerate(annotations):
            case = f'annotations[{number}]'
            own = annotation.get('id')
            kind = None
            if not isinstance(own, int) or isinstance(own, bool):
                kind = 'annotations without a whole number as id'
            elif own == 0:
                kind = 'annotations with the id 0'
            elif own in seen:
                kind = 'annotations with the same id'
                if annotation == seen[own]:
                    self.problems.add('duplicate annotations', case)
            else:
                seen[own] = annotation
            if kind is not None:
                can_stay = False
                self.notes.add(f'{kind} (all are numbered anew)', case)
        if not can_stay:
            for number, annotation in enumerate(annotations, start=1):
                annotation['id'] = number


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str))


def _has_size(image: dict) -> bool:
    size: Any = [image.get('height'), image.get('width')]
    return is_numbers(size) and min(size) >= 1


def picture_size(path: Path) -> dict[str, int] | None:
    """Read height and width from a header; None if it cannot be read.

    As mmdet loads the picture: turned upright by its EXIF orientation.
    """
    try:
        with open_image(path) as img:
            width, height = img.size
            if img.getexif().get(_EXIF_ORIENTATION, 1) >= 5:
                width, height = height, width
            return dict(height=height, width=width)
    except Exception:  # anything, on damaged files
        return None
