"""What `mmengine.hub.get_model('swav_plugin::...')` asks a package for."""

import swav_plugin.models  # noqa: F401


def register_all_modules() -> None:
    """Do nothing more: importing this file has registered the models."""
