"""Compiled code takes as many numbers from torch's generator as eager code does, so what comes next is the same."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from exact import P
from graphs import INDUCTOR, MARKS, Function, compiled, seeded
from torch.utils.flop_counter import FlopCounterMode

import fastdrop
from fastdrop import functional

pytestmark = MARKS

WORDS = torch.arange(12).reshape(3, 4) % 7
IMAGES, SERIES, VOLUMES, ROWS = (4, 3, 5, 5), (4, 3, 5), (2, 3, 5, 5, 5), (7, 3)
FAMILY: dict[str, tuple[Function, tuple[int, ...]]] = {
    "dropout": (functional.dropout, IMAGES),
    "dropout, in place": (lambda x, p: functional.dropout(x * 1, p, inplace=True), IMAGES),
    "dropout, noise_shape": (partial(functional.dropout, noise_shape=(1, None, None, None)), IMAGES),
    "dropout1d": (functional.dropout1d, SERIES),
    "dropout2d": (functional.dropout2d, IMAGES),
    "dropout3d": (functional.dropout3d, VOLUMES),
    "alpha_dropout": (partial(functional.alpha_dropout, training=True), IMAGES),
    "feature_alpha_dropout": (partial(functional.feature_alpha_dropout, training=True), IMAGES),
    "drop_path": (partial(functional.drop_path, training=True), IMAGES),
    "drop_path, unscaled": (partial(functional.drop_path, training=True, scale_by_keep=False), IMAGES),
    "stochastic_depth": (partial(functional.stochastic_depth, mode="batch"), IMAGES),
    "variational_dropout": (functional.variational_dropout, SERIES),
    "drop_block2d": (partial(functional.drop_block2d, block_size=1), IMAGES),
    "drop_block3d": (partial(functional.drop_block3d, block_size=1), VOLUMES),
    "drop_connect": (lambda x, p: functional.drop_connect(torch.ones(2, 3), x, p=p), ROWS),
    "embedding_dropout": (lambda x, p: functional.embedding_dropout(WORDS[: len(x)], x, p), ROWS),
    "word_dropout": (lambda x, p: functional.word_dropout(x.long(), p, 1), IMAGES),
    "gaussian_dropout": (lambda x, p: functional.gaussian_dropout(x, min(p, 0.9), True), IMAGES),
    "gaussian_noise": (lambda x, p: functional.gaussian_noise(x, p, True), IMAGES),
}
NATIVE: dict[str, tuple[Function, tuple[int, ...]]] = {
    "F.dropout": (torch.nn.functional.dropout, IMAGES),
    "F.dropout, in place": (lambda x, p: torch.nn.functional.dropout(x * 1, p, inplace=True), IMAGES),
    "F.dropout2d": (torch.nn.functional.dropout2d, IMAGES),
    "F.alpha_dropout": (lambda x, p: torch.nn.functional.alpha_dropout(x, p, True), IMAGES),
    "F.feature_alpha_dropout": (lambda x, p: torch.nn.functional.feature_alpha_dropout(x, p, True), IMAGES),
}
CASES = [
    pytest.param(*case, p, size, id=f"{name}, {what}", marks=marks)
    for what, p, size, marks in [
        ("certain", 1.0, None, ()),
        ("empty", P, 0, ()),
        ("empty and certain", 1.0, 0, pytest.mark.slow),
    ]
    for name, case in (FAMILY | NATIVE).items()
]


def state_after(function: Callable[[], Any]) -> torch.Tensor:
    torch.manual_seed(7)
    function()
    return torch.get_rng_state()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("function", "shape", "p", "size"), CASES)
@pytest.mark.sampled(3)
def test_the_generator_advances_as_in_eager_code(function, shape, p, size):
    x = torch.ones(shape if size is None else (size, *shape[1:]))
    wanted = state_after(lambda: function(x, p))
    # The backend that decomposes as Inductor does: torch's own graph of F.dropout at p = 1 would draw.
    assert torch.equal(state_after(lambda: compiled(function, "aot_eager_decomp_partition")(x, p)), wanted)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("function", "shape", "p", "size"), CASES)
def test_the_generator_advances_as_where_nobody_watches(function, shape, p, size):
    x = torch.ones(shape if size is None else (size, *shape[1:]))
    wanted = state_after(lambda: function(x, p))
    with FlopCounterMode(display=False):
        assert torch.equal(state_after(lambda: function(x, p)), wanted)


def one_certain(x: torch.Tensor) -> torch.Tensor:
    return functional.dropout(x, 1.0) + functional.dropout(x, P)


@pytest.mark.parametrize("backend", ["eager", "aot_eager", INDUCTOR])
def test_a_mask_after_one_that_is_certain(backend):
    x = torch.ones(300)
    wanted = seeded(functional.dropout, x, P)
    assert 0 < wanted.count_nonzero() < 300
    assert torch.equal(seeded(one_certain, x), wanted)
    assert torch.equal(seeded(compiled(one_certain, backend), x), wanted)


def test_one_graph_for_sizes_of_which_one_is_zero():
    # A size that is dynamic is guarded against 0, so both graphs know.
    run = compiled(lambda x: functional.dropout(x, P), dynamic=True)
    for size in (300, 0, 301, 0):
        x = torch.ones(size)
        torch.manual_seed(7)
        y, state = run(x), torch.get_rng_state()
        torch.manual_seed(7)
        assert torch.equal(y, functional.dropout(x, P))
        assert torch.equal(state, torch.get_rng_state())


def test_a_size_that_only_the_graph_knows_compiles():
    def run(x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x[x > 0], P)

    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        call = compiled(run)
        for x in (torch.ones(300), torch.zeros(300)):
            assert torch.equal(seeded(call, x), seeded(run, x))


# Dropouts whose results are not used


def unused(x: torch.Tensor) -> torch.Tensor:
    functional.dropout(x, P)
    return functional.dropout(x, P)


def unused_native(x: torch.Tensor) -> torch.Tensor:
    torch.nn.functional.dropout(x, P)
    return torch.nn.functional.dropout(x, P)


UNUSED = pytest.mark.parametrize("function", [unused, unused_native])


@UNUSED
@pytest.mark.parametrize("backend", ["aot_eager", INDUCTOR])
def test_draws_for_nothing_stay_where_torch_is_to_draw_as_in_eager_code(function, backend):
    # Native's are kept by the same setting, and without it are never those of eager code.
    x = torch.ones(300)
    with torch._inductor.config.patch(fallback_random=True):
        if function is unused_native:
            assert torch.equal(seeded(compiled(function, backend), x), seeded(function, x))
        with fastdrop.accelerated():
            torch._dynamo.reset()
            wanted, state = seeded(function, x), torch.get_rng_state()
            assert torch.equal(seeded(compiled(function, backend), x), wanted)
            assert torch.equal(torch.get_rng_state(), state)


@UNUSED
@pytest.mark.usefixtures("installed")
def test_else_they_leave_the_graph_with_the_dropout(function):
    # As docs/replacing-dropout.md says: the mask is then that of a program without the dropout that is not used.
    x = torch.ones(300)
    assert torch.equal(seeded(compiled(function), x), seeded(functional.dropout, x, P))
