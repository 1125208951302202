"""The stand-in for the CUDA driver, seen through cuda.core: what it lets through arrives, what it must refuse fails."""

import contextlib
import ctypes
import itertools
import math
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from processes import run_python
from standin import Driver, Gpu, Launch, real_driver_present
from standin.library import SONAME

pytest.importorskip("numba_cuda")
pytest.importorskip("cuda.core")

from cuda import core
from cuda.bindings import driver as bindings
from standin.example import SM90, STREAM, TYPES, compiled, device_now, in_thread, kernel, launch, raw_kernel, raw_launch

ERROR = bindings.CUresult

pytestmark = pytest.mark.usefixtures("driver")


@pytest.fixture
def device(driver: Driver) -> core.Device:
    """Make device 0 the calling thread's."""
    device = core.Device(0)
    device.set_current()
    return device


def refused(error: str) -> Any:
    """Expect cuda.core to raise this error of the driver's."""
    return pytest.raises(Exception, match=f"CUDA_ERROR_{error}:")


def test_the_whole_process_gets_the_standin(driver):
    assert hasattr(ctypes.CDLL(SONAME), "standin")
    assert not real_driver_present()
    for version in 13000, 11000:
        driver.set_version(version)
        assert bindings.cuDriverGetVersion() == (ERROR.CUDA_SUCCESS, version)


def test_a_real_driver_is_left_alone(tmp_path):
    source = tmp_path / "real.c"
    source.write_text("int cuInit(unsigned flags) { return 0; }")
    subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{SONAME}", "-o", tmp_path / SONAME, source], check=True)
    code = """
from standin import load, real_driver_present
print(real_driver_present())
try:
    load("never opened")
except RuntimeError as error:
    print(error)
"""
    assert run_python(code, LD_LIBRARY_PATH=str(tmp_path)) == "True\nthis process has a real CUDA driver"


def devices() -> list[tuple[tuple[int, int], int]]:
    """Return what cuda.core says of each device."""
    found = [core.Device(index) for index in range(bindings.cuDeviceGetCount()[1])]
    with pytest.raises(ValueError, match="device_id"):
        core.Device(len(found))
    assert len({*map(hash, found)}) == len({device.name for device in found}) == len(found)
    return [(tuple(device.compute_capability), device.properties.multiprocessor_count) for device in found]


def test_devices_are_those_asked_for(driver):
    assert in_thread(devices) == [((9, 0), 132), ((8, 0), 108)]
    driver.set_gpus(Gpu((7, 5), 40), Gpu((12, 0), 170), Gpu((8, 6), 84))
    assert in_thread(devices) == [((7, 5), 40), ((12, 0), 170), ((8, 6), 84)]
    driver.set_gpus()
    assert bindings.cuInit(0) == (ERROR.CUDA_ERROR_NO_DEVICE,)
    assert bindings.cuDeviceGetCount()[1] == 0


def test_contexts_belong_to_threads(driver):
    assert device_now() is None
    core.Device(0).set_current()
    loaded = kernel()

    def other() -> None:
        assert device_now() is None
        with refused("INVALID_CONTEXT"):
            launch(loaded)
        core.Device(1).set_current()
        assert device_now() == 1
        bindings.cuCtxPopCurrent()

    in_thread(other)
    assert device_now() == 0


def test_each_device_has_its_context_and_they_stack():
    first, second = (bindings.cuDevicePrimaryCtxRetain(device)[1] for device in (0, 1))
    assert int(first) != int(second)
    assert int(bindings.cuDevicePrimaryCtxRetain(0)[1]) == int(first)
    for context, device in ((first, 0), (second, 1), (first, 0)):
        bindings.cuCtxPushCurrent(context)
        assert device_now() == device
    bindings.cuCtxSetCurrent(second)
    for device, context in ((1, second), (1, second), (0, first)):
        assert device_now() == device
        assert int(bindings.cuCtxPopCurrent()[1]) == int(context)
    assert bindings.cuCtxPopCurrent()[0] == ERROR.CUDA_ERROR_INVALID_CONTEXT
    assert bindings.cuDevicePrimaryCtxRetain(2)[0] == ERROR.CUDA_ERROR_INVALID_DEVICE


