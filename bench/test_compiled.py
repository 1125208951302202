"""Dropout alone, eager and compiled: forward and backward beside an identity, and beside `x * 2`.

`python -m bench.steps` measures the same providers in turn.
"""

import pytest
import torch

from bench import steps


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # Inductor's own, as it is imported
@pytest.mark.parametrize("name", steps.ALONE)
@pytest.mark.parametrize("mode", steps.MODES)
def test_dropout_alone(benchmark, mode, name):
    torch._dynamo.reset()
    benchmark.group = f"forward + backward, {mode}, {steps.SIZE} elements, {torch.get_num_threads()} thread(s)"
    benchmark(steps.alone(mode, name))
