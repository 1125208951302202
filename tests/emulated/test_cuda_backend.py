"""CUDA tensors through fastdrop, with CPU tensors in their place: all but the GPU is real.

The stand-in driver hands each launch to the PTX interpreter, which works on the tensors' own memory.
"""

import itertools
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import mask_reference
import numpy as np
import oracle
import pytest
import torch
from launches import launch_of

from fastdrop._ops.resolve import resolve

pytest.importorskip("numba_cuda")
pytest.importorskip("cuda.core")

from emulation import execute
from fake_torch_cuda import STREAM

import fastdrop
from fastdrop._devices import cuda as _cuda
from fastdrop._devices import kernels
from fastdrop._keys import seeds as _seeds
from fastdrop.functional import dropout

SIZES = [1, 7, 8, 33, 1000, 4097]


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.bfloat16, torch.float32),
        *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in (torch.float16, torch.float64)),
    ],
)
@pytest.mark.parametrize("n", SIZES)
def test_forward_and_backward(on_gpu, driver, dtype, n):
    x = torch.randn(n).to(dtype).requires_grad_()
    grad_output = torch.randn(n).to(dtype)
    y = dropout(x, 0.3, seed=2**64 - 3, offset=2**63)
    (grad,) = torch.autograd.grad(y, x, grad_output)
    oracle.assert_same_bits(y, oracle.dropout(x, 0.3, 2**64 - 3, 2**63))
    oracle.assert_same_bits(grad, oracle.dropout(grad_output, 0.3, 2**64 - 3, 2**63))
    assert {each.stream for each in driver.launches} == {STREAM}


def test_layouts(on_gpu):
    whole = torch.randn(6, 5, 7, 4)
    for x in (whole.transpose(0, 2), whole.to(memory_format=torch.channels_last), whole[:, 1:, ::2], whole[:, :1]):
        oracle.assert_same_bits(dropout(x, 0.4, seed=5), oracle.dropout(x, 0.4, 5))
        x.requires_grad_()
        dropout(x, 0.4, seed=5).sum().backward()
        oracle.assert_same_bits(x.grad, oracle.dropout(torch.ones_like(x), 0.4, 5))


def test_in_place(on_gpu):
    x = torch.randn(100)
    wanted = oracle.dropout(x, 0.5, 3)
    address = x.data_ptr()
    assert dropout(x, 0.5, inplace=True, seed=3) is x
    assert x.data_ptr() == address
    oracle.assert_same_bits(x, wanted)


def test_views_that_no_vector_access_fits(on_gpu):
    memory = torch.randn(1000)
    for x in (memory[1:], memory[3:], memory.double()[1:]):
        oracle.assert_same_bits(dropout(x, 0.5, seed=3), oracle.dropout(x, 0.5, 3))


def test_double_backward_and_torch_func(on_gpu):
    x = torch.randn(40, dtype=torch.float64)
    torch.autograd.gradgradcheck(lambda x: dropout(x, 0.5, seed=1) ** 2, x.clone().requires_grad_())
    kept = oracle.keep(x, 0.5, 1)
    jacobian = torch.func.jacrev(lambda x: dropout(x, 0.5, seed=1))(x)
    assert torch.equal(jacobian, torch.diag(kept * torch.tensor(2.0, dtype=torch.float64)))


def test_a_seed_in_device_memory_is_read_by_the_kernel(on_gpu, driver):
    seed, x, y = torch.tensor([77]), torch.randn(300), torch.empty(300)
    kernels.launch_into("dropout", x, y, 0.5, seed, 4)
    oracle.assert_same_bits(y, oracle.dropout(x, 0.5, 77, 4))
    given = driver.launches[-1].read(["u64"] * 10 + ["f64"] * 3 + ["u64"] * 2)
    assert given[6:8] == [0, seed.data_ptr()]


def test_launches_on_another_device_than_the_current_one(cuda, driver):
    x, y = torch.randn(300), torch.empty(300)
    _cuda.run_kernel("dropout", "float32", 1, launch_of(x.data_ptr(), y.data_ptr(), 0, 300, 9, 0, 0.5))
    assert (driver.launches[-1].device, driver.launches[-1].stream) == (1, STREAM + 1)
    assert cuda.device == 0
    oracle.assert_same_bits(y, oracle.dropout(x, 0.5, 9))


def test_every_replay_of_a_graph_draws_a_new_mask_that_its_backward_uses(on_gpu, driver, monkeypatch):
    """A replay is the recorded launches once more, after the recorded draw has written another seed."""
    drawn = torch.tensor([1])
    monkeypatch.setattr(_seeds, "draw", lambda generator=None: drawn)  # as on a GPU while a graph is captured
    x, grad_output = torch.ones(500, requires_grad=True), torch.ones(500)
    fastdrop.warmup([torch.float32])
    before = len(driver.launches)
    on_gpu.capturing = True
    with driver.capturing():
        y = dropout(x, 0.5)
        (grad,) = torch.autograd.grad(y, x, grad_output)
    recorded = driver.launches[before:]
    assert len(recorded) == 2
    for seed in (1, 2, -5):
        drawn.fill_(seed)
        for each in recorded:
            execute(each)
        oracle.assert_same_bits(y, oracle.dropout(x, 0.5, seed % 2**64))
        assert torch.equal(grad, y)


