"""The forward: native and fastdrop beside `x.clone()`; fastdrop into warm memory beside `y.copy_(x)`."""

import pytest
import torch
from conftest import DTYPES, SIZES, THREADS, group

from fastdrop.bench import providers


@pytest.mark.parametrize("name", ["native", "fastdrop", "clone", "fastdrop_into", "copy"])
@pytest.mark.parametrize("size", [*SIZES, 1 << 24])
@pytest.mark.parametrize("threads", THREADS, indirect=True)
def test_forward(benchmark, threads, size, name):
    x = torch.randn(size)
    benchmark.group = group("forward", x, threads)
    benchmark(providers.forward(x)[name])


@pytest.mark.parametrize("name", ["native", "fastdrop_into", "copy"])
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_forward_of_other_dtypes(benchmark, dtype, name):
    x = torch.randn(1 << 20).to(dtype)
    benchmark.group = group("forward", x, torch.get_num_threads())
    benchmark(providers.forward(x)[name])
