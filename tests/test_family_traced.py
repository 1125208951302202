"""Members that torch has no operator for, in `torch.jit.trace`: a trace draws at each of its runs."""

import pytest
import torch

from fastdrop.functional import drop_path, dropout, gaussian_dropout, gaussian_noise, variational_dropout

pytestmark = [  # torch's own: of jit itself, and of shapes, which a trace holds fast
    pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

P = 0.4
MASKED = {
    "drop_path": (lambda x: drop_path(x, P, True), (-1, 1, 1)),
    "variational_dropout": (lambda x: variational_dropout(x, P, batch_first=True), (-1, 1, 8)),
    "dropout, noise_shape": (lambda x: dropout(x, P, noise_shape=(None, 1, None)), (-1, 1, 8)),
}


def traced(function):
    return torch.jit.trace(function, (torch.ones(50, 6, 8),), check_trace=False)


@pytest.mark.parametrize("name", MASKED)
def test_masks_are_new_at_each_run_and_shared_as_they_should_be(name):
    function, noise = MASKED[name]
    trace, x = traced(function), torch.full((50, 6, 8), 3.0, requires_grad=True)
    first, second = trace(x), trace(x)
    assert not torch.equal(first, second)
    for y in (first, second):
        assert y.unique().tolist() == pytest.approx([0.0, 3 / (1 - P)])
        shared = y[:, :1, : noise[2]]
        assert torch.equal(y, shared.expand_as(y))
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert torch.allclose(gradient, y / 3)
    rate = torch.stack([trace(x) == 0 for _ in range(40)]).float().mean()
    assert abs(rate - P) < 5 * (P * (1 - P) / (40 * 50)) ** 0.5


@pytest.mark.parametrize("function", [gaussian_dropout, gaussian_noise])
def test_noise_is_new_at_each_run(function):
    trace, x = traced(lambda x: function(x, P)), torch.ones(50, 6, 8)
    first, second = trace(x), trace(x)
    assert not torch.equal(first, second)
    std = (P / (1 - P)) ** 0.5 if function is gaussian_dropout else P
    for y in (first, second):
        assert abs(y.mean() - 1) < 5 * std / 2400**0.5
        assert abs(y.std() / std - 1) < 5 / (2 * 2400) ** 0.5
