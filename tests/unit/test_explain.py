"""`fastdrop.explain`: each call is counted once, in every open block; where none is open, nothing is left of it."""

import inspect
import sys
import threading

import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import fastdrop
from fastdrop import functional
from fastdrop._devices.kernels import has_kernel, why_no_kernel
from fastdrop._patch import aten
from fastdrop._patch.explain import Row

SIZE = 64


def x(requires_grad: bool = False) -> torch.Tensor:
    return torch.ones(SIZE, requires_grad=requires_grad)


def ours(calls: int, name: str = "torch.dropout", kept: int = 0) -> Row:
    return Row(name, "CPU kernel", "", calls, calls * SIZE, kept)


def functions() -> dict[tuple[str, str], object]:
    """Return every function that fastdrop's modules hold, and torch's kernels that its overrides do."""
    held = {
        (name, key): value
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "fastdrop"
        for key, value in vars(module).items()
        if callable(value)
    }
    for index, count in enumerate(aten.NATIVES):
        held["natives", str(index)] = inspect.getclosurevars(count).nonlocals["native"]
    return held


def test_all_functions_are_the_original_ones_again(installed):
    with fastdrop.explain():
        pass  # the first block of all overrides what is not yet
    before = functions()
    with pytest.raises(ZeroDivisionError), fastdrop.explain() as report:
        assert {key for key, value in functions().items() if value is not before[key]} >= {
            ("fastdrop.functional.dropout", "call"),
            ("fastdrop._patch.aten", "route"),
            ("fastdrop._ops.layout", "launch"),
            ("natives", "0"),
        }
        F.dropout(x())
        raise ZeroDivisionError
    after = functions()
    assert all(after[key] is value for key, value in before.items())
    F.dropout(x())
    assert report.rows == [ours(1)]


def test_nested_and_overlapping_blocks_count_for_themselves(installed):
    with fastdrop.explain() as outer:
        F.dropout(x())
        with fastdrop.explain() as inner:
            F.dropout(x())
            assert inner.rows == [ours(1)]
        F.dropout(x())
    assert inner.rows == [ours(1)] and outer.rows == [ours(3)]
    first, second = fastdrop.explain(), fastdrop.explain()
    of_first = first.__enter__()
    of_second = second.__enter__()
    first.__exit__(None, None, None)
    F.dropout(x())
    second.__exit__(None, None, None)
    assert of_first.rows == [] and of_second.rows == [ours(1)]


def test_threads_are_counted_together(installed):
    def work():
        for _ in range(100):
            F.dropout(x(True)).sum().backward()

    with fastdrop.explain() as report:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert report.rows == [ours(400, kept=400 * 4 * SIZE)]


def test_a_call_that_fails_is_not_counted(installed):
    with fastdrop.explain() as report:
        with pytest.raises(RuntimeError):
            F.dropout(torch.ones(SIZE, dtype=torch.int64))
        with pytest.raises(ValueError):
            functional.dropout(x(), 2.0)
        F.dropout(x())
    assert report.rows == [ours(1)]


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_recomputation_is_a_call_and_a_backward_is_none(installed, reentrant):
    with fastdrop.explain() as report:
        y = checkpoint(lambda leaf: F.dropout(leaf).sin(), x(True), use_reentrant=reentrant)
        functional.dropout(y).sum().backward()
    assert [(row.function, row.calls) for row in report.rows] == [("torch.dropout", 2), ("fastdrop.dropout", 1)]


def test_double_backward_and_jvp_are_not_counted():
    with fastdrop.explain() as report:
        weight = x(True)
        (gradient,) = torch.autograd.grad(functional.gaussian_dropout(weight).pow(2).sum(), weight, create_graph=True)
        gradient.sum().backward()
        torch.func.jvp(functional.dropout, (x(),), (x(),))
    assert [(row.function, row.calls) for row in report.rows] == [
        ("fastdrop.dropout", 1),
        ("fastdrop.gaussian_dropout", 1),
    ]


@pytest.mark.parametrize(
    "name, dtype",
    [
        ("dropout", torch.float32),
        ("dropout", torch.bfloat16),
        ("dropout2d", torch.float32),
        ("alpha_dropout", torch.float32),
        ("feature_alpha_dropout", torch.float32),
    ],
)
def test_bytes_not_kept_are_those_that_torch_keeps(name, dtype):
    leaf = torch.randn((4, 6, 5, 3), dtype=dtype, requires_grad=True)
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        getattr(F, name)(leaf, 0.5, True)
    with fastdrop.accelerated(), fastdrop.explain() as report:
        getattr(F, name)(leaf, 0.5, True)
        getattr(functional, name)(leaf, 0.5, True)
        with torch.no_grad():
            getattr(F, name)(leaf, 0.5, True)
    kept = sum(tensor.nbytes for tensor in saved)
    assert kept > 0 and [row.bytes_not_kept for row in report.rows] == [kept, kept]


def test_bytes_are_not_kept_in_place_and_in_a_join(installed):
    with fastdrop.explain() as report:
        F.dropout(x(True) * 1, inplace=True)
        functional.dropout_add(x(True), x(), 0.5)
        functional.gaussian_noise(x(True), 0.5)  # torch keeps nothing either
    assert report.rows == [
        ours(1, "fastdrop.dropout_add", 4 * SIZE),
        ours(1, "fastdrop.gaussian_noise"),
        ours(1, "torch.dropout_", 4 * SIZE),
    ]


def test_the_table_shows_the_rows_and_their_sums(installed):
    with fastdrop.explain() as report:
        assert str(report) == "no dropout was called"
        F.dropout(torch.ones(1000, 1000, requires_grad=True))
        F.dropout(x(), training=False)
    assert [line.split() for line in str(report).splitlines()] == [
        "function computed by reason calls elements bytes not kept".split(),
        "torch.dropout CPU kernel 1 1,000,000 4,000,000".split(),
        "torch.dropout none eval mode 1 64 0".split(),
        "total 2 1,000,064 4,000,000".split(),
    ]
    assert len({len(line) for line in str(report).splitlines()}) == 1


class Subclass(torch.Tensor):
    """Not a plain tensor."""


TENSORS = {
    "None": [x, lambda: torch.nn.Parameter(x())],
    "dtype complex64": [lambda: x().to(torch.complex64)],
    "dtype float8_e5m2": [lambda: x().to(torch.float8_e5m2)],
    "tensor subclass Subclass": [lambda: x().as_subclass(Subclass)],
    "sparse_coo tensor": [lambda: x().to_sparse()],
    "nested tensor": [lambda: torch.nested.nested_tensor([x()], layout=torch.strided)],
    "tensor subclass NestedTensor": [lambda: torch.nested.nested_tensor([x()], layout=torch.jagged)],
    "device meta": [lambda: x().to("meta")],
}


@pytest.mark.parametrize("reason", TENSORS)
@pytest.mark.filterwarnings("ignore:.*prototype")
def test_why_there_is_no_kernel_for_a_tensor(reason):
    for make in TENSORS[reason]:
        tensor = make()
        assert has_kernel(tensor) == (reason == "None")
        if not has_kernel(tensor):
            assert why_no_kernel(tensor) == reason
