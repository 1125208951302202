"""The launcher on the stand-in driver: what arrives, in how many blocks, from which thread; what a failure leaves."""

import itertools
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from launches import launch_of

pytest.importorskip("numba_cuda")
pytest.importorskip("cuda.core")

from cuda import core
from emulation import PLAIN, STORAGE, execute, interpreted
from fake_torch_cuda import STREAM, fresh_launcher, torch_cuda
from standin import GPUS, Driver, Launch
from standin.example import in_thread

from fastdrop._devices import cuda
from fastdrop_kernels.cpu import launch as cpu_launch
from fastdrop_kernels.cpu import registry as cpu_kernels
from fastdrop_kernels.cuda import cubins, launch
from fastdrop_kernels.cuda.dtypes import traits

DEVICES = range(len(GPUS))
ALWAYS = [("mask", "bool", 1), ("dropout", "float32", 0), ("dropout", "float32", 1)]  # name, dtype, device
THREADS = 256  # of a block
RESIDENT = 2048  # threads that a multiprocessor holds
NOWHERE = 0x7F12_3456_7890  # an address that nothing is read from


@pytest.fixture(autouse=True)
def launcher(driver: Driver) -> Iterator[None]:
    """Have a launcher that has loaded nothing."""
    with fresh_launcher():
        yield


def values(dtype: str, n: int) -> np.ndarray:
    """Return n numbers as a kernel's dtype holds them."""
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    return (x.view(np.uint32) >> 16).astype(np.uint16) if dtype == "bfloat16" else x.astype(STORAGE[dtype])


def on_cpu(name: str, dtype: str, x: np.ndarray, *rest: Any) -> np.ndarray:
    """Return what the CPU's kernel makes of x; rest: start, seed, offset, p."""
    y = np.zeros_like(x)
    start, *key = rest
    given = launch_of(x.ctypes.data, y.ctypes.data, start, x.size, *key)
    cpu_launch.run_serial(cpu_kernels.address(name, dtype), given)
    return y


def on_gpu(kernel: launch.Kernel, x: np.ndarray, *rest: Any, stream: int = STREAM) -> np.ndarray:
    """Return what a launch makes of x; rest: as for `on_cpu`."""
    y = np.zeros_like(x)
    start, *key = rest
    launch.enqueue(kernel, stream, launch_of(x.ctypes.data, y.ctypes.data, start, x.size, *key))
    return y


def launch_nothing(kernel: launch.Kernel, stream: int = STREAM) -> None:
    launch.enqueue(kernel, stream, launch_of(0, 0, 0, 0, 0, 0, 0.5))


