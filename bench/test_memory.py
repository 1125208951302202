"""The whole memory of a training step's dropout: bytes kept for the backward, in every dtype."""

import pytest
import torch
from conftest import DTYPES

from fastdrop.bench import contenders


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_fastdrop_keeps_nothing(benchmark, dtype):
    x = torch.randn(4096).to(dtype).requires_grad_()
    benchmark.group = f"counting what {str(dtype).removeprefix('torch.')} keeps"
    benchmark.extra_info["native, bytes per element"] = native = contenders.bytes_kept("native", x)
    benchmark.extra_info["fastdrop, bytes per element"] = ours = benchmark(contenders.bytes_kept, "fastdrop", x)
    assert ours == 0 < native
