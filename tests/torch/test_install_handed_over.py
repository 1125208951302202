"""install(): what is left to native torch stays as it is, and so do its errors."""

import functools
from typing import Any

import pytest
import torch
from exotic_tensors import EXOTIC
from oracle import FLOATS, assert_same_bits, error_of
from torch import nn
from torch_operators import call, every_operator, outcome

import fastdrop

pytestmark = pytest.mark.usefixtures("uninstalled")

MAKERS = EXOTIC | {
    "quantized by channel": lambda: torch.quantize_per_channel(
        torch.ones(3, 4), torch.ones(3), torch.zeros(3), 0, torch.qint8
    ),
    **{
        str(dtype): functools.partial(torch.ones, 3, 40, dtype=dtype)
        for dtype in (torch.int64, torch.uint8, torch.bool, torch.complex64, torch.complex128)
    },
    "float8": lambda: torch.ones(3, 40).to(torch.float8_e4m3fn),
    "conjugate": lambda: torch.ones(3, 40, dtype=torch.complex64).conj(),
    "expanded": lambda: torch.ones(3, 1).expand(3, 40),
    "1-D": lambda: torch.ones(40),
    "0-D": lambda: torch.tensor(1.0),
    "empty": lambda: torch.ones(3, 0),
    "parameter": lambda: nn.Parameter(torch.ones(3, 40)),
}
ARGUMENTS = [*((p, True) for p in (0.5, 0.0, 1.0, 1.1, float("nan"))), (0.5, False), (-0.1, False)]
NAMES_OF_PLAIN = {"parameter", "leaf", "view of a leaf", "multi-view", "inference", "view made in no_grad", "expanded"}


def without_masks(result: Any) -> Any:
    """Return an outcome with the values that occur in each tensor in place of its elements."""
    if not isinstance(result, list):
        return result
    return [(*y[:-1], {round(each, 3) for each in y[-1]}) if isinstance(y, tuple) else y for y in result]


@pytest.mark.filterwarnings("ignore:.*(Sparse CSR|nested tensors|is deprecated|quantize):UserWarning")  # of the makers
@pytest.mark.filterwarnings("ignore:.*quantiz:DeprecationWarning")
@pytest.mark.parametrize("maker", MAKERS)
@every_operator
@pytest.mark.sampled(3)
def test_handed_over(name, maker):
    def function() -> Any:
        x = MAKERS[maker]()
        y = call(name, x, p, train)
        return y, y is x

    for p, train in ARGUMENTS:
        native = outcome(function)
        with fastdrop.accelerated():
            ours = outcome(function)
        # Plain tensors' masks are ours, and those of what is around a plain one that is dropped in its turn.
        is_ours = maker in NAMES_OF_PLAIN or (maker == "1-D" and "feature" not in name)
        is_ours |= maker in ("nested", "jagged") and name in ("dropout", "native_dropout")
        is_ours |= maker == "wrapper" and name == "native_dropout"
        if is_ours and (p, train) == (0.5, True):
            native, ours = without_masks(native), without_masks(ours)
        if (maker, p) == ("coo", 1) and isinstance(native, list):
            native, ours = native[0][:-1], ours[0][:-1]  # native's elements are what was in memory before
        assert ours == native, (p, train)


@pytest.mark.parametrize(("p", "train"), [(0.0, True), (1.0, True), (0.5, False), (1.0, False)])
@pytest.mark.parametrize("dtype", FLOATS)
@every_operator
def test_what_is_not_random_is_natives_bit_for_bit(name, dtype, p, train):
    def results() -> tuple[bool, list[torch.Tensor]]:
        x = torch.tensor([[1.5, -1.5, 0.0, -0.0], [float("inf"), -float("inf"), float("nan"), 1e-3]], dtype=dtype)
        y = call(name, x, p, train)
        return y is x, torch.utils._pytree.tree_leaves(y)

    same_object, native = results()
    with fastdrop.accelerated():
        assert results()[0] == same_object
        for y, wanted in zip(results()[1], native, strict=True):
            if wanted.dtype is torch.bool:  # the mask of native_dropout
                assert torch.equal(y, wanted)
            else:
                assert_same_bits(y, wanted)


@every_operator
def test_errors_are_natives(name):
    x = torch.ones(2, 3)
    for args in [("a", 0.5, True), (x, "a", True), (x, None, True), (x, 0.5, "a"), (x,), (x, 0.5, True, 3)]:
        wanted = error_of(lambda args=args: getattr(torch.ops.aten, name).default(*args))
        assert wanted is not None
        with fastdrop.accelerated():
            assert error_of(lambda args=args: getattr(torch.ops.aten, name).default(*args)) == wanted
