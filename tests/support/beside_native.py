"""What tests that put a function beside torch's own dropout share."""

import pytest
import torch

native = torch.nn.functional.dropout

BOTH = pytest.mark.parametrize("training", [True, False])
