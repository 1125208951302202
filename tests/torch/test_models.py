"""Real models whose dropouts are replaced: what is ours, where nothing changes, gradients and statistics."""

from collections import Counter
from typing import Final

import pytest
import torch
from real_models import (
    DROPOUTS,
    WAYS,
    P,
    all_equal,
    all_models,
    all_ways,
    build,
    gradients,
    loss_of,
    on_one_thread,
    results,
    seeded,
)
from torch import nn
from torch.profiler import ProfilerActivity, profile

import fastdrop
from bench.models import Batch

pytestmark = on_one_thread

DRAWS: Final = 2000


# Which dropouts are ours


def calls(model: nn.Module, inputs: Batch) -> Counter[str]:
    """Return how often a forward and backward calls what, as torch's profiler sees it."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        results(model, inputs)
    return Counter({event.key: event.count for event in seen.key_averages()})


def assert_native(seen: Counter[str], native: int, all: int) -> None:
    """Check how many dropouts make torch's mask; each of the others draws one number, its seed."""
    assert (seen["aten::bernoulli_"], seen["aten::random_"]) == (native, all - native)


@all_models
@pytest.mark.sampled(2)
def test_every_dropout_is_ours(name):
    model, dropouts = build(name), DROPOUTS[name]
    inputs, all = model.draw(2), dropouts.elements + dropouts.channels
    assert_native(calls(model.module, inputs), all, all)
    with fastdrop.accelerated():
        seen = calls(model.module, inputs)
    assert_native(seen, 0, all)
    assert (seen["aten::dropout"], seen["aten::feature_dropout"]) == (dropouts.elements, dropouts.channels)
    assert seen["DropFunctionBackward"] == all
    assert_native(calls(model.module, inputs), all, all)


@all_models
def test_replace_takes_those_of_modules_and_restore_gives_them_back(name):
    model, dropouts = build(name), DROPOUTS[name]
    inputs, all = model.draw(2), dropouts.elements + dropouts.channels
    native = results(model.module, inputs)
    fastdrop.replace(model.module)
    assert_native(calls(model.module, inputs), all - dropouts.in_modules, all)
    assert all_equal(results(model.module, inputs), native) == (dropouts.in_modules == 0)
    fastdrop.restore(model.module)
    assert all_equal(results(model.module, inputs), native)


# What they compute


@all_ways
@pytest.mark.parametrize(("p", "training"), [(0.0, True), (P, False)])
def test_where_nothing_is_dropped_nothing_changes(name, way, p, training):
    model = build(name, p)
    model.module.train(training)
    inputs = model.draw(2)
    native = results(model.module, inputs)
    with WAYS[way](model.module):
        assert all_equal(results(model.module, inputs), native)


@all_ways
def test_seeds_repeat_outputs_and_gradients(name, way):
    model = build(name)
    inputs = model.draw(2)
    native = results(model.module, inputs)
    with WAYS[way](model.module):
        ours = results(model.module, inputs)
        assert all_equal(results(model.module, inputs), ours)
        assert not torch.equal(seeded(model.module, inputs, seed=2), ours[0])
    assert not torch.equal(ours[0], native[0])
    assert all_equal(results(model.module, inputs), native)


@all_ways
def test_gradients_are_those_of_the_masks(name, way):
    """Move all parameters along the gradient: the loss moves so if the gradient comes from the forward's masks."""
    model = build(name)
    module, step = model.module.double(), 1e-6
    inputs = tuple(x.double() if x.is_floating_point() else x for x in model.draw(2))
    parameters = list(module.parameters())
    start = nn.utils.parameters_to_vector(parameters).detach()

    def loss_at(vector: torch.Tensor) -> float:
        nn.utils.vector_to_parameters(vector, parameters)
        return loss_of(seeded(module, inputs)).item()

    with WAYS[way](module):
        gradient = nn.utils.parameters_to_vector(gradients(module, seeded(module, inputs)))
        move = gradient * (step / gradient.norm())
        slope = (loss_at(start + move) - loss_at(start - move)) / (2 * step)
    assert slope == pytest.approx(gradient.norm().item(), rel=1e-6)


def assert_same_mean(one: torch.Tensor, other: torch.Tensor) -> None:
    """Check that means over draws, the first dimension, differ by no more than 5 standard errors."""
    error = ((one.var(0) + other.var(0)) / len(one)).sqrt()
    assert (error > 0).all()
    assert ((one.mean(0) - other.mean(0)).abs() <= 5 * error).all()


def distances(outputs: torch.Tensor) -> torch.Tensor:
    """Return each draw's squared distance from the mean of all: their mean is the spread."""
    return (outputs - outputs.mean(0)).square().sum(1)


@all_ways
@pytest.mark.sampled(3)
def test_outputs_have_natives_mean_and_spread(name, way):
    model = build(name)
    draws = 4 * DRAWS if DROPOUTS[name].channels else DRAWS  # a draw has few channels
    inputs = tuple(x.expand(draws, *x.shape[1:]) for x in model.draw(1))  # the same sample, a mask for each
    with torch.no_grad():
        native = seeded(model.module, inputs).flatten(1)
        with WAYS[way](model.module):
            ours = seeded(model.module, inputs, seed=2).flatten(1)
    assert_same_mean(ours, native)
    assert_same_mean(distances(ours), distances(native))
