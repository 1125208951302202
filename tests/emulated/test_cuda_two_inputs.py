"""GPU kernels that read two tensors, interpreted, beside the CPU's kernels."""

import numpy as np
import pytest
from cuda_cases import SM75, SM80, SM90, SM100
from cuda_runs import Run, assert_same, placed, values

NAMES = ["dropout_add"]
# float32 in blocked and lane-paired arrangement
DTYPES = [
    pytest.param("float16", SM100, marks=pytest.mark.slow),
    ("bfloat16", SM75),
    ("float32", SM80),
    ("float32", SM90),
    pytest.param("float64", SM75, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("dtype", "capability"), DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_results_are_those_of_the_cpu(name, dtype, capability):
    run = Run(name, dtype, capability)
    for n, start in ((2051, 0), (1030, 13)):
        x, second = placed(values(dtype, n), start % 8), placed(values(dtype, n, seed=1), start % 8)
        y = placed(np.zeros_like(x), start % 8)
        run(x, y, start, second=second)
        assert_same(y, run.wanted(x, start, second=second), dtype)


@pytest.mark.parametrize("shift", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_tensors_that_no_vector_access_fits(name, shift):
    run = Run(name, "float32", (9, 0))
    x, second = placed(values("float32", 1500), shift[0]), placed(values("float32", 1500, seed=1), shift[1])
    y = placed(np.zeros_like(x), shift[2])
    run(x, y, second=second)
    assert_same(y, run.wanted(x, second=second), "float32")
