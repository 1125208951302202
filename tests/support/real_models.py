"""Real models of few numbers whose dropouts are replaced, what they compute, and what they are to learn."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

import fastdrop
from bench.models import MODELS, Batch, Model

P: Final = 0.4


class Dropouts(NamedTuple):
    """How many dropouts a forward calls."""

    elements: int
    channels: int
    in_modules: int  # others are within attention or an LSTM


DROPOUTS: Final = {
    "encoder": Dropouts(8, 0, 6),
    "transformer": Dropouts(20, 0, 14),
    "gpt2": Dropouts(7, 0, 5),
    "lstm": Dropouts(1, 0, 0),
    "cnn": Dropouts(2, 2, 4),
}


@contextlib.contextmanager
def replaced(model: nn.Module) -> Iterator[None]:
    """Replace the modules of a model for the length of a block."""
    fastdrop.replace(model)
    yield
    fastdrop.restore(model)


WAYS: Final[dict[str, Callable[[nn.Module], Any]]] = {
    "installed": lambda model: fastdrop.accelerated(),
    "replaced": replaced,
}
all_models = pytest.mark.parametrize("name", MODELS)
all_ways = pytest.mark.parametrize(
    ("name", "way"), [(name, way) for way in WAYS for name in MODELS if way == "installed" or DROPOUTS[name].in_modules]
)
# Models this small are no faster on two, and much slower where another program has the second core.
on_one_thread = pytest.mark.usefixtures("one_thread")


def build(name: str, p: float = P) -> Model:
    """Return a model, always with the same parameters."""
    torch.manual_seed(0)
    return MODELS[name](p, width=32, length=8)


def seeded(model: nn.Module, inputs: Batch, seed: int = 1) -> torch.Tensor:
    torch.manual_seed(seed)
    output: torch.Tensor = model(*inputs)
    return output


def loss_of(output: torch.Tensor) -> torch.Tensor:
    """Return a number that all of the output has a share in."""
    return (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)).sum()


def gradients(model: nn.Module, output: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(loss_of(output), list(model.parameters()))


def results(model: nn.Module, inputs: Batch) -> list[torch.Tensor]:
    """Return the output and all gradients."""
    output = seeded(model, inputs)
    return [output, *gradients(model, output)]


def all_equal(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Task(NamedTuple):
    """A model, and what it is to learn: the outputs of another one, which drops nothing."""

    model: nn.Module
    batches: list[tuple[Batch, torch.Tensor]]


def task(name: str) -> Task:
    student, teacher = build(name), MODELS[name](0.0, width=32, length=8)
    batches = [student.draw(16) for _ in range(4)]
    with torch.no_grad():
        return Task(student.module, [(inputs, teacher.module.eval()(*inputs)) for inputs in batches])


def losses(model: nn.Module, task: Task, seed: int, steps: int) -> list[float]:
    """Return the losses of a training."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    torch.manual_seed(seed)
    found = []
    for inputs, target in itertools.islice(itertools.cycle(task.batches), steps):
        optimizer.zero_grad()
        loss = mse_loss(model(*inputs), target)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found
