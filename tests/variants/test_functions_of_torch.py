"""The functions that torch has too, but for dropout: what is taken or refused, and with which words, as by torch's."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from oracle import error_of

import fastdrop
from fastdrop import functional
from fastdrop._ops.variants import VARIANTS

MODULES = {
    name: module
    for variant in VARIANTS
    if variant.operator not in (None, "dropout")  # which tests/torch/test_semantics_* are about
    for name, module in zip(variant.functions, variant.modules, strict=True)
}
SHAPE = (5, 6, 2, 3, 2, 2)
BATCHED = {"dropout1d": 3, "dropout2d": 4, "dropout3d": 5}  # the rank of an input with samples and channels
every_function = pytest.mark.parametrize("name", MODULES)

Call = Callable[..., torch.Tensor]


class Outcome(NamedTuple):
    """What can be compared of two calls that draw different masks."""

    error: tuple[str, str] | None
    warned: list[tuple[type[Warning], str, str, int]]
    result: list[Any]


def outcome(function: Call, x: torch.Tensor, *args: Any) -> Outcome:
    result: list[Any] = []

    def call() -> None:
        y = function(x, *args)
        place = None if y.is_sparse else y.data_ptr() == x.data_ptr()
        result.extend((y.shape, y.dtype, y.layout, y.requires_grad, place))
        result.extend([] if y.is_sparse else [y.stride()])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        error = error_of(call)
    return Outcome(error, [(w.category, str(w.message), w.filename, w.lineno) for w in caught], result)


def both(name: str) -> tuple[Call, Call]:
    return getattr(functional, name), getattr(torch.nn.functional, name)


KINDS: dict[str, Callable[[tuple[int, ...]], torch.Tensor]] = {
    "plain": torch.ones,
    "leaf": lambda shape: torch.ones(shape, requires_grad=True),
    "recorded": lambda shape: torch.ones(shape, requires_grad=True) * 1,
    "empty": lambda shape: torch.ones([0 if size == 6 else size for size in shape] if len(shape) > 1 else [0]),
    "integers": lambda shape: torch.ones(shape, dtype=torch.int64),
    "complex": lambda shape: torch.ones(shape, dtype=torch.complex64),
    "expanded": lambda shape: torch.ones([*shape, 1]).expand(*shape, 4)[..., 0] if shape else torch.ones(()),
    "shared memory": lambda shape: torch.ones(()).expand(shape),
    "sparse": lambda shape: torch.ones(shape).to_sparse(),
}


INPUTS = [
    (name, rank, kind)
    for name in MODULES
    for rank in range(7)
    for kind in KINDS
    # Native refuses these without samples even where nothing is to be done; ours returns them as they are.
    if kind not in ("leaf", "sparse") or rank == BATCHED.get(name, rank)
]


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("name", "rank", "kind"), INPUTS)
@pytest.mark.sampled(3)
def test_every_rank_is_taken_or_refused_as_by_native(name, rank, kind, inplace):
    ours, native = both(name)
    make, shape = KINDS[kind], SHAPE[:rank]
    for p, training in [(0.0, True), (0.5, True), (1.0, True), (0.5, False)]:
        wanted = outcome(native, make(shape), p, training, inplace)
        assert outcome(ours, make(shape), p, training, inplace) == wanted, (p, training)


@every_function
@pytest.mark.parametrize(
    "p", [-0.1, 1.1, float("nan"), "a", None, torch.tensor([0.1, 0.2]), torch.tensor(2.0)], ids=str
)
def test_bad_p_as_native(name, p):
    ours, native = both(name)
    x = torch.ones(SHAPE[: BATCHED.get(name, 2)])
    for training in (True, False):
        wanted = error_of(lambda training=training: native(x, p, training))
        assert error_of(lambda training=training: ours(x, p, training)) == wanted
    module = MODULES[name]
    assert error_of(lambda: getattr(fastdrop, module)(p)) == error_of(lambda: getattr(torch.nn, module)(p))


@every_function
@pytest.mark.parametrize("x", [[1.0, 2.0], None], ids=str)
def test_what_is_no_tensor(name, x):
    ours, native = both(name)
    assert error_of(lambda: ours(x, 0.5, True)) == error_of(lambda: native(x, 0.5, True)) is not None
