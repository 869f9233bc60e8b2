"""Write what `ImageFolder` reads: list files and class folders."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from swav_plugin.checkpoints.atomic import write_atomic

from .image_folder import find_missing


def write_list(
    list_file: Path, images: Sequence[tuple[str, int]], root: Path
) -> str:
    """Write lines "path label", whole or not at all.

    Args:
        list_file: Replaced if there is one.
        images: Path with slashes, relative to root, and label of each.
        root: Where the images are.

    Returns:
        What was written, for the user.

    Raises:
        FileNotFoundError: An image does not exist.
        ValueError: There are no images.
    """
    if not images:
        raise ValueError(f'there are no images to list in {list_file}.')
    missing = find_missing([str(root / path) for path, _ in images])
    if missing:
        raise FileNotFoundError(
            f'{len(missing):,} of {len(images):,} images for {list_file} do '
            f'not exist; the first is {root / images[missing[0]][0]}.'
        )
    text = ''.join(f'{path} {label}\n' for path, label in images)
    # File names may be any bytes, as in os.listdir.
    write_atomic(list_file, text.encode(errors='surrogateescape'))
    num_classes = len({label for _, label in images})
    return f'{list_file}: {len(images):,} images of {num_classes:,} classes'


def write_class_folders(
    folder: Path, images: Iterable[tuple[Image.Image, str]]
) -> None:
    """Write images with names of classes as folder/<class>/<number>.png."""
    for number, (image, name) in enumerate(images):
        path = folder / name / f'{number:05}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
