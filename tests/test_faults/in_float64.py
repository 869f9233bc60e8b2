"""For `custom_imports` of a config whose run is in float64."""

import torch

torch.set_default_dtype(torch.float64)
