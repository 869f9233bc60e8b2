"""Write a page of pictures that needs no other file and no network."""

import base64
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from swav_plugin.datasets.transforms.pillow_files import open_image, to_rgb
from swav_plugin.engine.page import read_template

# At 3 to 4 KB each, and a third more as text: 10 MB.
MAX_PICTURES = 2000
_THUMBNAIL_PX = 112
_ADDRESS = 'data:image/jpeg;base64,'
_LEAST_COLUMNS, _MOST_COLUMNS = 8, 12


class Picture(NamedTuple):
    """A picture on the page.

    Args:
        file: Path of the image, or an address that holds it.
        name: What to call it, in full.
        caption: Shown below it.
        label: Shown below that, in short; by default the file name.
    """

    file: str
    name: str
    caption: str
    label: str = ''


class Strip(NamedTuple):
    """Pictures in a row, with a title and a remark on all of them."""

    title: str
    note: str
    pictures: Sequence[Picture]


class Section(NamedTuple):
    """Strips that belong together."""

    title: str
    note: str
    strips: Sequence[Strip]


class Gallery(NamedTuple):
    """What the page shows.

    Args:
        title: Title of the page.
        facts: Things to tell, by name.
        sections: In the order of the page.
    """

    title: str
    facts: dict[str, str]
    sections: Sequence[Section]


def pictures_per_strip(
    num_strips: int, least: int, most: int, total: int
) -> int:
    """Return how many pictures each strip may have for a page to stay small.

    With too many strips for that it is `least`; the caller then shows the
    first `total // least` of them.

    >>> [pictures_per_strip(num, 4, 12, 2000) for num in (10, 250, 5000)]
    [12, 8, 4]
    """
    return max(least, min(most, total // max(1, num_strips)))


def columns(section: Section) -> int:
    """Return how many pictures are side by side on a wide screen.

    No strip then ends with a row of few: 11 are a single row, 13 are two.

    >>> def section(num: int) -> Section:
    ...     pictures = [Picture('a.jpg', 'a', '')] * num
    ...     return Section('', '', [Strip('', '', pictures)])
    >>> [columns(section(num)) for num in (2, 11, 13, 100)]
    [8, 11, 8, 12]
    """
    most = max((len(each.pictures) for each in section.strips), default=0)
    num_rows = max(1, math.ceil(most / _MOST_COLUMNS))
    return max(_LEAST_COLUMNS, math.ceil(most / num_rows))


def to_html(gallery: Gallery) -> str:
    """Write a gallery as one HTML file with small copies of its pictures."""
    template = read_template(Path(__file__).with_name('gallery.html.j2'))
    page = template.render(
        gallery=gallery,
        columns=columns,
        basename=os.path.basename,
        thumbnail=thumbnail,
    )
    # File names need not be UTF-8.
    return page.encode('utf-8', 'replace').decode()


def thumbnail(file: str) -> str | None:
    """Return a small square JPEG as an address that holds it.

    The square is the center of the image, as networks see it.

    Args:
        file: Path of the image, or the address of one.

    Returns:
        None if the image can no longer be read.
    """
    if file.startswith(_ADDRESS):
        return file
    try:
        with open_image(os.fspath(file)) as img:
            # A JPEG file is decoded at a fraction of its size.
            img.draft(None, (2 * _THUMBNAIL_PX, 2 * _THUMBNAIL_PX))
            return address_of(to_rgb(img, name=file))
    except (OSError, ValueError):
        return None


def address_of(img: Image.Image) -> str:
    """Return the center of an RGB image, small, as an address."""
    side = min(_THUMBNAIL_PX, *img.size)
    square = ImageOps.fit(img, (side, side), Image.Resampling.BOX)
    content = io.BytesIO()
    square.save(content, 'JPEG', quality=75)
    return _ADDRESS + base64.b64encode(content.getvalue()).decode()
