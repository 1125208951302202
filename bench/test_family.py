"""Each member of the family and its original: forward and backward, and what is kept between them.

`python -m bench.family` measures the same contenders in turn.
"""

import pytest
import torch

from bench.family import SIZES
from bench.originals import PAIRS
from fastdrop.bench.contenders import bytes_kept


@pytest.mark.parametrize("contender", ["fastdrop", "original"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAIRS)
def test_member(benchmark, name, size, contender):
    pair = PAIRS[name]
    x = torch.randn(pair.shape(size)).to(memory_format=pair.memory_format).requires_grad_()
    function = getattr(pair, contender)
    grad = torch.randn_like(function(x))
    benchmark.group = f"{name}, forward + backward, {size} elements"
    benchmark.extra_info["bytes kept per element"] = bytes_kept(function, x)
    benchmark(lambda: torch.autograd.grad(function(x), x, grad))
