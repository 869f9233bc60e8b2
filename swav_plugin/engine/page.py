"""Pages that need no other file and no network: what all of them share."""

from pathlib import Path

import jinja2


def read_template(path: Path, *folders: Path) -> jinja2.Template:
    """Read the template of a page.

    Whatever it is filled with is escaped. It may include `page.css.j2`, the
    colors, in light and dark, and the headings of all pages.

    Args:
        path: The template.
        folders: Where else it takes parts from, besides its own folder.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(
            [path.parent, *folders, Path(__file__).parent]
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(path.name)
