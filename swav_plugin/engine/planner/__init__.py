"""Plan a pretraining: every number of a config, with its reason.

`rules` decides, from what is measured (`evidence`) and what a step costs
(`costs`); `config_text` writes the config.
"""

from .config_text import write_config
from .rules import make_plan
from .situation import Plan, Situation

__all__ = ['Plan', 'Situation', 'make_plan', 'write_config']
