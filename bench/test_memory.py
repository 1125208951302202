"""The whole memory of a training step's dropout: bytes kept for the backward, in every dtype."""

import pytest
import torch
from conftest import DTYPES

from bench.tables import name_of
from fastdrop.bench import providers


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_fastdrop_keeps_nothing(benchmark, dtype):
    x = torch.randn(4096).to(dtype).requires_grad_()
    benchmark.group = f"counting what {name_of(dtype)} keeps"
    native, ours = (providers.DROPOUTS[name] for name in ("native", "fastdrop"))
    kept = providers.bytes_kept(native, x), benchmark(providers.bytes_kept, ours, x)
    benchmark.extra_info["native, bytes per element"], benchmark.extra_info["fastdrop, bytes per element"] = kept
    assert kept[1] == 0 < kept[0]
