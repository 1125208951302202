"""torch.utils.checkpoint over dropouts with a generator of the user's, which it does not restore."""

import inspect

import pytest
import torch
from family_cases import CASES, words
from joined import AddedToItself
from torch import nn
from torch.utils.checkpoint import CheckpointFunction, checkpoint

import fastdrop
from fastdrop import functional

MODULES = {  # an input's shape, and a module
    "AlphaDropout": ((5, 40), lambda g: fastdrop.AlphaDropout(generator=g)),
    "DropBlock2d": ((2, 3, 7, 6), lambda g: fastdrop.DropBlock2d(0.5, 3, generator=g)),
    "DropBlock3d": ((1, 2, 5, 6, 7), lambda g: fastdrop.DropBlock3d(0.5, 3, generator=g)),
    "DropConnect": ((5, 40), lambda g: fastdrop.DropConnect(nn.Linear(40, 40), generator=g)),
    "Dropout": ((5, 40), lambda g: fastdrop.Dropout(generator=g)),
    "Dropout1d": ((5, 8, 3), lambda g: fastdrop.Dropout1d(generator=g)),
    "Dropout2d": ((5, 8, 3, 2), lambda g: fastdrop.Dropout2d(generator=g)),
    "Dropout3d": ((5, 8, 3, 2, 1), lambda g: fastdrop.Dropout3d(generator=g)),
    "DropoutAdd": ((5, 40), lambda g: AddedToItself(generator=g)),
    "DropPath": ((30, 2), lambda g: fastdrop.DropPath(0.5, generator=g)),
    "EmbeddingDropout": (None, lambda g: fastdrop.EmbeddingDropout(nn.Embedding(7, 40), generator=g)),
    "FeatureAlphaDropout": ((5, 8, 3), lambda g: fastdrop.FeatureAlphaDropout(generator=g)),
    "GaussianDropout": ((5, 40), lambda g: fastdrop.GaussianDropout(generator=g)),
    "GaussianNoise": ((5, 40), lambda g: fastdrop.GaussianNoise(0.5, generator=g)),
    "LockedDropout": ((4, 5, 8), lambda g: fastdrop.LockedDropout(generator=g)),
    "SpatialDropout1D": ((5, 3, 8), lambda g: fastdrop.SpatialDropout1D(0.5, generator=g)),
    "SpatialDropout2D": ((5, 3, 2, 8), lambda g: fastdrop.SpatialDropout2D(0.5, generator=g)),
    "SpatialDropout3D": ((5, 3, 2, 1, 8), lambda g: fastdrop.SpatialDropout3D(0.5, generator=g)),
    "StochasticDepth": ((30, 2), lambda g: fastdrop.StochasticDepth(0.5, "row", generator=g)),
    "VariationalDropout": ((4, 5, 8), lambda g: fastdrop.VariationalDropout(generator=g)),
    "WordDropout": (None, lambda g: fastdrop.WordDropout(0.5, 0, generator=g)),
}
every_form = pytest.mark.parametrize("use_reentrant", [True, False])
every_preservation = pytest.mark.parametrize("preserve", [True, False])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def step(function, x, *, checkpointed, how, generator):
    """Return a function's result, its gradient, and the state of the generator after it."""
    x = x.detach().requires_grad_()
    y = checkpoint(function, x, **how) if checkpointed else function(x)
    y.sum().backward()
    return y.detach(), x.grad, generator.get_state()


def assert_as_without(make, x, **how):
    """Check a checkpointed step against one that is not: make(generator) returns the function."""
    results = []
    for checkpointed in (False, True):
        own = generator()
        results.append(step(make(own), x, checkpointed=checkpointed, how=how, generator=own))
    for wanted, got in zip(*results, strict=True):
        assert torch.equal(wanted, got)
    assert results[0][1].count_nonzero()


def test_modules_are_all_there_are():
    with_generator = {
        name
        for name, kind in vars(fastdrop).items()
        if isinstance(kind, type) and issubclass(kind, nn.Module) and "generator" in inspect.signature(kind).parameters
    }
    assert set(MODULES) == with_generator


@every_preservation
@every_form
@pytest.mark.parametrize("name", CASES)
def test_functions(name, use_reentrant, preserve):
    def make(own):
        def function(x):
            y = CASES[name].function(torch.exp(x), generator=own)
            return (y * CASES[name].function(torch.exp(x), generator=own)).square()

        return function

    assert_as_without(make, CASES[name].input(), use_reentrant=use_reentrant, preserve_rng_state=preserve)