def test_nothing_is_loaded_while_a_graph_is_captured(cuda, driver):
    cuda.capturing = True
    with (
        driver.capturing(),
        pytest.raises(RuntimeError, match=r"float32 are not loaded on cuda:0 .*warmup\(device='cuda', ops='all'\)"),
    ):
        _cuda.is_ready("float32", 0)
    with driver.capturing(), pytest.raises(RuntimeError, match="float16 are not loaded on cuda:0 "):
        _cuda.run_kernel("dropout", "float16", 0, launch_of(0, 0, 0, 0, 1, 0, 0.5))
    assert not driver.images
    cuda.capturing = False
    assert _cuda.is_ready("float32", 0)


def test_where_there_are_no_kernels_it_says_once_why(cuda, driver):
    with pytest.warns(RuntimeWarning, match="native torch: .*CUDA_ERROR_NO_BINARY_FOR_GPU") as warned:
        for dtype in ("float32", "float16"):
            driver.fail_next_load(209)
            assert not _cuda.is_ready(dtype, 0)
        assert not _cuda.is_ready("float32", 0), "it is not asked for again"
    assert len(warned) == 1
    assert "CUDA_ERROR_NO_BINARY_FOR_GPU" in _cuda.reason("float16", 0)
    assert _cuda.is_ready("float32", 1), "the other device is asked for itself"


def test_where_packages_are_missing_it_says_what_to_install(cuda, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastdrop_kernels.cuda.launch", None)
    monkeypatch.delattr("fastdrop_kernels.cuda.launch")
    with pytest.warns(RuntimeWarning, match="native torch: "):
        assert not _cuda.is_ready("float32", 0)


def test_amd_gpus_are_left_alone(cuda, driver, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    with pytest.warns(RuntimeWarning, match="NVIDIA"):
        assert not _cuda.is_ready("float32", 0)
    assert not driver.images


class Generator:
    """A CUDA generator as torch shows it: a seed, and a count of the numbers given."""

    device = torch.device("cuda", 0)

    def __init__(self, seed: int) -> None:
        self.seed, self.offset = seed, 0

    def initial_seed(self) -> int:
        return self.seed

    def get_offset(self) -> int:
        return self.offset

    def set_offset(self, offset: int) -> None:
        assert offset % 4 == 0, "torch refuses others"
        self.offset = offset


class OnGpu:
    """What seeds ask of a tensor on a GPU."""

    is_cuda, device = True, torch.device("cuda", 0)

    def get_device(self) -> int:
        return 0


def draws(generator: Generator, n: int = 100) -> list[int]:
    return [resolve(OnGpu(), None, generator) for _ in range(n)]


def test_seeds_come_from_the_devices_generator(cuda, monkeypatch):
    default = Generator(2**64 - 1)
    monkeypatch.setattr(torch.cuda, "default_generators", (default,))
    first = [resolve(OnGpu(), None, None) for _ in range(5)]
    assert default.offset == 20
    default.offset = 0
    assert [resolve(OnGpu(), None, None) for _ in range(5)] == first, "the same state, the same seeds"
    assert draws(Generator(2**64 - 1), 5) == first, "a user's generator gives what torch's would"


def test_seeds_of_cuda_generators_differ(cuda):
    """Of one generator, of neighbouring ones, and from those that others have advanced by any multiple of 4."""
    seeds = [seed for manual in range(200) for seed in draws(Generator(manual))]
    assert len(set(seeds)) == len(seeds)
    assert all(-(2**63) <= seed < 2**63 for seed in seeds)
    masks = [mask_reference.keep_mask(np.arange(2000), 0.5, seed % 2**64) for seed in seeds[90:130]]
    agreement = [np.mean(one == other) for one, other in itertools.combinations(masks, 2)]
    assert 0.45 < min(agreement) and max(agreement) < 0.55, "five standard deviations"


class Slow(Generator):
    """One that lets other threads in between its reading and its setting."""

    def get_offset(self) -> int:
        offset = super().get_offset()
        time.sleep(1e-6)
        return offset


def test_threads_draw_different_seeds_from_one_generator(cuda):
    generator = Slow(5)
    with ThreadPoolExecutor(8) as pool:
        drawn = [seed for seeds in pool.map(lambda _: draws(generator, 500), range(8)) for seed in seeds]
    assert len(set(drawn)) == len(drawn) == generator.offset // 4


def test_a_given_seed_stays_what_it_was_when_it_was_given(cuda):
    assert resolve(OnGpu(), 5, None) == 5
    assert resolve(OnGpu(), torch.tensor([7]), None) == 7, "from another device it comes by value"


def test_the_operator_of_compiled_code(on_gpu, driver):
    x, grad_output = torch.randn(2, 1000)
    x.requires_grad_()
    compiled = torch.compile(lambda x: dropout(x, 0.3, seed=5, offset=2), fullgraph=True, backend="aot_eager")
    y = compiled(x)
    (grad,) = torch.autograd.grad(y, x, grad_output)
    oracle.assert_same_bits(y, oracle.dropout(x, 0.3, 5, 2))
    oracle.assert_same_bits(grad, oracle.dropout(grad_output, 0.3, 5, 2))
    assert driver.launches


def test_install(on_gpu, driver):
    x = torch.randn(4000)
    with fastdrop.accelerated():
        torch.manual_seed(0)
        y = torch.nn.functional.dropout(x, 0.3)
    torch.manual_seed(0)
    seed = int(torch.randint(2**63 - 1, ()))
    oracle.assert_same_bits(y, oracle.dropout(x, 0.3, seed))
    assert driver.launches
