"""Dropout in code that Dynamo takes up and leaves to eager mode."""

import pytest
import torch
from exact import SEED, P, factors, integers
from oracle import assert_same_bits, error_of

import fastdrop
from fastdrop.functional import dropout


@pytest.fixture
def compiled():
    torch._dynamo.reset()
    yield lambda function: torch.compile(function, backend="eager")
    torch._dynamo.reset()


COMPILER_ASKS = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


@COMPILER_ASKS
@pytest.mark.parametrize("inplace", [False, True])
def test_compiled_code_gives_results_and_gradients(compiled, inplace):
    x = integers(300).requires_grad_()
    y = compiled(lambda x: dropout(x * 3, P, True, inplace, seed=SEED) ** 2)(x)
    y.sum().backward()
    assert_same_bits(y, 9 * (factors(x) * x) ** 2)
    assert_same_bits(x.grad, 18 * factors(x) ** 2 * x)


@COMPILER_ASKS
def test_compiled_code_draws_as_eager_code_does(compiled):
    def twice(x):
        return dropout(x, P) + 10 * dropout(x, P)

    torch.manual_seed(5)
    wanted = twice(torch.ones(300))
    assert set(wanted.tolist()) == {0.0, 2.0, 20.0, 22.0}  # so the two masks differ
    run = compiled(twice)
    torch.manual_seed(5)
    assert_same_bits(run(torch.ones(300)), wanted)
    assert not torch.equal(run(torch.ones(300)), wanted)


@COMPILER_ASKS
def test_compiled_module_follows_its_mode(compiled):
    model = torch.nn.Sequential(torch.nn.ReLU(), fastdrop.Dropout(P))
    run = compiled(model)
    x = integers(300).requires_grad_()
    y = run(x)
    y.sum().backward()
    assert_same_bits(x.grad, y / x)
    assert set(x.grad.tolist()) == {0.0, 2.0}
    model.eval()
    assert_same_bits(run(x), x)
    assert error_of(lambda: compiled(lambda x: dropout(x, 1.5))(x))[1].startswith("dropout probability has to be")
