"""What `python -m bench.gpu` measures: the providers, what they keep in memory, and their masks in a graph."""

import pytest
import torch
from bench_on_cpu import CpuDevice, no_compiler, other_gradient, session
from processes import run_python

from bench.gpu import graphs, memory, providers
from fastdrop.functional import dropout, dropout_mask


def test_providers_do_what_they_are_named_for():
    device, (size, count) = CpuDevice(), (64, 3)
    dropouts = {"fastdrop": lambda x: dropout(x, providers.P, seed=providers.SEED)}
    use = providers.buffers(device, torch.float64, size, count, backward=True)
    made = providers.forward_backward(dropouts, use)
    for i in range(count):
        y, (dx,) = made["fastdrop"](i)
        made["fastdrop_into"](i)
        keep = dropout_mask(size, providers.P, seed=providers.SEED)
        assert torch.equal(y, use.ys[i]) and torch.equal(y, use.xs[i] * keep * 2)
        assert torch.equal(dx, use.dxs[i]) and torch.equal(dx, use.grads[i] * keep * 2)
        made["copy"](i)
        assert torch.equal(use.ys[i], use.xs[i]) and torch.equal(use.dxs[i], use.grads[i])
        clones = made["clone"](i)
        for clone, original in zip(clones, (use.xs[i], use.grads[i]), strict=True):
            assert torch.equal(clone, original) and clone.data_ptr() != original.data_ptr()
    use = providers.buffers(device, torch.float32, size, count, backward=False)
    made = providers.forward(dropouts, use)
    made["fastdrop_into"](1)
    assert torch.equal(made["fastdrop"](1), use.ys[1]) and not use.xs[1].requires_grad
    assert torch.equal(made["copy"](2), use.xs[2]) and torch.equal(made["clone"](2), use.xs[2])


def test_memory_that_stays_is_told_apart(monkeypatch):
    held = iter([1000, 1000 + 400 + 100])  # bytes before, and after a forward of 100 floats that keeps a mask
    device = CpuDevice()
    monkeypatch.setattr(device, "allocated", lambda: next(held))
    monkeypatch.setattr(device, "peak", lambda: 1000 + 400 + 400 + 250)
    x = torch.ones(100, requires_grad=True)
    found = memory.measure(device, lambda x: torch.nn.functional.dropout(x, 0.5), x)
    assert found == {"saved": 4.0, "kept": 1.0, "peak": 2.5}  # on the CPU native saves floats
    assert memory.saved_bytes(lambda x: dropout(x, 0.5), x) == 0


def backward_of_another_mask(x: torch.Tensor) -> torch.Tensor:
    return other_gradient(x, providers.P)


@pytest.mark.parametrize(
    ("chained", "wrong"),
    [
        (lambda x: dropout(x, providers.P), set()),
        (lambda x: dropout(x, providers.P, seed=0), {"fresh_masks", "independent"}),
        (backward_of_another_mask, {"same_masks"}),
    ],
)
def test_wrong_masks_in_a_graph_are_found(chained, wrong, monkeypatch):
    monkeypatch.setitem(providers.BUILDERS, "fastdrop", lambda: chained)
    outcome = graphs.section(session())
    (row,) = (row for row in outcome.data["rows"] if row["name"] == "fastdrop")
    assert {check for check in graphs.CHECKS if not row[check]} == wrong
    assert row["seconds"] > 0


def test_what_cannot_be_captured_is_told(monkeypatch):
    monkeypatch.setitem(providers.BUILDERS, "fastdrop", no_compiler)
    outcome = graphs.section(session())
    assert {row["name"]: row.get("failed") for row in outcome.data["rows"]} == {
        "native": None,
        "fastdrop": "RuntimeError: no compiler to be found",
    }


def test_triton_drops_as_it_should_and_its_backward_has_the_forwards_mask():
    pytest.importorskip("triton")
    code = """
import torch
from bench.gpu.triton_dropout import dropout
x = torch.randn(100_003)
x.requires_grad_()
y = dropout(x, 0.25)
(dx,) = torch.autograd.grad(y, x, torch.ones_like(x))
kept = y != 0
assert abs(kept.float().mean() - 0.75) < 0.01, kept.float().mean()
assert torch.equal(dx, kept * torch.tensor(1 / 0.75))
assert torch.equal(y[kept], x[kept] * torch.tensor(1 / 0.75))
assert not torch.equal(dropout(x, 0.25), y)
print("good")
"""
    assert run_python(code, TRITON_INTERPRET="1") == "good"
