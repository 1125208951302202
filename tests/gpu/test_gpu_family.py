"""Every member of the family on a real GPU: the CPU's masks and bits, in place, in CUDA graphs, warm."""

import pytest
import torch
from family_cases import CASES, IN_PLACE, P, words
from oracle import assert_same_bits
from torch.utils.flop_counter import FlopCounterMode

import fastdrop
from fastdrop import functional
from fastdrop._devices import cuda

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and a torch that is built with CUDA"),
]

DEVICE = torch.device("cuda")
KEY = {"seed": 2**64 - 12345, "offset": 2**63 + 9}
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]

every_case = pytest.mark.parametrize("name", CASES)


def on_gpu(x: torch.Tensor) -> torch.Tensor:
    """Return a copy on the GPU with x's strides."""
    return torch.empty_like(x, device=DEVICE).copy_(x)


@every_case
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_and_backward_are_the_cpus(name, dtype):
    case, x = CASES[name], CASES[name].input(dtype)
    got, wanted = case.results(on_gpu(x), **KEY), case.results(x, **KEY)
    assert not torch.equal(wanted[0], x)
    assert got[0].is_cuda and got[0].stride() == wanted[0].stride()
    for one, other in zip(got, wanted, strict=True):
        assert_same_bits(one.cpu(), other)


@every_case
def test_it_is_our_kernels_that_run(name):
    case = CASES[name]
    case.results(on_gpu(case.input()), **KEY)
    loaded = {(name, dtype) for name, dtype, _ in cuda._loaded}
    for kernel in {case.forward, case.backward} - {None}:
        assert (kernel, "bool" if kernel == "mask" else "float32") in loaded


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name):
    case = CASES[name]
    x = on_gpu(case.input())
    address = x.data_ptr()
    assert case.function(x, inplace=True, **KEY) is x and x.data_ptr() == address
    assert_same_bits(x.cpu(), case.function(case.input(), **KEY))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_words(dtype):
    given = words().to(dtype)
    got = functional.word_dropout(given.to(DEVICE), P, 9, **KEY)
    assert got.is_cuda and torch.equal(got.cpu(), functional.word_dropout(given, P, 9, **KEY))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("dropout2d", (33, 65, 57, 57)),
        ("dropout2d, channels last", (33, 65, 57, 57)),
        ("alpha_dropout", (3, 1_000_003)),
        ("feature_alpha_dropout", (65, 31, 999)),
        ("gaussian_dropout", (3, 1_000_003)),
        ("gaussian_noise", (3, 1_000_003)),
        ("drop_path", (65, 197, 192)),
        ("variational_dropout", (65, 33, 651)),
        ("drop_block2d", (9, 65, 57, 57)),
        ("drop_block3d", (3, 17, 33, 57, 57)),
        ("drop_connect", (1001, 1003)),
    ],
)
def test_more_elements_than_a_gpu_has_threads(name, shape):
    case = CASES[name]._replace(shape=shape)
    for got, wanted in zip(case.results(on_gpu(case.input()), **KEY), case.results(case.input(), **KEY), strict=True):
        assert_same_bits(got.cpu(), wanted)


def test_warmup_loads_all_that_members_take(monkeypatch):
    monkeypatch.setattr(cuda, "_loaded", {})
    fastdrop.warmup([torch.float32], DEVICE, ops="all")
    warm = set(cuda._loaded)
    for case in CASES.values():
        case.results(on_gpu(case.input()), **KEY)
    assert set(cuda._loaded) == warm


@every_case
def test_every_replay_of_a_graph_draws_anew(name):
    case = CASES[name]
    x, side = on_gpu(case.input()).requires_grad_(), torch.cuda.Stream()
    fastdrop.warmup([torch.float32], DEVICE, ops="all")
    with torch.cuda.stream(side):  # what torch itself does only once
        case.results(x)
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = case.function(x)
        is_factor = case.backward == case.forward and y.shape == x.shape
        grad = torch.autograd.grad(y, x, torch.ones_like(y))[0] if is_factor else None
    results = []
    for _ in range(30):  # a whole batch is dropped or not
        graph.replay()
        results.append(y.detach().clone())
        if grad is not None:
            torch.testing.assert_close(x * grad, y)
    assert any(not torch.equal(one, results[0]) for one in results)


@every_case
def test_manual_seed_reproduces(name):
    case, results = CASES[name], []
    x = on_gpu(case.input())
    for _ in range(2):
        torch.manual_seed(3)
        results.append([case.function(x) for _ in range(30)])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    assert any(not torch.equal(one, results[0][0]) for one in results[0])


@every_case
def test_whoever_watches_sees_the_same(name):
    case = CASES[name]
    x = on_gpu(case.input())
    with FlopCounterMode(display=False):
        watched = case.results(x, **KEY)
    torch.testing.assert_close(watched, case.results(x, **KEY))


@every_case
def test_compiled_code_has_the_masks_of_eager_code(name):
    case = CASES[name]
    x = on_gpu(case.input())
    torch._dynamo.reset()  # else it gives up: one function, compiled for so many members
    compiled = case._replace(function=torch.compile(case.function, fullgraph=True, backend="aot_eager"))
    for got, wanted in zip(compiled.results(x, **KEY), case.results(x, **KEY), strict=True):
        assert_same_bits(got, wanted)
