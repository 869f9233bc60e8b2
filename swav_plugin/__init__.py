"""SwAV (arXiv:2006.09882) for OpenMMLab.

Importing this takes as long as `import mmengine`. It makes
``_base_ = 'swav_plugin::selfsup/swav/....py'`` work in any config that is
read afterwards; the classes are imported when a config first names one.
mmdet, imported afterwards, runs on mmcv without compiled operators. And
mmengine reads checkpoints and YAML as data: no code in them is run.
"""

from swav_plugin.compat.imports import setup_imports
from swav_plugin.compat.moved import setup_moved
from swav_plugin.compat.stack import (
    check_distributions,
    setup_configs,
    setup_operators,
    setup_yaml,
)

__version__ = '0.2.0'

check_distributions()
setup_configs()
setup_imports()
setup_operators()
setup_yaml()
setup_moved()
