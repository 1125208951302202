"""A training step of whole models: native and installed beside p = 0, the lower bound.

`python -m bench.steps` measures the same providers in turn: its ratios hold on a busy machine too.
"""

import pytest
import torch

from bench import steps
from bench.models import MODELS


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # Inductor's own, as it is imported
@pytest.mark.parametrize("name", steps.STEPS)
@pytest.mark.parametrize("mode", steps.MODES)
@pytest.mark.parametrize("model", MODELS)
def test_training_step(benchmark, model, mode, name):
    torch._dynamo.reset()
    benchmark.group = f"training step, {model}, {mode}, {torch.get_num_threads()} thread(s)"
    benchmark(steps.training_step(MODELS[model], mode, name))
