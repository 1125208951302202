"""Selective checkpoints, whose modes see torch's operators and none of our draws."""

import functools
from contextlib import nullcontext

import pytest
import torch
from family_cases import CASES
from torch.nn import functional as F
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts
from torch.utils.flop_counter import FlopCounterMode

import fastdrop
from fastdrop import functional

aten = torch.ops.aten
RANDOM = {aten.bernoulli_.float, aten.native_dropout.default, aten.bernoulli.default, aten.bernoulli.p}
SAVE, RECOMPUTE = CheckpointPolicy.MUST_SAVE, CheckpointPolicy.PREFER_RECOMPUTE
POLICIES = {
    "random operators": lambda _, operator, *args, **kwargs: SAVE if operator in RANDOM else RECOMPUTE,
    "all": lambda *args, **kwargs: SAVE,
    "none": lambda *args, **kwargs: RECOMPUTE,
}
TORCHS = {
    "dropout": lambda x: F.dropout(x, 0.4),
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.4, True),
    "dropout2d": lambda x: F.dropout2d(x, 0.4),
    "feature_alpha_dropout": lambda x: F.feature_alpha_dropout(x, 0.4, True),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.4),
}
every_policy = pytest.mark.parametrize("policy", POLICIES)
every_preservation = pytest.mark.parametrize("preserve", [True, False])


def assert_as_without(function, x, policy, preserve):
    """Check the result and the gradient of a checkpoint against those that there are without it."""
    contexts = functools.partial(create_selective_checkpoint_contexts, POLICIES[policy])
    run = functools.partial(
        checkpoint, use_reentrant=False, preserve_rng_state=preserve, context_fn=contexts, determinism_check="none"
    )
    results = []
    for call in (lambda f, x: f(x), run):
        torch.manual_seed(4)
        leaf = x.detach().requires_grad_()
        y = call(lambda x: torch.exp(function(x)).square(), leaf)
        y.sum().backward()
        results.append((y.detach(), leaf.grad))
    for wanted, got in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert results[0][1].count_nonzero()


@every_preservation
@every_policy
@pytest.mark.parametrize("name", CASES)
def test_the_family(name, policy, preserve):
    assert_as_without(CASES[name].function, CASES[name].input(), policy, preserve)


@every_preservation
@every_policy
@pytest.mark.parametrize("name", TORCHS)
def test_torchs_operators(installed, name, policy, preserve):
    x = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    assert_as_without(TORCHS[name], x, policy, preserve)


@every_policy
def test_words(policy):
    words = torch.arange(7).repeat(5)

    def function(weight):
        return weight[functional.word_dropout(words, 0.5, 0)]

    assert_as_without(function, torch.rand(7, 6), policy, preserve=False)


@every_policy
@every_preservation
def test_a_generator_of_the_users(policy, preserve):
    own = torch.Generator()

    def function(x):
        return functional.dropout(torch.cos(functional.dropout(x, generator=own)))

    x = torch.rand(50)
    torch.manual_seed(0)
    leaf = x.requires_grad_()
    contexts = functools.partial(create_selective_checkpoint_contexts, POLICIES[policy])
    y = checkpoint(
        lambda x: function(torch.exp(x)).square(),
        leaf, use_reentrant=False, preserve_rng_state=preserve, context_fn=contexts,
    )  # fmt: skip
    state = own.get_state()
    (gradient,) = torch.autograd.grad(y.sum(), leaf)
    assert torch.equal(own.get_state(), state)
    dropped = torch.exp(x.detach()) * 2
    inner = torch.where(gradient != 0, dropped, 0)  # cos'(0) = 0
    wanted = torch.where(y == 0, 0, 2 * torch.cos(inner) * 2 * -torch.sin(inner) * 2 * dropped)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-5)
    assert 0 < gradient.count_nonzero() < 50


@pytest.mark.parametrize("watched", [nullcontext, lambda: FlopCounterMode(display=False)], ids=["plain", "watched"])
@pytest.mark.parametrize("name", TORCHS)
def test_what_else_is_random_finds_its_generator_as_it_was(installed, name, watched):
    x = torch.rand(4, 3, 6, 6, requires_grad=True)

    def function(x):
        noise = TORCHS[name](x).detach() * 0 + torch.rand_like(x)
        return (x * noise * torch.rand_like(x)).square()

    y = checkpoint(
        function, x, use_reentrant=False,
        context_fn=functools.partial(create_selective_checkpoint_contexts, POLICIES["none"]),
    )  # fmt: skip
    with watched():
        (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient * x / 2, y)


def test_native_dropout_and_in_place_raise_or_are_right(uninstalled):
    """Whatever native refuses, ours refuses or does."""
    x = torch.rand(5, 40)
    for call in (lambda x: torch.native_dropout(x, 0.4, True)[0], lambda x: F.dropout(x * 1, 0.4, inplace=True)):
        for policy in ("random operators", "all"):
            with fastdrop.accelerated():
                try:
                    assert_as_without(call, x, policy, preserve=False)
                except RuntimeError as error:
                    assert "cached during selective activation checkpoint has been mutated" in str(error)
