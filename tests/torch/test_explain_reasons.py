"""Every fate that a dropout call can have, and the reason that `fastdrop.explain` gives for it."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import fastdrop
from fastdrop import functional

BLOCK = torch.ones(2, 3, 8, 8)
WORDS = torch.arange(9)


class Subclass(torch.Tensor):
    """Not a plain tensor."""


class Watching(TorchDispatchMode):
    """Sees all operators, and runs them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **kwargs or {})


def x(*size: int) -> torch.Tensor:
    return torch.ones(size or (64,))


def watched(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with Watching():
        function(x())


def rows_of(run: Callable[[], object]) -> list[tuple[str, str, str, int]]:
    with fastdrop.explain() as report:
        run()
    return [(row.function, row.computed_by, row.reason, row.elements) for row in report.rows]


KERNEL = "CPU kernel", ""
OURS = {
    "dropout": (lambda: functional.dropout(x()), *KERNEL),
    "dropout, in place": (lambda: functional.dropout(x(), inplace=True), *KERNEL),
    "dropout, at p = 1": (lambda: functional.dropout(x(), 1.0), *KERNEL),
    "dropout, in eval mode": (lambda: functional.dropout(x(), training=False), "none", "eval mode"),
    "dropout, at p = 0": (lambda: functional.dropout(x(), 0.0), "none", "p = 0"),
    "dropout, of nothing": (lambda: functional.dropout(torch.ones(0)), "none", "no elements"),
    "dropout, complex": (
        lambda: functional.dropout(x().to(torch.complex64), seed=1),
        "torch, same mask",
        "dtype complex64",
    ),
    "dropout, of a subclass": (
        lambda: functional.dropout(x().as_subclass(Subclass)),
        "torch",
        "tensor subclass Subclass",
    ),
    "dropout, differentiated": (
        lambda: torch.func.grad(lambda each: functional.dropout(each).sum())(x()),
        "CPU kernel",
        "torch.func transform",
    ),
    "dropout, watched": (lambda: watched(functional.dropout), "torch, same mask", "dispatch mode"),
    "dropout, traced": (
        lambda: torch.jit.trace(functional.dropout, x(), check_trace=False),
        "torch",
        "traced or exported",
    ),
    "dropout with a noise_shape": (lambda: functional.dropout(x(2, 3, 4), noise_shape=(2, 1, 4)), *KERNEL),
    "dropout with a noise_shape, which lies over no memory": (
        lambda: functional.dropout(x(2, 3, 4, 5), noise_shape=(2, 1, 4, 1)),
        "torch, same mask",
        "no kernel applies this mask",
    ),
    "feature dropout": (lambda: functional.dropout2d(BLOCK), *KERNEL),
    "alpha_dropout": (lambda: functional.alpha_dropout(x(), training=True), *KERNEL),
    "feature_alpha_dropout": (lambda: functional.feature_alpha_dropout(BLOCK, training=True), *KERNEL),
    "gaussian_dropout": (lambda: functional.gaussian_dropout(x(), 0.5), *KERNEL),
    "gaussian_noise": (lambda: functional.gaussian_noise(x(), 0.5), *KERNEL),
    "drop_path": (lambda: functional.drop_path(x(4, 4), 0.5, True), *KERNEL),
    "stochastic_depth": (lambda: functional.stochastic_depth(x(4, 4), 0.5, "row"), *KERNEL),
    "variational_dropout": (lambda: functional.variational_dropout(x(3, 2, 4)), *KERNEL),
    "dropout, of a weight": (lambda: functional.drop_connect(x(2, 4), x(3, 4), p=0.5), *KERNEL),
    "dropout_add": (lambda: functional.dropout_add(x(), x(), 0.5), *KERNEL),
    "dropout_add, in eval mode": (lambda: functional.dropout_add(x(), x(), 0.5, False), "none", "eval mode"),
    "drop_block2d": (lambda: functional.drop_block2d(BLOCK, 0.1, 3), *KERNEL),
    "drop_block2d, watched": (
        lambda: watched(lambda _: functional.drop_block2d(BLOCK, 0.1, 3)),
        "torch, same mask",
        "dispatch mode",
    ),
    "drop_block2d, in eval mode": (
        lambda: functional.drop_block2d(BLOCK, 0.1, 3, training=False),
        "none",
        "eval mode",
    ),
    "embedding_dropout": (lambda: functional.embedding_dropout(WORDS, x(9, 4), 0.5), *KERNEL),
    "embedding_dropout, at p = 0": (lambda: functional.embedding_dropout(WORDS, x(9, 4), 0.0), "none", "p = 0"),
    "word_dropout": (
        lambda: functional.word_dropout(WORDS, 0.5, 1),
        "torch, same mask",
        "no kernel applies this mask",
    ),
    "word_dropout, in eval mode": (lambda: functional.word_dropout(WORDS, 0.5, 1, False), "none", "eval mode"),
}


@pytest.mark.parametrize("case", OURS)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_functions_of_ours(case):
    run, computed_by, reason = OURS[case]
    function = f"fastdrop.{case.split(', ')[0]}"
    assert [row[:3] for row in rows_of(run)] == [(function, computed_by, reason)]


TORCHS = {
    "dropout": (lambda: F.dropout(x()), *KERNEL),
    "dropout_": (lambda: F.dropout(x(), inplace=True), *KERNEL),
    "feature_dropout": (lambda: F.dropout2d(BLOCK), *KERNEL),
    "feature_dropout_": (lambda: F.dropout3d(BLOCK[None].clone(), inplace=True), *KERNEL),
    "alpha_dropout": (lambda: F.alpha_dropout(x(), 0.5, True), *KERNEL),
    "feature_alpha_dropout": (lambda: F.feature_alpha_dropout(BLOCK, 0.5, True), *KERNEL),
    "native_dropout": (lambda: torch.native_dropout(x(), 0.5, True), *KERNEL),
    "native_dropout, in eval mode": (lambda: torch.native_dropout(x(), 0.5, False), "none", "eval mode"),
    "dropout, in an LSTM": (lambda: torch.nn.LSTM(4, 4, 2, dropout=0.5)(x(3, 2, 4)), *KERNEL),
    "dropout, in attention": (lambda: F.scaled_dot_product_attention(*[x(1, 2, 3, 4)] * 3, dropout_p=0.5), *KERNEL),
    "dropout, in eval mode": (lambda: F.dropout(x(), training=False), "none", "eval mode"),
    "dropout, at p = 0": (lambda: F.dropout(x(), 0.0), "none", "p = 0"),
    "dropout, at p = 1": (lambda: F.dropout(x(), 1.0), "torch", "p = 1"),
    "dropout, of a subclass": (
        lambda: torch.dropout(torch.nn.Buffer(x().as_subclass(Subclass)), 0.5, True),
        "torch",
        "tensor subclass Subclass",
    ),
    "dropout, watched": (lambda: watched(F.dropout), "torch, same mask", "dispatch mode"),
    "dropout, traced": (lambda: torch.jit.trace(F.dropout, x(), check_trace=False), *KERNEL),
    "dropout, differentiated": (
        lambda: torch.func.grad(lambda q: F.scaled_dot_product_attention(q, q, q, dropout_p=0.5).sum())(x(1, 2, 3, 4)),
        "torch",
        "torch.func transform",
    ),
}


@pytest.mark.parametrize("case", TORCHS)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_operators_of_torch(installed, case):
    run, computed_by, reason = TORCHS[case]
    assert [row[:3] for row in rows_of(run)] == [(f"torch.{case.split(', ')[0]}", computed_by, reason)]


@pytest.mark.parametrize("name", ["dropout", "dropout_", "feature_dropout", "alpha_dropout", "native_dropout"])
def test_without_install_they_are_torchs(uninstalled, name):
    assert not fastdrop.is_installed()
    torch.manual_seed(0)
    expected = getattr(torch, name)(BLOCK.clone(), 0.5, True)
    torch.manual_seed(0)
    results = []
    (row,) = rows_of(lambda: results.append(getattr(torch, name)(BLOCK.clone(), 0.5, True)))
    assert row == (f"torch.{name}", "torch", "install() is off", BLOCK.numel())
    torch.testing.assert_close(results[0], expected, rtol=0, atol=0)


def test_installed_within_a_block(uninstalled):
    with fastdrop.explain() as report:
        F.dropout(x())
        fastdrop.install()
        F.dropout(x())
    assert [row[:4] for row in report.rows] == [
        ("torch.dropout", "CPU kernel", "", 1),
        ("torch.dropout", "torch", "install() is off", 1),
    ]


def test_what_is_recorded_computes_nothing(installed):
    with fastdrop.explain() as report:
        torch.export.export(torch.nn.Dropout(), (x(),))
        with torch._subclasses.FakeTensorMode():
            F.dropout(x())
            functional.dropout(x())
    assert report.rows == []
