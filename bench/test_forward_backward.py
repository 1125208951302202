"""Forward and backward, and what is kept between them: native and fastdrop beside a differentiable `x.clone()`."""

import pytest
import torch
from conftest import SIZES, THREADS, group

from fastdrop.bench import providers


@pytest.mark.parametrize("name", ["native", "fastdrop", "clone"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threads", THREADS, indirect=True)
def test_forward_backward(benchmark, threads, size, name):
    x = torch.randn(size, requires_grad=True)
    benchmark.group = group("forward + backward", x, threads)
    if name in providers.DROPOUTS:
        benchmark.extra_info["bytes kept per element"] = providers.bytes_kept(providers.DROPOUTS[name], x)
    benchmark(providers.forward_backward(x)[name])
