"""captum's layer-wise relevance propagation, which knows modules by their class, beside replaced models."""

import copy

import pytest
import torch
from torch import nn

import fastdrop

captum = pytest.importorskip("captum.attr")

pytestmark = pytest.mark.filterwarnings("ignore")  # captum's own


def attributed(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return captum.LRP(model).attribute(x, target=1)


def test_both_ways_that_the_docs_name(monkeypatch):
    from captum.attr._core import lrp

    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 4)).eval()
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    wanted = attributed(copy.deepcopy(model), x)
    assert wanted.any()
    fastdrop.replace(model)
    restored = copy.deepcopy(model)
    fastdrop.restore(restored)
    assert torch.equal(attributed(restored, x), wanted)
    monkeypatch.setattr(lrp, "SUPPORTED_NON_LINEAR_LAYERS", [*lrp.SUPPORTED_NON_LINEAR_LAYERS])
    lrp.SUPPORTED_NON_LINEAR_LAYERS.append(fastdrop.Dropout)
    assert torch.equal(attributed(model, x), wanted)
