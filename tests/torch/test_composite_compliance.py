"""Torch's own checks that formulas are made of what subclasses and modes can see: its CompositeCompliance tests."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import oracle
import pytest
import torch
from family_cases import CASES
from torch.testing._internal import composite_compliance
from torch.utils._pytree import tree_leaves

NAMES = ["dropout", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]
OURS = ["dropout", "dropout2d", "alpha_dropout", "feature_alpha_dropout", "gaussian_dropout", "drop_path"]
pytestmark = pytest.mark.filterwarnings("ignore:dropout2d. Received a 3D input:UserWarning")


@pytest.fixture(scope="module")
def operators() -> dict[str, Any]:
    from torch.testing._internal.common_methods_invocations import op_db  # takes seconds, so not when tests are listed

    return {op.name.removeprefix("nn.functional."): op for op in op_db if op.variant_test_name in ("", "with_train")}


def samples(op: Any, requires_grad: bool) -> Iterator[Any]:
    found = list(op.sample_inputs("cpu", torch.float64, requires_grad=requires_grad))
    assert len(found) >= 7
    return iter(found)


def but_for_masks(sample: Any) -> Callable[..., None]:
    """Return a comparison where neither drops: a subclass's mask is native's, a plain tensor's is ours."""
    p = float(sample.kwargs.get("p", sample.args[0] if sample.args else 0.5))
    fills = [torch.zeros((), dtype=torch.float64)]  # of gradients and tangents, and of dropout
    if 0 < p < 1:
        fills.append(torch.tensor(oracle.alpha_factors(p, torch.float64)[2], dtype=torch.float64))

    def assert_equal(actual: Any, expected: Any, **_: Any) -> None:
        pairs = list(zip(tree_leaves(actual), tree_leaves(expected), strict=True))
        assert pairs
        for one, two in pairs:
            assert (type(one), one.shape, one.dtype) == (type(two), two.shape, two.dtype)
            dropped = torch.stack([torch.isclose(y, fill) for y in (one, two) for fill in fills]).any(0)
            torch.testing.assert_close(one[~dropped], two[~dropped], equal_nan=True)

    return assert_equal


@pytest.mark.parametrize("name", NAMES)
def test_under_a_mode(installed, operators, name):
    for sample in samples(operators[name], requires_grad=False):
        composite_compliance.check_with_mode(
            operators[name], [sample.input, *sample.args], sample.kwargs, but_for_masks(sample)
        )


@pytest.mark.parametrize("name", NAMES)
def test_backward(installed, operators, name):
    op = operators[name]
    for sample in samples(op, requires_grad=True):
        composite_compliance.check_backward_formula(
            op.get_op(), [sample.input, *sample.args], sample.kwargs, sample.output_process_fn_grad,
            op.gradcheck_wrapper, but_for_masks(sample),
        )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode(installed, operators, name):
    op = operators[name]
    for sample in samples(op, requires_grad=True):
        composite_compliance.check_forward_ad_formula(
            op.get_op(), [sample.input, *sample.args], sample.kwargs, op.gradcheck_wrapper, but_for_masks(sample)
        )


@pytest.mark.parametrize("name", OURS)
def test_our_functions_have_one_mask_for_all_classes(name):
    def assert_close(actual: Any, expected: Any, **_: Any) -> None:
        torch.testing.assert_close(actual, expected)

    call, x = functools.partial(CASES[name].function, seed=3), CASES[name].input(torch.float64)
    composite_compliance.check_backward_formula(call, [x.requires_grad_()], {}, assert_equal_fn=assert_close)
    composite_compliance.check_forward_ad_formula(call, [x], {}, assert_equal_fn=assert_close)
