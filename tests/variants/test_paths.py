"""Drop path and stochastic depth: the stream's masks over rows and batches, and the originals' arguments and errors.

timm 1.0.31 and torchvision 0.28 cannot be imported beside a CPU build of torch. What is theirs is stated here: their
formula, x * bernoulli(1 - p) / (1 - p) with a draw a row or a batch, and the texts of their errors.
"""

import inspect
import re

import broadcast_masks
import pytest
import torch
from broadcast_masks import values
from oracle import FLOATS, assert_same_bits, meaningful_strides

import fastdrop
from fastdrop.functional import drop_path, stochastic_depth

P, SEED, OFFSET = 0.4, 11, 3
KEY = {"seed": SEED, "offset": OFFSET}
NAN, INF = float("nan"), float("inf")
FORMS = {  # name -> member with p, and whether it has a mask of rows and a scale
    "drop_path": (lambda x, p=P: drop_path(x, p, True, **KEY), True, True),
    "drop_path-unscaled": (lambda x, p=P: drop_path(x, p, True, False, **KEY), True, False),
    "row": (lambda x, p=P: stochastic_depth(x, p, "row", **KEY), True, True),
    "batch": (lambda x, p=P: stochastic_depth(x, p, "batch", **KEY), False, True),
}
EACH_FORM = pytest.mark.parametrize("form", FORMS)
INPUTS = {
    "1-d": lambda dtype: values(7, dtype=dtype),
    "odd": lambda dtype: values(5, 3, 7, dtype=dtype),
    "one-row": lambda dtype: values(1, 9, dtype=dtype),
    "threads": lambda dtype: values(67, 1021, dtype=dtype),
    "transposed": lambda dtype: values(6, 40, dtype=dtype).t(),
    "channels_last": lambda dtype: values(6, 3, 5, 4, dtype=dtype).to(memory_format=torch.channels_last),
    "sliced": lambda dtype: values(30, 9, dtype=dtype)[::2, 1:],
    "expanded": lambda dtype: values(1, 9, dtype=dtype).expand(20, 9),
}


def wanted(form: str, x: torch.Tensor, p: float = P) -> torch.Tensor:
    _, rows, scaled = FORMS[form]
    noise = [len(x) if rows else 1, *[1] * (x.dim() - 1)]
    return broadcast_masks.drop(x, noise, p, SEED, OFFSET, scaled)


@EACH_FORM
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("make", INPUTS.values(), ids=INPUTS)
@pytest.mark.sampled(4)
def test_masks_are_the_streams(form, dtype, make):
    x = make(dtype)
    y = FORMS[form][0](x)
    assert_same_bits(y, wanted(form, x))
    assert meaningful_strides(y) == meaningful_strides(torch.empty_like(x))


@EACH_FORM
def test_complex(form):
    x = values(20, 3, 2)
    y = torch.view_as_real(FORMS[form][0](torch.view_as_complex(x)))
    assert torch.allclose(y, wanted(form, x))


@EACH_FORM
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_p_of_0_and_1(form, p):
    x = values(5, 4)
    y = FORMS[form][0](x, p)
    assert_same_bits(y, x if p == 0 else torch.zeros_like(x))
    assert (y is x) == (p == 0)


@EACH_FORM
def test_a_dropped_row_is_plus_zero_whatever_it_was(form):
    x = torch.full((40, 6), -1.0)
    dropped = wanted(form, torch.ones_like(x), 0.9) == 0
    assert dropped.any()
    x[dropped] = torch.tensor([NAN, INF, -INF, -0.0, -1.0, NAN]).repeat(40, 1)[dropped]
    y = FORMS[form][0](x, 0.9)
    assert_same_bits(y[dropped], torch.zeros(int(dropped.sum())))
    assert torch.isfinite(y).all()


@EACH_FORM
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)], ids=str)
def test_empty(form, shape):
    x = torch.ones(shape)
    assert FORMS[form][0](x) is x


