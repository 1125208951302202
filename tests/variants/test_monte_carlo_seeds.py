"""mc_predict's seeds: one result each, and every generator afterwards as it was."""

import types

import numpy as np
import pytest
import torch
from torch import nn

import fastdrop
from fastdrop import mc_predict
from fastdrop._monte_carlo import predict


class Failing(nn.Module):
    """Raise, once something was drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyError(self.dropout(x))


class Stack(nn.Module):
    """Several dropouts of one input."""

    def __init__(self, *dropouts: nn.Module) -> None:
        super().__init__()
        self.dropouts = nn.ModuleList(dropouts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([dropout(x) for dropout in self.dropouts], 1)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 3))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(2))


def states(*generators: torch.Generator) -> list[list[int]]:
    return [generator.get_state().tolist() for generator in (torch.default_generator, *generators)]


@pytest.mark.parametrize("batch_samples", [1, 4])
def test_a_seed_gives_one_result_and_moves_no_generator(x, batch_samples):
    model, before = network(), states()
    first, second, other = (
        mc_predict(model, x, 6, batch_samples, seed, class_dim=1, keep_samples=True) for seed in (7, 7, 8)
    )
    assert states() == before
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first.samples, other.samples)
    assert len(first.samples.unique(dim=0)) == 6


def test_without_a_seed_the_generator_goes_on(x):
    model, before = network(), states()
    first, second = (mc_predict(model, x, 3).mean for _ in range(2))
    assert not torch.equal(first, second)
    assert states() != before


def test_layers_with_generators_of_their_own():
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    model = Stack(fastdrop.Dropout(0.5), *(fastdrop.Dropout(0.5, generator=generator) for generator in generators))
    x, before = torch.ones(2, 100), states(*generators)
    first, second = (mc_predict(model, x, 2, seed=7, keep_samples=True).samples for _ in range(2))
    assert torch.equal(first, second)
    assert states(*generators) == before
    assert len(first.transpose(1, 2).reshape(6, -1).unique(dim=0)) == 6  # two passes of three layers: no masks alike
    mc_predict(model, x, 2)
    assert all(now != then for now, then in zip(states(*generators), before, strict=True))


def test_kinds_and_range_of_seeds(x):
    means = [mc_predict(network(), x, 2, seed=seed).mean for seed in (1, np.int64(1), 2, 2**64 - 1)]
    assert torch.equal(means[0], means[1])
    assert len(torch.stack(means).unique(dim=0)) == 3


def test_all_comes_back_when_the_model_raises(x):
    model, before = Failing().eval(), states()
    with pytest.raises(KeyError):
        mc_predict(model, x, seed=1)
    assert states() == before
    assert not model.dropout.training
    assert torch.is_grad_enabled()


def test_generators_of_devices(monkeypatch):
    """Those in use and no others, in one order, each once: stand-ins for tensors, as there may be no device."""
    of_devices = [torch.Generator() for _ in range(9)]
    module = types.SimpleNamespace(default_generators=of_devices)
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    names = ["cuda:7", "cuda:2", "cpu", "cuda:5", "cuda:0", "cuda:3", "meta", "cuda:2"]
    tensors = [types.SimpleNamespace(device=torch.device(name)) for name in names]
    found = predict._generators(nn.Linear(2, 2), tensors)
    assert found == [torch.default_generator, *(of_devices[index] for index in (7, 2, 5, 0, 3))]


def test_devices_whose_generators_cannot_be_had():
    with pytest.raises(ValueError, match="seed needs model and x on CPU, CUDA or XPU devices, but got some on mps"):
        predict._generators(nn.Linear(2, 2), [types.SimpleNamespace(device=torch.device("mps:0"))])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and a torch that is built with CUDA")
@pytest.mark.parametrize("kind", [nn.Dropout, fastdrop.Dropout])
def test_on_a_gpu(kind):
    model, x = Stack(kind(0.5), kind(0.5)).cuda(), torch.ones(2, 1000, device="cuda")
    before = states(*torch.cuda.default_generators)
    first, second, other = (mc_predict(model, x, 3, seed=seed, keep_samples=True).samples for seed in (7, 7, 8))
    assert states(*torch.cuda.default_generators) == before
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert len(first.transpose(1, 2).reshape(6, -1).unique(dim=0)) == 6
