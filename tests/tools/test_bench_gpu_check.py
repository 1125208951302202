"""`python -m bench.gpu` before it measures: a kernel that differs from the CPU's is found, and ends the run."""

import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from bench_on_cpu import PLAN, CpuDevice, other_gradient

from bench.gpu import cases, check, command, providers
from bench.gpu.session import Section
from fastdrop.functional import dropout, dropout_mask


def every_other(function: Callable[..., Any], spoilt: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is spoilt where a case runs on the device, which comes before the CPU."""
    calls = iter(range(10**9))
    return lambda *args, **keys: (function if next(calls) % 2 else spoilt)(*args, **keys)


def one_bit_off(name: str, x: torch.Tensor, y: torch.Tensor, *key: Any) -> None:
    providers.launch(name, x, y, *key)
    y.view(torch.uint8)[-1] ^= 1


def one_too_far(name: str, x: torch.Tensor, y: torch.Tensor, *key: Any) -> None:
    providers.launch(name, x, y, *key)
    y.as_strided((1,), (1,), y.storage_offset() + len(y)).fill_(0.25)


def other_gradient_without_key(x: torch.Tensor, p: float, **key: Any) -> torch.Tensor:
    return dropout(x, p, **key) if key else other_gradient(x, p)


def other_start(*size_and_p: Any, start: int, **others: Any) -> torch.Tensor:
    return dropout_mask(*size_and_p, start=start % (1 << 32), **others)


@pytest.mark.parametrize(
    ("name", "spoilt", "where", "how"),
    [
        ("launch", one_bit_off, "kernel, float32, 1 elements", "differ"),
        ("launch", one_too_far, "kernel, float32, 1 elements", "not"),
        ("dropout", lambda x, p, **_: dropout(x, p, seed=1), "call, float32", "differ"),
        ("dropout", lambda x, p, **_: dropout(x, p, seed=1).clone(), "call in place, float32", "differ"),
        ("dropout", other_gradient, "gradient, float32", "differ"),
        ("dropout", other_gradient_without_key, "gradient of own seed, float32", "differ"),
        ("dropout_mask", other_start, "mask, 9", "differ"),
    ],
)
def test_a_kernel_that_differs_ends_the_run(name, spoilt, where, how, tmp_path, capsys, monkeypatch, few_cases):
    monkeypatch.setattr(cases, name, every_other(getattr(cases, name), spoilt))
    after = Section("after", lambda _: pytest.fail("measured"), 1.0)
    path = tmp_path / "a.json"
    assert command.run(CpuDevice(), PLAN, path, sections=[Section("check", check.section, 1e9), after]) == 1
    assert "stopped: the device's results differ" in capsys.readouterr().out
    failures = json.loads(path.read_text())["sections"]["check"]["failures"]
    assert 1 <= len(failures) <= check.ENOUGH
    assert any(failure["case"].startswith(where) and how in failure["how"] for failure in failures)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_native_torch_in_the_kernels_place_ends_the_run(tmp_path, monkeypatch, few_cases):
    def native_instead(x: torch.Tensor, p: float, **key: Any) -> torch.Tensor:
        warnings.warn("fastdrop leaves CUDA tensors to native torch: no driver", RuntimeWarning, stacklevel=1)
        return dropout(x, p, **key)

    monkeypatch.setattr(cases, "dropout", native_instead)
    path = tmp_path / "a.json"
    assert command.run(CpuDevice(), PLAN, path, sections=[Section("check", check.section, 1e9)]) == 1
    assert "RuntimeWarning: fastdrop leaves CUDA tensors to native torch: no driver" in path.read_text()


def test_a_kernel_on_a_wrong_stream_is_found(monkeypatch):
    def wrong(work: Callable[[], torch.Tensor]) -> torch.Tensor:
        with monkeypatch.context() as patched:
            patched.setattr(torch.Tensor, "copy_", lambda to, _: to)  # a copy that is yet to come
            return work()

    x = cases.inputs(torch.float32, 100)
    found, wanted = (cases.late(cases.Side(torch.device("cpu"), late), x, 0.5) for late in (wrong, lambda work: work()))
    assert check.difference(found, wanted) and not check.difference(
        wanted, cases.call(cases.Side(x.device, wrong), x, 0.5)
    )


@pytest.mark.parametrize(
    ("found", "wanted", "says"),
    [
        (torch.tensor([0.0, float("nan")]), torch.tensor([0.0, -float("nan")]), ""),
        (torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]), "1 elements differ, at (0,) 0.0, not -0.0"),
        (torch.zeros(2), torch.zeros(3), "shape (2,)"),
        (torch.zeros(2), torch.zeros(2).double(), "torch.float64"),
        (torch.zeros(2, 2), torch.zeros(2, 2).T, "strides (1, 2)"),
        (torch.tensor([True]), torch.tensor([False]), "1 elements differ"),
    ],
)
def test_every_bit_counts_but_those_of_a_nan(found, wanted, says):
    assert (says in check.difference(found, wanted)) if says else check.difference(found, wanted) == ""


def test_inputs_have_numbers_of_all_kinds():
    for dtype in cases.DTYPES:
        x = cases.inputs(dtype, 1000)
        tiny = torch.finfo(dtype).tiny
        assert x.isnan().any() and x.isposinf().any() and x.isneginf().any() and (x == torch.finfo(dtype).max).any()
        assert ((x == 0) & x.signbit()).any() and ((x != 0) & (x.abs() < tiny)).any() and (x.abs() > tiny).any()


def test_results_keep_their_strides_on_the_way_from_a_gpu(few_cases):
    side = cases.Side(torch.device("cpu"), lambda work: work())
    for _, members in cases.cases():
        for case in members:
            result = case.work(side)  # a copy from a GPU has these strides if there are no gaps to close
            assert torch.empty_like(result).stride() == result.stride(), case.what
