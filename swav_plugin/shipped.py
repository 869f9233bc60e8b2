"""Find what comes with the package besides its code: configs, tools, an index.

Nothing here needs torch: a shell completes names of configs at once.
"""

import difflib
import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

# Where mim looks for it: links in a checkout, files in a wheel.
SHIPPED = _PACKAGE / '.mim'
if not (SHIPPED / 'configs').is_dir():
    # A checkout without symbolic links, as torch.hub unpacks it.
    SHIPPED = _PACKAGE.parent
CONFIGS = (SHIPPED / 'configs').resolve()
_TOOLS = (SHIPPED / 'tools').resolve()
# As messages name it: who is not in a checkout needs the whole path.
TOOLS = 'tools' if _TOOLS.parent == _PACKAGE.parent else str(_TOOLS)


def config_names() -> dict[str, Path]:
    """Return the files of the configs that can be run, by name."""
    return {
        path.stem: path
        for path in sorted(CONFIGS.rglob('*.py'))
        if '_base_' not in path.parts
    }


def find_config(config: str) -> Path:
    """Return the file of a config.

    Args:
        config: Its path, or the name of one that is shipped: without a folder
            and without '.py'.

    Raises:
        FileNotFoundError: There is none; says which one was probably meant.
    """
    path = Path(config)
    named = config_names()
    if config in named:
        return named[config]
    if path.is_file():
        return path
    meant = _similar(path, named)
    hint = f'; did you mean {" or ".join(meant)}?' if meant else ''
    raise FileNotFoundError(f'there is no config {config}{hint}')


def _similar(path: Path, named: dict[str, Path]) -> list[str]:
    """Return up to three names or paths that may have been meant."""
    if Path(f'{path}.py').is_file():
        return [f'{path}.py']
    if path.stem in named:
        return [path.stem]
    close = difflib.get_close_matches(path.stem, named, cutoff=0.7)
    if not close and path.stem:
        close = [name for name in named if path.stem in name][:3]
    if close:
        return close
    bases = {base.stem: base for base in CONFIGS.rglob('_base_/**/*.py')}
    close = difflib.get_close_matches(path.stem, bases, cutoff=0.7)
    return [os.path.relpath(bases[stem]) for stem in close]
