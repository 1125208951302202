"""Each variant and its baseline: forward and backward, and what is kept between them.

`python -m bench.variants` measures the same providers in turn.
"""

import pytest
import torch

from bench.baselines import PAIRS
from bench.variants import SIZES
from fastdrop.bench.providers import bytes_kept


@pytest.mark.parametrize("provider", ["fastdrop", "baseline"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAIRS)
def test_variant(benchmark, name, size, provider):
    pair = PAIRS[name]
    x = torch.randn(pair.shape(size)).to(memory_format=pair.memory_format).requires_grad_()
    function = getattr(pair, provider)
    grad = torch.randn_like(function(x))
    benchmark.group = f"{name}, forward + backward, {size} elements"
    benchmark.extra_info["bytes kept per element"] = bytes_kept(function, x)
    benchmark(lambda: torch.autograd.grad(function(x), x, grad))
