"""The whole memory of a training step's dropout: bytes kept for the backward, in every dtype."""

import pytest
import torch
from conftest import DTYPES

from fastdrop.bench import contenders


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_fastdrop_keeps_nothing(benchmark, dtype):
    x = torch.randn(4096).to(dtype).requires_grad_()
    benchmark.group = f"counting what {str(dtype).removeprefix('torch.')} keeps"
    native, ours = (contenders.DROPOUTS[name] for name in ("native", "fastdrop"))
    kept = contenders.bytes_kept(native, x), benchmark(contenders.bytes_kept, ours, x)
    benchmark.extra_info["native, bytes per element"], benchmark.extra_info["fastdrop, bytes per element"] = kept
    assert kept[1] == 0 < kept[0]
