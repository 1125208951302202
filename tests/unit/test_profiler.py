"""torch.profiler shows the kernels that eager code runs, each under its name and as often as it ran."""

from collections import Counter
from collections.abc import Callable

import family_cases
import pytest
import torch
from exact import SEED, P, integers
from torch.profiler import ProfilerActivity, profile

from fastdrop import dropout_mask
from fastdrop.functional import dropout


def kernels_in(function: Callable[[], object]) -> Counter[str]:
    """Return how often each kernel of ours is in a profile of a call."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        function()
    names = (event.name for event in profiled.events())
    return Counter(name for name in names if name.startswith("fastdrop::") and name.endswith("_kernel"))


@pytest.mark.parametrize("elements", [1, 64, 5_000_000])
def test_forward_and_backward_of_any_size(elements):
    x = torch.ones(elements, requires_grad=True)

    def step(runs: int) -> None:
        for _ in range(runs):
            dropout(x, P).sum().backward()

    step(1)
    assert kernels_in(lambda: dropout(x.detach(), P)) == {"fastdrop::dropout_kernel": 1}
    assert kernels_in(lambda: step(3)) == {"fastdrop::dropout_kernel": 6}


def test_in_place():
    assert kernels_in(lambda: dropout(torch.ones(64), P, True, True)) == {"fastdrop::dropout_kernel": 1}


def wanted_of(case: family_cases.Case, name: str) -> Counter[str]:
    if "block" in name:  # its mask is kept, and used twice
        return Counter(mask=1, dilate_blocks=1, masked_scale=2)
    if "embedding" in name:
        return Counter(mask=2, masked_scale_rows=2)
    return Counter([case.forward]) + Counter([case.backward] if case.backward else [])


@pytest.mark.parametrize("name", family_cases.CASES)
def test_family(name):
    case = family_cases.CASES[name]
    wanted = {f"fastdrop::{kernel}_kernel": count for kernel, count in wanted_of(case, name).items()}
    assert kernels_in(lambda: case.results(case.input(), seed=SEED)) == wanted


@pytest.mark.usefixtures("installed")
def test_installed():
    x = torch.ones(64, requires_grad=True)
    assert kernels_in(lambda: torch.nn.functional.dropout(x, P).sum().backward()) == {"fastdrop::dropout_kernel": 2}
    assert kernels_in(lambda: torch.nn.functional.alpha_dropout(x, P, True)) == {"fastdrop::alpha_dropout_kernel": 1}


def test_masks():
    assert kernels_in(lambda: dropout_mask(64, P, seed=SEED)) == {"fastdrop::mask_kernel": 1}


def test_a_kernel_lies_inside_the_operator_that_a_graph_calls():
    operator = torch.ops.fastdrop.dropout.default
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        operator(integers(64), P, torch.tensor(SEED))
    (kernel,) = (event for event in profiled.events() if event.name == "fastdrop::dropout_kernel")
    above, event = set(), kernel.cpu_parent
    while event is not None:
        above.add(event.name)
        event = event.cpu_parent
    assert "fastdrop::dropout" in above


def test_autograds_own_profiler_and_nothing_without_one():
    x = torch.ones(64)
    with torch.autograd.profiler.profile() as profiled:
        dropout(x, P)
    dropout(x, P)
    assert [event.count for event in profiled.key_averages() if event.key == "fastdrop::dropout_kernel"] == [1]


def test_a_kernel_that_raises_ends_its_event(monkeypatch):
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    def run() -> None:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("fastdrop._devices.cpu._serial", fail)
            dropout(torch.ones(64), P)
        with torch.profiler.record_function("after"):
            dropout(torch.ones(64), P)

    assert kernels_in(run) == {"fastdrop::dropout_kernel": 2}
