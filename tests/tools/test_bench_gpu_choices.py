"""The variants that `python -m bench.gpu` measures against what is shipped: all compute the same."""

import mask_reference
import numpy as np
import pytest

pytest.importorskip("numba_cuda")
pytest.importorskip("cuda.core")

from emulation import STORAGE, interpreted
from ptx import Kernel, Memory

from bench.gpu import choices
from fastdrop_kernels.cuda.compiler import link
from fastdrop_kernels.cuda.cubins import arch_of

N, SEED = 50_003, 11
CASES = [
    pytest.param(dtype, capability, marks=pytest.mark.slow if (dtype, capability) == ("bfloat16", (8, 0)) else ())
    for dtype in ("float32", "bfloat16")
    for capability in ((8, 0), (9, 0))
]


def run(of: Kernel, dtype: str, grid: int, threads: int) -> np.ndarray:
    x = np.full(N, 1, np.float32).view(np.uint32) >> 16 if dtype == "bfloat16" else np.ones(N)
    x = x.astype(STORAGE[dtype])
    memory, y = Memory(), np.zeros_like(x)
    tensors = memory.add(x, readonly=True), memory.add(y), 0, 0
    of(grid, threads, [*tensors, 0, N, SEED, 0, 0, 2**31, 2.0, 0.0, 0.0, 0, 0], memory)
    return y


@pytest.mark.parametrize(("dtype", "capability"), CASES, ids=str)
@pytest.mark.sampled(3)
def test_every_variant_is_another_way_to_the_same(dtype, capability):
    found = dict(choices.variants(dtype, capability))
    wanted = run(interpreted("dropout", dtype, capability), dtype, 3, 256)
    assert np.array_equal(wanted != 0, mask_reference.keep_mask(np.arange(N), 0.5, SEED))
    for variant in found.values():
        grid = choices.blocks(variant, N, multiprocessors=2)
        assert np.array_equal(run(Kernel(variant.ptx), dtype, grid, variant.threads), wanted)
        assert link(variant.ptx, arch_of(capability)).startswith(b"\x7fELF")
    assert len(set(found.values())) == len(found), "no two are the same"
