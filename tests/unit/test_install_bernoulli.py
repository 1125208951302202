"""install(bernoulli=True): bernoulli_ takes the stream's masks too, where it can."""

import functools
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import oracle
import pytest
import torch
from exotic_tensors import EXOTIC
from oracle import FLOATS
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch_operators import LAYOUTS, Call, P, is_ours, outcome, seeds

import fastdrop

pytestmark = pytest.mark.usefixtures("uninstalled")


@pytest.fixture
def bernoulli() -> Iterator[None]:
    with fastdrop.accelerated(bernoulli=True):
        yield


def bernoulli_is_ours() -> bool:
    (seed,) = seeds()
    return torch.equal(torch.empty(4096).bernoulli_(0.3).bool(), oracle.keep(torch.empty(4096), 0.7, seed))


def test_bernoulli_comes_and_goes():
    assert not bernoulli_is_ours()
    fastdrop.install()
    assert not bernoulli_is_ours()
    fastdrop.install(bernoulli=True)
    assert bernoulli_is_ours() and is_ours()
    fastdrop.install()
    assert not bernoulli_is_ours() and is_ours()
    with fastdrop.accelerated():
        with fastdrop.accelerated(bernoulli=True):
            assert bernoulli_is_ours()
        assert not bernoulli_is_ours() and is_ours()
    fastdrop.uninstall()
    assert not is_ours()


DTYPES = [*FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
BERNOULLI_LAYOUTS = LAYOUTS | {"transposed": lambda x: x.transpose(0, 3)}
del BERNOULLI_LAYOUTS["expanded"]


@pytest.mark.parametrize("layout", BERNOULLI_LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bernoulli(bernoulli, dtype, layout):
    x = BERNOULLI_LAYOUTS[layout](torch.full((20, 30, 4, 5), 7.0).to(dtype))
    strides = x.stride()
    (seed,) = seeds()
    assert x.bernoulli_(P) is x
    assert x.stride() == strides and x.dtype is dtype
    assert torch.equal(x.double(), oracle.keep(x, 1 - P, seed).double())


@pytest.mark.parametrize("p", [1e-3, 0.1, 0.5, 0.9])
def test_rate_of_bernoulli(bernoulli, p):
    n = 1_000_000
    torch.manual_seed(0)
    for x in (torch.empty(n).bernoulli_(p), torch.bernoulli(torch.empty(n), p)):
        assert set(x.unique().tolist()) == {0.0, 1.0}
        assert abs(int(x.sum()) - n * p) < 4 * (n * p * (1 - p)) ** 0.5


def test_generator_of_bernoulli(bernoulli):
    def draw(seed: int) -> torch.Tensor:
        return torch.empty(4096).bernoulli_(P, generator=torch.Generator().manual_seed(seed))

    torch.manual_seed(0)
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    after = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), after)  # the default generator has given nothing
    generator = torch.Generator()
    assert not torch.equal(*(torch.empty(4096).bernoulli_(P, generator=generator) for _ in range(2)))


def bernoulli_outcomes(function: Call) -> tuple[Any, Any]:
    native = outcome(function)
    with fastdrop.accelerated(bernoulli=True):
        return outcome(function), native


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, 1.1, float("nan"), "a", None, torch.tensor(0.3), torch.full((4096,), P)])
def test_other_p_of_bernoulli(p):
    ours, native = bernoulli_outcomes(lambda: torch.zeros(4096).bernoulli_(p))
    assert ours == native


def test_bernoulli_of_small_tensors_is_natives():
    ours, native = bernoulli_outcomes(lambda: torch.zeros(64).bernoulli_(P))
    assert ours == native


LARGE = {
    **{str(dtype): functools.partial(torch.zeros, 4096, dtype=dtype) for dtype in (torch.complex64, torch.uint16)},
    "float8": lambda: torch.zeros(4096).to(torch.float8_e4m3fn),
    "meta": lambda: torch.zeros(4096, device="meta"),
    "sparse": lambda: torch.zeros(64, 64).to_sparse(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(4096), 0.1, 0, torch.quint8),
    "expanded": lambda: torch.zeros(1).expand(4096),
    "leaf": lambda: torch.zeros(4096, requires_grad=True),
}


@pytest.mark.filterwarnings("ignore:.*quantiz:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_bernoulli_hands_over(make):
    ours, native = bernoulli_outcomes(lambda: make().bernoulli_(P))
    assert ours == native


def test_bernoulli_keeps_subclasses(bernoulli):
    cls = type(EXOTIC["subclass"]())
    x = torch.full((4096,), 7.0).as_subclass(cls)
    assert x.bernoulli_(P) is x and type(x) is cls
    assert set(x.tolist()) == {0.0, 1.0}


def test_bernoulli_of_fake_tensors(bernoulli):
    with FakeTensorMode():
        assert type(torch.empty(4096).bernoulli_(P)) is FakeTensor
        assert type(F.dropout2d(torch.empty(64, 64, 2, 2), P)) is FakeTensor


def test_dispatch_mode_sees_bernoulli():
    names = []

    class Names(TorchDispatchMode):
        """Write down each operator."""

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            """Write it down."""
            names.append(str(func))
            return func(*args, **(kwargs or {}))

    for block in (nullcontext, functools.partial(fastdrop.accelerated, bernoulli=True)):
        x = torch.empty(4096)
        with block(), Names():
            x.bernoulli_(P)
    assert names == ["aten.bernoulli_.float"] * 2


def test_gradient_of_bernoulli(bernoulli):
    x = torch.ones(4096, requires_grad=True)
    (grad,) = torch.autograd.grad((x * 1).bernoulli_(P).sum(), x)
    assert not grad.any()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # Dynamo asks
@pytest.mark.parametrize("function", [lambda x: x * torch.empty_like(x).bernoulli_(P), lambda x: F.dropout2d(x, P)])
def test_bernoulli_in_compiled_code_stays_random(bernoulli, function):
    torch._dynamo.reset()
    run = torch.compile(function, backend="aot_eager", fullgraph=True)
    x = torch.ones(64, 64, 1, 1)
    first, second = run(x), run(x)
    torch._dynamo.reset()
    assert len(first.unique()) == len(second.unique()) == 2
    assert not torch.equal(first, second)