@pytest.mark.parametrize("scale_by_keep", [True, False])
def test_rate_and_scale(scale_by_keep):
    n = 100_000
    y = drop_path(torch.ones(n, 2), 0.3, True, scale_by_keep, seed=1)
    assert torch.equal(y[:, 0], y[:, 1])
    rate = (y[:, 0] == 0).double().mean().item()
    assert abs(rate - 0.3) < 5 * (0.3 * 0.7 / n) ** 0.5
    kept = 1 / 0.7 if scale_by_keep else 1.0
    assert torch.allclose(y[y != 0], torch.tensor(kept))


def test_a_batch_is_kept_whole_or_dropped_whole():
    n = 4000
    x = torch.ones(2, 3)
    sums = torch.tensor([stochastic_depth(x, 0.25, "batch", seed=7, offset=i).sum() for i in range(n)])
    assert torch.allclose(sums[sums != 0], torch.tensor(6 / 0.75))
    assert abs((sums == 0).double().mean().item() - 0.25) < 5 * (0.25 * 0.75 / n) ** 0.5


def test_signatures_are_the_originals_by_position():
    def positional(function):
        return [
            (parameter.name, parameter.default)
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]

    empty = inspect.Parameter.empty
    # timm: drop_path(x, drop_prob=0., training=False, scale_by_keep=True)
    assert [default for _, default in positional(drop_path)] == [empty, 0.0, False, True]
    assert [default for _, default in positional(fastdrop.DropPath)] == [0.0, True]
    # torchvision: stochastic_depth(input, p, mode, training=True), StochasticDepth(p, mode)
    assert positional(stochastic_depth) == [("input", empty), ("p", empty), ("mode", empty), ("training", True)]
    assert positional(fastdrop.StochasticDepth) == [("p", empty), ("mode", empty)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("p", [-0.1, 1.1, INF])
def test_p_outside_its_range(p, training):
    x = torch.ones(3)
    text = f"drop probability has to be between 0 and 1, but got {p}"  # torchvision's, whatever the mode
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        stochastic_depth(x, p, "neither", training)
    with pytest.raises(ValueError, match=f"^{re.escape('dropout probability has to be between 0 and 1, but got')}"):
        drop_path(x, p, training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", ["rows", "", None, "BATCH"])
def test_mode_is_one_of_two(mode, training):
    with pytest.raises(ValueError, match=f"^mode has to be either 'batch' or 'row', but got {mode}$"):
        stochastic_depth(torch.ones(3), 0.0, mode, training)


@EACH_FORM
def test_inputs_that_have_no_rows(form):
    f, rows, _ = FORMS[form]
    if rows:
        with pytest.raises(ValueError, match="at least 1 dimension"):
            f(torch.tensor(1.0))
    else:
        assert f(torch.tensor(2.0)).shape == ()
    for x in (torch.ones(3, dtype=torch.int64), [1.0], None):
        with pytest.raises(TypeError, match="needs a"):
            f(x)


def test_modules():
    x = values(50, 4)
    pairs = [
        (fastdrop.DropPath(P), drop_path(x, P, True, **KEY)),
        (fastdrop.DropPath(P, scale_by_keep=False), drop_path(x, P, True, False, **KEY)),
        (fastdrop.StochasticDepth(P, "row"), stochastic_depth(x, P, "row", **KEY)),
        (fastdrop.StochasticDepth(P, "batch"), stochastic_depth(x, P, "batch", **KEY)),
    ]
    for module, result in pairs:
        assert_same_bits(module(x, **KEY), result)
        assert module.eval()(x) is x
    layer = fastdrop.DropPath(P, generator=torch.Generator().manual_seed(3))
    assert_same_bits(layer(x), drop_path(x, P, True, generator=torch.Generator().manual_seed(3)))
    layer.drop_prob = 1.0  # as a schedule of timm's does
    assert layer.p == layer.drop_prob == 1.0
    assert not layer(x).any()


def test_modules_check_p_at_the_call_too_and_look_like_the_originals():
    assert repr(fastdrop.DropPath(0.1)) == "DropPath(drop_prob=0.100)"
    assert repr(fastdrop.StochasticDepth(0.1, "row")) == "StochasticDepth(p=0.1, mode=row)"
    for module in (fastdrop.DropPath(0.5), fastdrop.StochasticDepth(0.5, "row")):
        module.p = 1.5
        with pytest.raises(ValueError):
            module(torch.ones(3))
