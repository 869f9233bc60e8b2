"""Masks of objects in COCO's layout: polygons and run-length codes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

THIN = 'with fewer than three points in a polygon'


def is_numbers(values: Any) -> bool:
    """Check for a list of finite numbers."""
    return isinstance(values, (list, tuple)) and all(
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        for value in values
    )


def find_fault(mask: Any, size: Sequence[int] | None) -> str | None:
    """Say what is wrong with a mask; None if nothing is.

    Args:
        mask: A list of polygons [x1, y1, x2, y2, ...], or a run-length code,
            a dict of size and counts.
        size: Height and width of the image; None if they are not known.
    """
    if isinstance(mask, dict):
        own = mask.get('size')
        if not isinstance(mask.get('counts'), (list, str)) or not own:
            return 'without size or counts'
        if size is not None and [*own] != [*size]:
            return 'whose size differs from its image'
        if not _fills(mask['counts'], own):
            return 'whose runs do not add up to its size'
        return None
    if is_numbers(mask):
        return 'of one polygon [x1, y1, ...] (COCO has [[x1, y1, ...], ...])'
    if not isinstance(mask, list) or not all(map(is_numbers, mask)):
        return 'that is neither a list of polygons nor a run-length code'
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in mask):
        return THIN
    return None


def _fills(counts: list | str, size: Sequence[int]) -> bool:
    """Check that the runs of a code add up to height times width."""
    runs = counts if isinstance(counts, list) else _runs(counts)
    return is_numbers(runs) and sum(runs) == size[0] * size[1]


def _runs(text: str) -> list[int]:
    """Read COCO's compressed form.

    Five bits of a number in each character, lowest first; the sixth says that
    more follow. From the fourth on, a number is what its run has more than
    the last but one.

    Source: pycocotools, maskApi.c, the format only.
    """
    runs: list[int] = []
    number, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number, shift = 0, 0
    return runs


def area_of(mask: list | dict) -> float:
    """Return the area of a mask in pixels; of polygons, their sum."""
    if isinstance(mask, dict):
        return float(_run_lengths().area(_encode(mask)))
    total = 0.0
    for polygon in mask:
        x, y = np.array(polygon, float).reshape(-1, 2).T
        total += abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    return total


def box_of(mask: list | dict) -> list[float]:
    """Return the box around a mask: left, top, width, height."""
    if isinstance(mask, dict):
        return _run_lengths().toBbox(_encode(mask)).tolist()
    points = np.concatenate([np.reshape(each, (-1, 2)) for each in mask])
    corner = points.min(0)
    return [*corner.tolist(), *(points.max(0) - corner).tolist()]


def _encode(mask: dict) -> Any:
    """Return a run-length code as pycocotools computes with it."""
    if isinstance(mask['counts'], list):
        return _run_lengths().frPyObjects(mask, *mask['size'])
    return mask


def _run_lengths() -> Any:
    """Import what computes with run-length codes."""
    try:
        from pycocotools import mask
    except ImportError:
        raise ValueError(
            'objects with a run-length code lack area or bbox; install '
            'pycocotools, which computes them.'
        ) from None
    return mask