@pytest.mark.parametrize("args", [(-1, -(2**63), -0.1), (2**63 - 1, 0, math.inf), (-0x0123_4567_89AB_CDEF, 1, 5e-324)])
@pytest.mark.parametrize("stream", [STREAM, 0, 1])
def test_a_launch_arrives_as_it_was_made(driver, device, args, stream):
    launch(kernel(), *args, grid=(70_000, 3, 2), block=(8, 16, 4), stream=stream)
    (arrived,) = driver.launches
    assert (arrived.image, arrived.function) == compiled(SM90)
    assert (arrived.grid, arrived.block) == ((70_000, 3, 2), (8, 16, 4))
    assert (arrived.stream, arrived.device) == (stream, 0)
    assert arrived.read(TYPES) == list(args)
    assert arrived.read(["u64", "b64", "f64"])[:2] == [value % 2**64 for value in args[:2]]


def test_parameters_are_as_many_and_as_large_as_the_cubin_says(driver, device):
    launch(kernel())
    for types in (TYPES[:2], (*TYPES, "s64")):
        with pytest.raises(ValueError, match="zip"):
            driver.launches[0].read(types)
    with pytest.raises(struct.error):
        driver.launches[0].read(["s64", "s64", "f32"])


def test_the_older_launch_call_does_the_same_and_refuses_impossible_sizes(driver, device):
    function = raw_kernel()[1]
    for size in (0, 1, 1, 1, 1, 1), (1, 1, 1, 1, 0, 1), (1, 65536, 1, 1, 1, 1), (1, 1, 1, 32, 33, 1):
        assert raw_launch(function, *size) == ERROR.CUDA_ERROR_INVALID_VALUE
    assert raw_launch(function, 2, 3, 4, 5, 6, 7) == ERROR.CUDA_SUCCESS
    (arrived,) = driver.launches
    assert (arrived.grid, arrived.block, arrived.stream) == ((2, 3, 4), (5, 6, 7), STREAM)
    assert arrived.read(TYPES) == [1, 2, 0.5]


def test_streams_know_their_device(driver):
    streams = []
    for index in (0, 1):
        core.Device(index).set_current()
        streams.append(core.Device(index).create_stream())
    contexts = [int(bindings.cuDevicePrimaryCtxRetain(index)[1]) for index in (0, 1)]
    assert [int(bindings.cuStreamGetCtx(stream.handle)[1]) for stream in streams] == contexts
    loaded = kernel((8, 0))
    with refused("INVALID_HANDLE"):
        launch(loaded, stream=streams[0])
    launch(loaded, stream=streams[1])
    assert [(one.stream, one.device) for one in driver.launches] == [(int(streams[1].handle), 1)]


def test_a_cubin_runs_on_its_generation_only(driver):
    driver.set_gpus(Gpu((8, 6), 84), Gpu((9, 0), 132), Gpu((8, 0), 108))

    fits = {(0, (8, 0)), (0, (8, 6)), (1, (9, 0)), (2, (8, 0))}

    def launch_all() -> None:
        for index, capability in itertools.product(range(3), ((8, 0), (8, 6), (9, 0))):
            core.Device(index).set_current()
            fit = (index, capability) in fits
            with contextlib.nullcontext() if fit else refused("NO_BINARY_FOR_GPU"):
                launch(kernel(capability))

    in_thread(launch_all)
    assert [one.image for one in driver.launches] == [compiled(capability)[0] for _, capability in sorted(fits)]


def test_loaded_cubins_are_kept_whole(driver, device):
    for capability in (SM90, (8, 0), SM90):
        kernel(capability)
        assert driver.images[-1] == compiled(capability)[0]
    assert len(driver.images) == 3
    functions = [raw_kernel()[1] for _ in range(3)]
    assert len({int(function) for function in functions}) == 3


@pytest.mark.parametrize("place, change", [(0, b"\x7fELD"), (18, b"\x3e\x00")], ids=["no ELF", "for x86-64"])
def test_what_is_no_cubin_is_refused(driver, device, place, change):
    cubin, name = compiled(SM90)
    code = cubin[:place] + change + cubin[place + len(change) :]
    with refused("INVALID_IMAGE"):
        core.ObjectCode.from_cubin(code).get_kernel(name)
    assert not driver.images