@every_form
@pytest.mark.parametrize("name", MODULES)
def test_modules(name, use_reentrant):
    shape, module_of = MODULES[name]
    scale = torch.rand(7 if shape is None else shape, generator=generator())

    def make(own):
        torch.manual_seed(0)
        layer = module_of(own)
        if name == "WordDropout":
            return lambda x: torch.exp(x)[layer(words())].square()
        if name == "EmbeddingDropout":
            return lambda x: torch.exp(layer(words()) * x.sum())
        return lambda x: torch.exp(layer(torch.exp(x))).square()

    assert_as_without(make, scale, use_reentrant=use_reentrant)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")  # torch's, of inner ones
@pytest.mark.parametrize("inner", [True, False, None])
@pytest.mark.parametrize("outer", [True, False, None])
def test_nested_checkpoints(outer, inner):
    def within(function, x, use_reentrant):
        return function(x) if use_reentrant is None else checkpoint(function, x, use_reentrant=use_reentrant)

    def make(own):
        def drop(x):
            return functional.dropout(x, generator=own)

        def part(x):
            return drop(torch.exp(drop(x))).square()

        return lambda x: within(lambda x: drop(within(part, drop(x), inner)).exp() + within(part, x, inner), x, outer)

    assert_as_without(make, torch.rand(5, 40), use_reentrant=False)


def test_backwards_one_after_another():
    own, x = generator(), torch.rand(50, requires_grad=True)
    y = checkpoint(lambda x: functional.dropout(torch.exp(x), generator=own).square(), x, use_reentrant=False)
    functional.dropout(x, generator=own)  # it goes on meanwhile
    for last in (False, False, True):
        (gradient,) = torch.autograd.grad(y.sum(), x, retain_graph=not last)
        torch.testing.assert_close(gradient, 2 * y)


@every_form
def test_two_generators_and_torchs(use_reentrant):
    def make(own):
        torch.manual_seed(0)
        other = torch.Generator().manual_seed(6)

        def function(x):
            for each in (own, other, None, torch.default_generator, own):
                x = functional.dropout(torch.cos(x), 0.2, generator=each)
            return (x * torch.rand_like(x)).square()

        return function

    assert_as_without(make, torch.rand(50) / 9, use_reentrant=use_reentrant)


@every_form
def test_bernoulli(uninstalled, use_reentrant):
    fastdrop.install(bernoulli=True)
    assert_as_without(
        lambda own: lambda x: torch.exp(x) ** 2 * torch.empty(5000).bernoulli_(0.5, generator=own),
        torch.rand(5000),
        use_reentrant=use_reentrant,
    )


@every_form
def test_a_part_without_gradients(use_reentrant):
    def make(own):
        def function(x):
            with torch.no_grad():
                noise = functional.dropout(torch.ones_like(x), generator=own)
            return torch.exp(x * noise)

        return function

    assert_as_without(make, torch.rand(50), use_reentrant=use_reentrant)


@every_form
def test_transforms_raise(use_reentrant):
    own, x = generator(), torch.rand(5, 40, requires_grad=True)

    def function(x):
        return torch.vmap(lambda row: functional.dropout(row, generator=own), randomness="different")(x) ** 2

    assert torch.isfinite(function(x)).all()
    with pytest.raises(RuntimeError, match="generator .* cannot be repeated by a checkpoint: give a seed"):
        checkpoint(function, x, use_reentrant=use_reentrant).sum().backward()


def test_a_draw_that_the_first_run_did_not_make_raises():
    own, x, runs = generator(), torch.rand(50, requires_grad=True), []

    def function(x):
        runs.append(None)
        return torch.exp(x) ** 2 if len(runs) == 1 else functional.dropout(torch.exp(x) ** 2, generator=own)

    y = checkpoint(function, x, use_reentrant=True)
    with pytest.raises(RuntimeError, match="not seen to draw: give a seed"):
        y.sum().backward()


class Unknown(CheckpointFunction):
    """A checkpoint of another library."""

    @staticmethod
    def forward(ctx, function, x):
        """Run without a graph."""
        ctx.function = function
        ctx.save_for_backward(x)
        with torch.no_grad():
            return function(x)

    @staticmethod
    def backward(ctx, grad_output):
        """Run again."""
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            y = ctx.function(x)
        torch.autograd.backward(y, grad_output)
        return None, x.grad


def test_checkpoints_of_other_libraries_are_warned_of():
    own, x = generator(), torch.rand(50, requires_grad=True)
    y = Unknown.apply(lambda x: functional.dropout(torch.exp(x), generator=own).square(), x)
    with pytest.warns(UserWarning, match="drawn from a generator in a backward"):
        y.sum().backward()


def test_noise_on_gradients_draws_and_warns_of_nothing(recwarn):
    own, x = generator(), torch.rand(50, requires_grad=True)
    x.register_hook(lambda grad: functional.gaussian_noise(grad, 0.1, generator=own))
    before = own.get_state()
    (x * 2).sum().backward()
    assert not torch.equal(own.get_state(), before)
    assert not recwarn.list
