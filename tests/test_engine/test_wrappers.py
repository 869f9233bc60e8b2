"""A model is found inside its wrapper, and only there."""

from torch import nn

from swav_plugin.engine import CPUDistributedDataParallel
from swav_plugin.engine.wrappers import unwrap


def test_our_own_wrapper() -> None:
    wrapper = CPUDistributedDataParallel.__new__(CPUDistributedDataParallel)
    nn.Module.__init__(wrapper)  # without a process group
    wrapper.module = nn.Linear(2, 1)
    assert unwrap(wrapper) is wrapper.module


def test_a_part_named_module_is_not_a_wrapped_model() -> None:
    model = nn.Module()
    model.module = nn.Linear(2, 1)
    assert unwrap(model) is model