def test_a_kernel_is_found_by_its_whole_name_and_goes_with_its_library(driver, device):
    cubin, name = compiled(SM90)
    for wrong in (name[:-1], name + "x", ""):
        with refused("NOT_FOUND"):
            core.ObjectCode.from_cubin(cubin).get_kernel(wrong)
    library, function = raw_kernel()
    assert raw_launch(function) == ERROR.CUDA_SUCCESS
    bindings.cuLibraryUnload(library)
    assert raw_launch(function) == ERROR.CUDA_ERROR_INVALID_HANDLE
    assert [one.function for one in driver.launches] == [name]


def test_nothing_is_loaded_allocated_or_awaited_during_capture(driver, device):
    loaded, stream = kernel(), core.Stream.from_handle(STREAM)
    unsafe = kernel, stream.sync, lambda: device.allocate(64, stream=stream)
    with driver.capturing():
        assert bindings.cuStreamIsCapturing(STREAM)[1].name.endswith("_ACTIVE")
        for call in unsafe:
            with refused("STREAM_CAPTURE_UNSUPPORTED"):
                call()
        assert bindings.cuCtxSynchronize() == (ERROR.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)
        launch(loaded)
    assert bindings.cuStreamIsCapturing(STREAM)[1].name.endswith("_NONE")
    assert len(driver.images) == len(driver.launches) == 1
    for call in unsafe:
        call()


@pytest.mark.parametrize("name", ["OUT_OF_MEMORY", "NO_BINARY_FOR_GPU", "LAUNCH_OUT_OF_RESOURCES", "ILLEGAL_ADDRESS"])
def test_failures_asked_for_surface_once(driver, device, name):
    error = getattr(ERROR, f"CUDA_ERROR_{name}")
    driver.fail_next_load(error)
    with refused(name):
        kernel()
    loaded = kernel()
    driver.fail_next_launch(error)
    with refused(name):
        launch(loaded)
    assert not driver.launches
    launch(loaded)
    assert len(driver.images) == len(driver.launches) == 1


def test_what_a_handler_raises_comes_out(driver, device):
    loaded = kernel()

    def handler(one: Launch) -> None:
        assert one.read(TYPES)[0] == 5, f"got {one.read(TYPES)[0]}"

    with pytest.raises(AssertionError, match="got 6"), driver.running(handler):
        launch(loaded, 5, 0, 0.0)
        for value in (6, 7):
            with refused("LAUNCH_FAILED"):
                launch(loaded, value, 0, 0.0)
    with driver.running(handler):
        launch(loaded, 5, 0, 0.0)
    launch(loaded, 8, 0, 0.0)
    assert [one.read(TYPES)[0] for one in driver.launches] == [5, 6, 7, 5, 8]


def test_device_memory_is_host_memory(driver, device):
    buffer = device.allocate(3 * 8, stream=core.Stream.from_handle(STREAM))
    assert int(buffer.handle) % 256 == 0

    def fill(one: Launch) -> None:
        address, n, p = one.read(TYPES)
        (ctypes.c_double * n).from_address(address)[:] = [p] * n

    with driver.running(fill):
        launch(kernel(), int(buffer.handle), 3, 0.75)
    assert list((ctypes.c_double * 3).from_address(int(buffer.handle))) == [0.75] * 3


def test_launches_of_many_threads_are_all_there(driver, device):
    loaded, threads, times = [kernel(), kernel((8, 0))], 8, 200
    handled = []

    def work(thread: int) -> None:
        core.Device(thread % 2).set_current()
        for time in range(times):
            launch(loaded[thread % 2], thread, time, 0.5)

    with driver.running(handled.append), ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    arrived = sorted(tuple(one.read(TYPES)[:2]) for one in driver.launches)
    assert arrived == list(itertools.product(range(threads), range(times)))
    assert sorted(map(id, handled)) == sorted(map(id, driver.launches))
    assert all(one.device == one.read(TYPES)[0] % 2 for one in driver.launches)


def test_an_entry_point_that_it_lacks_is_named():
    with pytest.raises(RuntimeError, match="cuMemHostAlloc"):
        bindings.cuMemHostAlloc(64, 0)


def test_reset_leaves_nothing(driver, device):
    launch(kernel())
    driver.set_gpus(Gpu((7, 5), 40))
    driver.set_version(12000)
    driver.fail_next_load(2)
    driver.fail_next_launch(2)
    driver.reset()
    assert (driver.launches, driver.images, device_now()) == ([], [], None)
    assert bindings.cuDriverGetVersion()[1] == 13000
    assert in_thread(devices) == [((9, 0), 132), ((8, 0), 108)]
    device.set_current()
    launch(kernel())
