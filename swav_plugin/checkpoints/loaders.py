"""Make mmengine read checkpoints as this package does: no code in them is run.

What mmengine does with what was read is in `training_state`.
"""

from pathlib import Path
from typing import Any

from .file_kind import CheckpointError
from .safe_load import safe_load
from .training_state import keep_data
from .zoo import fetch_url


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Read a checkpoint file for mmengine's `load_checkpoint` and resume."""
    path = Path(filename).expanduser()
    if path.is_dir():
        raise CheckpointError(f'{path} is a folder; give a file in it.')
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint {path}.')
    return safe_load(path, map_location)


def load_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
) -> Any:
    """Download a checkpoint once, then read it safely.

    `torch.hub.load_state_dict_from_url`, which mmengine calls, is unsafe by
    default in every version of torch.
    """
    folder = None if model_dir is None else Path(model_dir)
    return safe_load(fetch_url(url, folder), map_location)


def use_in_mmengine(module: Any) -> None:
    """Make mmengine read checkpoints safely, and trust none of their text.

    `import swav_plugin` sees to it. Everything that mmengine loads goes
    through `CheckpointLoader.load_checkpoint`.

    Args:
        module: `mmengine.runner.checkpoint`.
    """
    loader = module.CheckpointLoader
    loader.register_scheme('', load_from_local, force=True)
    module.load_url = load_url
    # onedl's own, for its other schemes, falls back to an unsafe load.
    module._safe_torch_load = safe_load
    load = loader.load_checkpoint.__func__
    if load.__module__ == __name__:
        return

    def load_checkpoint(cls: Any, filename: str, *args: Any, **kw: Any) -> Any:
        return keep_data(load(cls, filename, *args, **kw), filename)

    loader.load_checkpoint = classmethod(load_checkpoint)
