"""Fixtures that test files share, and how the tests are shared out among processes."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # torch's threads do not spin: other processes need the cores

import pytest
from standin import Driver, build, load, real_driver_present

if TYPE_CHECKING:
    from fake_torch_cuda import TorchCuda


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process of `-n` a stretch of the tests, as most files have something that is made once a process."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make `sampled(n)` tests slow but for one case in n, such that each value of each parameter has its turn."""
    counts: Counter[str] = Counter()
    for item in items:
        if (sampled := item.get_closest_marker("sampled")) is not None:
            (n,), test = sampled.args, item.nodeid.partition("[")[0]
            i = counts[test]
            counts[test] += 1
            if (i + i // n + i // n**2) % n:  # a diagonal: else a parameter of n values would always be at the same one
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def loaded_driver(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """Build the stand-in for the CUDA driver and load it into this process, once."""
    if sys.platform != "linux":
        pytest.skip("the stand-in for the CUDA driver is for Linux")
    if real_driver_present():
        pytest.skip("this machine has a CUDA driver, which the stand-in would hide")
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) to build the stand-in for the CUDA driver")
    return Driver(load(build(tmp_path_factory.mktemp("standin"))))


@pytest.fixture
def driver(loaded_driver: Driver) -> Iterator[Driver]:
    """Stand in for a CUDA driver with an sm_90 and an sm_80 device; the calling thread has no context yet."""
    loaded_driver.reset()
    yield loaded_driver
    loaded_driver.set_gpus()  # no other test is to find a GPU
    loaded_driver.raise_error()


@pytest.fixture(scope="session")
def ptx_on_disk() -> Iterator[None]:
    """Have GPU kernels compiled once, for all processes and runs."""
    from emulation import ptx_on_disk

    with ptx_on_disk():
        yield


@pytest.fixture
def cuda(driver: Driver, ptx_on_disk: None) -> "Iterator[TorchCuda]":
    """Have torch see the stand-in's devices, which work as GPUs would."""
    pytest.importorskip("numba_cuda")
    pytest.importorskip("cuda.core")
    from emulation import execute
    from fake_torch_cuda import torch_cuda

    with torch_cuda() as state, driver.running(execute):
        yield state


@pytest.fixture
def on_gpu(cuda: "TorchCuda") -> "Iterator[TorchCuda]":
    """Run on the GPU what fastdrop would run on the CPU."""
    from fake_torch_cuda import cpu_as_gpu

    with cpu_as_gpu(cuda):
        yield cuda


@pytest.fixture
def uninstalled() -> Iterator[None]:
    """Give native torch back after the test, whatever it has installed."""
    import fastdrop

    yield
    fastdrop.uninstall()
    assert not fastdrop.is_installed()


@pytest.fixture
def installed() -> Iterator[None]:
    """Have fastdrop installed."""
    import fastdrop

    with fastdrop.accelerated():
        yield


@pytest.fixture
def nothing_compiled() -> Iterator[None]:
    """Keep no graph from one test to another, nor from one run to another."""
    import torch._dynamo
    import torch._functorch.config
    import torch._inductor.config

    torch._dynamo.reset()
    with torch._functorch.config.patch(enable_autograd_cache=False), torch._inductor.config.patch(fx_graph_cache=False):
        yield
    torch._dynamo.reset()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Have torch, and so fastdrop, compute on one thread."""
    from fastdrop.bench import system

    with system.torch_threads(1):
        yield


@pytest.fixture(scope="session")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Import Keras, which takes seconds; the environment tells it its backend, and where to write its settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_TORCH_DEVICE", "cpu")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        module = pytest.importorskip("keras")
    assert module.backend.backend() == "torch"
    yield module


@pytest.fixture
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `python -m bench.gpu` check few dtypes and sizes."""
    import torch

    from bench.gpu import cases

    monkeypatch.setattr(cases, "DTYPES", (torch.float32, torch.bfloat16))
    monkeypatch.setattr(cases, "SIZES", (1, 9, 1025))
    monkeypatch.setattr(cases, "FEW_SIZES", (9, 1025))
