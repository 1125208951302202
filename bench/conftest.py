"""What all benchmarks share: compiled kernels, a number of threads, and the machine's description in the report."""

from collections.abc import Iterator

import pytest
import torch

import fastdrop
from bench.tables import name_of
from fastdrop.bench import system

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
SIZES = [64, 4096, 65_536, 1 << 20]
THREADS = sorted({1, torch.get_num_threads()})


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    fastdrop.warmup()


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run with as many of torch's threads as the parameter says."""
    with system.torch_threads(request.param):
        yield request.param


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, object]) -> None:
    machine_info["fastdrop"] = system.describe()


def group(part: str, x: torch.Tensor, threads: int) -> str:
    """Return the group that shows a pass of one dtype, size and number of threads side by side."""
    return f"{part}, {name_of(x.dtype)}, {x.numel()} elements, {threads} thread(s)"
