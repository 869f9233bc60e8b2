"""Find the images in a folder, and say what was left out and why."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mmengine.logging import print_log

from .transforms.pillow_files import image_extensions

# In lower case: what file servers, recycle bins, archivers and file systems
# keep for themselves. Pictures in there are copies, thumbnails or deleted.
_SYSTEM_NAMES = frozenset(
    (
        '#recycle',  # Synology
        '#snapshot',
        '@apphome',
        '@appstore',
        '@database',
        '@eadir',
        '@recently-snapshot',  # QNAP
        '@recycle',
        '@sharebin',
        '@tmp',
        '@transcode',
        '~snapshot',  # NetApp
        'network recycle bin',  # Netgear
        'network trash folder',  # Apple
        'temporary items',
        '__macosx',
        '$recycle.bin',  # Windows
        'recycle.bin',
        'recycler',
        'system volume information',
        'thumbs.db',
        '_gsdata_',  # GoodSync
        '_vti_cnf',  # FrontPage
        '__pycache__',
        'found.000',  # what repairing a disk brings up
        'lost+found',
    )
)
_MOST_KINDS = 10  # extensions that are named


class NoImages(ValueError):
    """A folder without any image."""


@dataclass
class FoundImages:
    """The images in a folder, and what else is there.

    Args:
        root: The folder.
        files: Paths of the images relative to root, sorted in each folder.
        others: How many files there are of other extensions, in lower case.
        hidden: Names of hidden and system entries; nobody looked inside.
        special: Names of pipes, sockets and devices.
    """

    root: str
    files: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    hidden: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Say how many images there are, and what was left out."""
        num = len(self.files)
        images = f'{num:,} image{"s" * (num != 1)}'
        return f'{images} in {self.root}, in {self.describe_rest()}'

    def describe_rest(self) -> str:
        """Say in how many folders they are, and what was left out."""
        left_out = self.describe_left_out() or 'nothing'
        return f'{self.describe_folders()}; left out: {left_out}'

    def describe_folders(self) -> str:
        """Say in how many folders they are."""
        num = len({os.path.dirname(file) for file in self.files})
        return f'{num:,} folder{"s" * (num != 1)}'

    def describe_left_out(self) -> str:
        """Say what was left out and why; '' if nothing was."""
        parts = []
        if self.others:
            kinds = [
                f'{count:,} {extension or "without extension"}'
                for extension, count in self.others.most_common(_MOST_KINDS)
            ]
            if len(self.others) > _MOST_KINDS:
                kinds.append(f'{len(self.others) - _MOST_KINDS} more kinds')
            parts.append(
                f'{self.others.total():,} not images ({", ".join(kinds)})'
            )
        for names, what in (
            (self.hidden, 'hidden or of the system'),
            (self.special, 'neither files nor folders'),
        ):
            if names:
                shown = ', '.join(sorted({*names})[:5])
                more = ', ...' if len({*names}) > 5 else ''
                parts.append(f'{len(names):,} {what} ({shown}{more})')
        return ', '.join(parts)


def search_images(root: str) -> FoundImages:
    """Find all images under a folder, by extension.

    Those of the formats that are read count as images. Links are followed.
    Hidden entries and those of `_SYSTEM_NAMES` are left out.

    Raises:
        NoImages: There are none; the message says what was found.
    """
    found = FoundImages(root)
    extensions = image_extensions()
    for file in _walk(root, '', frozenset(), found):
        extension = os.path.splitext(file)[1].lower()
        if extension in extensions:
            found.files.append(file)
        else:
            found.others[extension] += 1
    if not found.files:
        raise NoImages(
            f'no images in {root}: looked at any depth for files with an '
            'extension that Pillow reads, such as .jpg, .png, .tif or .webp, '
            f'and found {found.describe_left_out() or "no files"}.'
        )
    return found


def find_images(root: str) -> list[str]:
    """Find the images of `search_images`, and log what was left out.

    Returns:
        Paths relative to root, sorted within each folder.
    """
    found = search_images(root)
    print_log(f'Found {found.describe()}', logger='current')
    return found.files


def _walk(
    folder: str,
    prefix: str,
    ancestors: frozenset[tuple[int, int]],
    found: FoundImages,
) -> Iterator[str]:
    """Yield the files under a folder, with `prefix` before each.

    Notes in `found` which entries are hidden or special.
    """
    status = os.stat(folder)
    identity = status.st_dev, status.st_ino
    if identity in ancestors:  # a link to a folder that contains it
        return
    # One stat for each folder; scandir tells files from folders without one.
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        name = prefix + entry.name
        if not _is_visible(entry.name):
            found.hidden.append(entry.name)
        elif _is(entry.is_dir):
            yield from _walk(
                entry.path, name + os.sep, ancestors | {identity}, found
            )
        elif _is(entry.is_file) or not os.path.exists(entry.path):
            # Also a link to nowhere: that image is missing, not left out.
            yield name
        else:  # reading a pipe would wait for ever
            found.special.append(name)


def _is_visible(name: str) -> bool:
    """Check that an entry of a folder is neither hidden nor the system's."""
    return name[0] != '.' and name.lower() not in _SYSTEM_NAMES


def _is(kind: Callable[[], bool]) -> bool:
    """Ask an entry what it is; a link that leads to itself is nothing."""
    try:
        return kind()
    except OSError:
        return False


def class_names(root: str | os.PathLike[str]) -> list[str]:
    """Return the first-level folders of root, those without images too.

    Training and validation folders then agree on the labels even if one of
    them lacks images of a class.
    """
    with os.scandir(os.fspath(root)) as entries:
        return sorted(
            entry.name
            for entry in entries
            if _is_visible(entry.name) and _is(entry.is_dir)
        )
