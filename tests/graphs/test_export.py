"""Dropout in graphs that are exported or traced by make_fx, and of fake tensors."""

import io
import itertools

import oracle
import pytest
import torch
from exact import integers
from graphs import (
    ALL_LAYOUTS,
    HALF,
    LARGE_SEEDS,
    MARKS,
    SEED,
    SEEDS,
    SIZES,
    P,
    assert_dropout,
    calls,
    gradient,
    leaf,
    seeded,
    tensor,
    values,
)
from oracle import assert_same_bits, meaningful_strides
from torch import nn
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import fastdrop
from fastdrop.functional import dropout, dropout_mask

pytestmark = MARKS


class Net(nn.Module):
    """Two dropouts."""

    def __init__(self, drop: nn.Module | None = None) -> None:
        super().__init__()
        self.drop = fastdrop.Dropout(HALF) if drop is None else drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(x) + 10 * self.drop(x * 2)


class Keyed(nn.Module):
    """A dropout with a key."""

    def forward(self, x: torch.Tensor, seed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return dropout(x, P, seed=seed, offset=2), dropout_mask(x.shape, P, seed=seed, offset=2)


STRICT = pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])


def saved_and_loaded(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    return torch.export.load(buffer)


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")  # torch's own, in save
@STRICT
def test_export(strict):
    x, model, native = leaf(integers(20, 15)), Net(), Net(nn.Dropout(HALF))
    program = torch.export.export(model, (x,), strict=strict)
    wanted, masks_of_native = seeded(model, x), seeded(native, x)
    assert set((wanted / x).unique().tolist()) == {0.0, 2.0, 40.0, 42.0}
    for one in (program, saved_and_loaded(program)):
        run = one.module()
        assert_same_bits(seeded(run, x), masks_of_native)
        with fastdrop.accelerated():
            y = seeded(run, x)
            assert_same_bits(y, wanted)
            assert_same_bits(gradient(y, x), y / x)
            assert not torch.equal(run(x), y)


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")  # torch's own, in save
@STRICT
def test_export_with_keys(strict):
    x, seed = leaf(values(20, 15)), tensor(7)
    program = torch.export.export(Keyed(), (x, seed), strict=strict)
    for one in (program, program.run_decompositions(), saved_and_loaded(program)):
        assert calls(one.graph_module) == 1
        y, mask = one.module()(x, tensor(9))
        assert_dropout(y, x, 9, 2)
        assert torch.equal(mask, oracle.keep(x, P, 9, 2))


@STRICT
def test_export_with_keys_and_sizes_that_change(strict):
    auto = torch.export.Dim.AUTO
    shapes = {"x": (auto, auto), "seed": None}
    example = values(6, 40), torch.tensor(1)
    run = torch.export.export(Keyed(), example, strict=strict, dynamic_shapes=shapes).module()
    for seed, size in zip([*SEEDS, *LARGE_SEEDS], itertools.cycle(SIZES), strict=False):
        x = leaf(values(*size))
        y, mask = run(x, tensor(seed))
        assert_dropout(y, x, seed, 2)
        assert torch.equal(mask, oracle.keep(x, P, seed, 2))


@STRICT
def test_export_in_eval_mode(strict):
    program = torch.export.export(Net().eval(), (values(4),), strict=strict)
    assert calls(program.graph_module) == 0


MODES = pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])


@MODES
def test_make_fx(mode):
    x = integers(20, 15)

    def run(x: torch.Tensor) -> torch.Tensor:
        return dropout(x, HALF) + 10 * dropout(x * 2, HALF, inplace=True)

    graph = make_fx(run, tracing_mode=mode)(x)
    assert calls(graph) == 2
    assert_same_bits(seeded(graph, x), seeded(run, x))
    assert set((graph(x) / x).unique().tolist()) == {0.0, 2.0, 40.0, 42.0}
    assert not torch.equal(graph(x), graph(x))


@MODES
def test_make_fx_with_keys(mode):
    graph = make_fx(lambda x, seed: Keyed()(x, seed), tracing_mode=mode)(values(20, 15), torch.tensor(1))
    for seed in (1, 2, SEED):
        for x in [values(20, 15)] + [values(3, 8)] * (mode == "symbolic"):
            y, mask = graph(x, tensor(seed))
            assert_same_bits(y, oracle.dropout(x, P, seed, 2))
            assert torch.equal(mask, oracle.keep(x, P, seed, 2))


@MODES
def test_make_fx_of_a_backward(mode):
    def run(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = leaf(x)
        y = dropout(x.t(), HALF)
        return y, gradient(y, x, x.t().contiguous())

    x = integers(20, 15)
    graph = make_fx(run, tracing_mode=mode)(x)
    assert calls(graph) == 2
    for _ in range(2):
        y, got = graph(x)
        assert_same_bits(got, y.t())


@ALL_LAYOUTS
def test_fake_tensors_stay_fake(make):
    real, seed, mode = leaf(make(torch.float32)), tensor(3), FakeTensorMode()
    wanted, x = dropout(real, P), mode.from_tensor(real)
    for key in ({}, {"seed": 3}, {"seed": seed}, {"seed": mode.from_tensor(seed)}):
        with mode:
            y = dropout(x, P, **key)
            got = gradient(y, x)
            in_place = dropout(x.clone(), P, inplace=True, **key)
        for one in (y, got, in_place):
            assert isinstance(one, FakeTensor)
            assert (one.shape, one.dtype) == (wanted.shape, wanted.dtype)
        assert meaningful_strides(y) == meaningful_strides(wanted)


def test_masks_of_fake_tensors_are_fake():
    seed, mode = tensor(3), FakeTensorMode()
    for key in (3, seed, mode.from_tensor(seed)):
        with mode:
            mask = dropout_mask((3, 4), P, seed=key)
        assert isinstance(mask, FakeTensor)
        assert (mask.shape, mask.dtype) == ((3, 4), torch.bool)
