"""SwAV (arXiv:2006.09882) for OpenMMLab.

Importing this imports neither mmengine nor torch. It makes
``_base_ = 'swav_plugin::selfsup/swav/....py'`` work in any config that is
read afterwards; the classes are imported when a config first names one.
mmdet, imported afterwards, runs on mmcv without compiled operators. And
mmengine reads checkpoints and YAML as data: no code in them is run.
"""

from swav_plugin.compat.imports import setup_imports
from swav_plugin.compat.moved import setup_moved
from swav_plugin.compat.stack import (
    check_distributions,
    is_our_program,
    setup_operators,
)

__version__ = '0.2.0'

if not is_our_program():  # else it says so in one line
    check_distributions()
setup_imports()
setup_operators()
setup_moved()