def given_to(arrived: Launch) -> dict[str, int | float]:
    """Return a launch's parameters by the names that the kernel has for them."""
    name, dtype = arrived.function.removeprefix("fastdrop_").rsplit("_", 1)
    parameters = interpreted(name, dtype, GPUS[arrived.device].capability).params
    read = arrived.read([each.type for each in parameters])
    return dict(zip((each.name for each in parameters), read, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("p", [0.0, 2.0**-1074, 2.0**-33, 0.1, 1 / 3, 1 - 2.0**-24, 1.0])
def test_parameters_arrive_exactly(driver, dtype, p):
    kernel = launch.load("dropout", dtype, 0)
    for seed, offset, address in ((-1, -(2**63), 0), (2**63 - 1, -2, NOWHERE), (0x0123456789ABCDEF, 5, 16)):
        tensors, elements = (NOWHERE, NOWHERE + 64, NOWHERE + 128, NOWHERE + 192), (2**33 + 9, 2**40 - 1)
        launch.enqueue(kernel, STREAM, (*tensors, *elements, seed, address, offset, p, 2**34, 5))
        compute = np.float32 if dtype == "float32" else np.float64
        scale = float(compute(1) / compute(1 - p)) if p < 1 else 0.0
        assert given_to(driver.launches[-1]) == {
            "x": NOWHERE,
            "y": NOWHERE + 64,
            "second": NOWHERE + 128,
            "third": NOWHERE + 192,
            "start": 2**33 + 9,
            "count": 2**40 - 1,
            "seed": seed % 2**64,
            "seed_address": address,
            "offset": offset % 2**64,
            "p32": int(np.rint(p * 2**32)),
            "scale": scale,
            "shift": 0.0,
            "fill": 0.0,
            "repeat": 2**34,
            "inner": 5,
        }


def test_numbers_that_no_launch_has_are_refused(driver):
    kernel = launch.load("mask", "bool", 0)
    for seed, offset in ((2**63, 0), (0, 2**63), (-(2**63) - 1, 0)):
        with pytest.raises(OverflowError):
            launch.enqueue(kernel, STREAM, launch_of(0, 0, 0, 0, seed, offset, 0.5))
    assert not driver.launches


@pytest.mark.parametrize(
    ("name", "dtype", "device"),
    [
        pytest.param(*kernel, device, marks=() if (*kernel, device) in ALWAYS else pytest.mark.slow)
        for kernel in PLAIN
        for device in DEVICES
    ],
)
def test_each_device_runs_its_own_code_and_returns_what_the_cpu_does(driver, name, dtype, device):
    kernel = launch.load(name, dtype, device)
    gpu = GPUS[device]
    assert (kernel.device, kernel.multiprocessors) == (device, gpu.multiprocessors)
    assert kernel.tile == traits(dtype, gpu.capability).tile
    assert driver.images == [cubins.cubin(name, dtype, gpu.capability)]
    x, key = values(dtype, 5003), (2**33 + 3, -(2**62) - 1, -7, 0.3)
    with driver.running(execute):
        assert np.array_equal(on_gpu(kernel, x, *key), on_cpu(name, dtype, x, *key))
    (arrived,) = driver.launches
    assert (arrived.device, arrived.image, arrived.block) == (device, *driver.images, (THREADS, 1, 1))


def test_a_standard_deviation_may_be_of_any_size(driver):
    """The same place takes probabilities as 32 bits."""
    kernel, x = launch.load("gaussian_noise", "float32", 0), values("float32", 3000)
    with driver.running(execute):
        for std in (0.0, 2.5, 1e30):
            key = 7, 11, 13, std
            assert np.array_equal(on_gpu(kernel, x, *key), on_cpu("gaussian_noise", "float32", x, *key))


def test_streams_pass_through(driver):
    kernel, own = launch.load("mask", "bool", 0), core.Device(0).create_stream()
    streams = [0, 1, 2, STREAM, int(own.handle), 2**64 - 16, STREAM, 0]
    for stream in streams:
        launch_nothing(kernel, stream)
    assert [each.stream for each in driver.launches] == streams


def test_several_threads_at_once(driver):
    """Each in a context that it did not have, on a stream of its own, with its device's code."""
    loaded = [launch.load("dropout", "float32", device) for device in DEVICES]
    x, threads = values("float32", 300), 8
    together = threading.Barrier(threads)

    def work(thread: int) -> None:
        together.wait()
        for time in range(4):
            key = thread, 100 * thread + time, time, 0.1 * (thread + 1)
            y = on_gpu(loaded[thread % 2], x, *key, stream=STREAM + thread)
            assert np.array_equal(y, on_cpu("dropout", "float32", x, *key))

    with driver.running(execute), ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    arrived = sorted((each.stream - STREAM, each.device, given_to(each)["offset"]) for each in driver.launches)
    assert arrived == [(thread, thread % 2, time) for thread, time in itertools.product(range(threads), range(4))]


def test_a_new_thread_is_given_each_devices_context(driver):
    loaded = [launch.load("mask", "bool", device) for device in DEVICES]
    in_thread(lambda: [launch_nothing(kernel) for kernel in loaded])
    assert [each.device for each in driver.launches] == list(DEVICES)


def test_a_thread_goes_from_device_to_device_and_back(driver):
    def work() -> None:
        for device in (1, 0, 1, 0):
            cuda.run_kernel("dropout", "float32", device, launch_of(0, 0, 0, 0, 1, 0, 0.5))

    with torch_cuda():
        work()
        in_thread(work)
    work_launches = [each for each in driver.launches if given_to(each)["seed"] == 1]
    assert [(each.device, each.stream - STREAM) for each in work_launches] == [(1, 1), (0, 0)] * 4
    assert len(driver.images) == 2


COUNTS = st.integers(0, 2**40) | st.integers(0, 40).map(lambda power: 2**power) | st.integers(0, 10**7)
KINDS = st.sampled_from([8, 16]), st.integers(1, 300)  # elements of a tile, multiprocessors


@given(COUNTS, *KINDS)
def test_blocks_are_as_many_as_the_work_is_worth(count, tile, multiprocessors):
    blocks = launch.blocks(count, tile, multiprocessors)
    tiles, threads = math.ceil(count / tile), blocks * THREADS
    full = multiprocessors * RESIDENT
    assert 1 <= blocks <= 2**31 - 1
    assert blocks == 1 or threads - THREADS < tiles, "every block has something to do"
    if tiles <= full:
        assert threads >= tiles, "a tile a thread"
    else:
        assert threads >= full, "the whole GPU works"
        assert 4 * threads >= tiles, "no thread has more than four tiles"
        assert threads == full or 4 * (threads - THREADS) < tiles, "nor fewer, if the GPU is full all the same"


@given(COUNTS, COUNTS, *KINDS)
def test_more_elements_never_get_fewer_blocks(one, other, tile, multiprocessors):
    fewer, more = (launch.blocks(count, tile, multiprocessors) for count in sorted((one, other)))
    assert fewer <= more


@pytest.mark.parametrize("device", DEVICES)
def test_grids_are_those_for_the_device(driver, device):
    kernel = launch.load("mask", "bool", device)
    full = GPUS[device].multiprocessors * RESIDENT // THREADS
    for count, blocks in ((0, 1), (4096, 1), (4097, 2), (4096 * full * 3, full), (2**40, 2**26)):
        launch.enqueue(kernel, STREAM, launch_of(0, 0, 0, count, 0, 0, 0.5))
        assert driver.launches[-1].grid == (blocks, 1, 1)


def test_nothing_is_loaded_twice(driver):
    loaded = [launch.load("dropout", "float32", device) for device in (0, 1, 0)]
    assert in_thread(lambda: launch.load("dropout", "float32", 0)) is loaded[0] is loaded[2]
    for kernel in loaded:
        in_thread(lambda kernel=kernel: launch_nothing(kernel))
    assert len(driver.images) == 2
    launch.load("dropout", "float16", 0)
    assert len(driver.images) == 3


def test_threads_that_ask_at_once_get_one_kernel(driver, monkeypatch):
    both, cubin = threading.Barrier(2, timeout=0.5), launch.cubin

    def slow(*args: Any) -> bytes:
        try:
            both.wait()
        except threading.BrokenBarrierError:
            pass  # the other thread waits for this one's kernel, as it should
        return cubin(*args)

    monkeypatch.setattr(launch, "cubin", slow)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: launch.load("mask", "bool", 0), range(2))
    assert one is other
    assert len(driver.images) == 1


def refused(error: str) -> Any:
    """Expect cuda.core to raise this error of the driver's."""
    return pytest.raises(Exception, match=f"CUDA_ERROR_{error}:")


def test_what_is_refused_during_capture_can_be_loaded_afterwards(driver):
    with driver.capturing(), refused("STREAM_CAPTURE_UNSUPPORTED"):
        launch.load("mask", "bool", 0)
    assert not driver.images
    kernel = launch.load("mask", "bool", 0)
    with driver.capturing():
        launch_nothing(kernel)
    assert len(driver.images) == len(driver.launches) == 1


def test_after_a_failure_the_next_call_works(driver):
    driver.fail_next_load(2)
    with refused("OUT_OF_MEMORY"):
        launch.load("mask", "bool", 0)
    kernel = launch.load("mask", "bool", 0)
    driver.fail_next_launch(701)
    with refused("LAUNCH_OUT_OF_RESOURCES"):
        launch_nothing(kernel)
    launch_nothing(kernel)
    assert len(driver.images) == len(driver.launches) == 1


def test_ignored_launches_leave_no_trace(driver):
    kernel = launch.load("mask", "bool", 0)
    with driver.ignoring():
        launch_nothing(kernel)
        driver.fail_next_launch(701)
        with refused("LAUNCH_OUT_OF_RESOURCES"):
            launch_nothing(kernel)
    assert not driver.launches
    launch_nothing(kernel)
    assert len(driver.launches) == 1
