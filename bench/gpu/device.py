"""What the measurements need of a device, and its implementation for a CUDA GPU."""

import gc
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import torch

from bench.gpu import machine

T = TypeVar("T")

CLOCK_LIMIT: Final = 2e9  # cycles per second; no GPU is much faster, and a slower one is only held back longer
LOAD: Final = 1.0  # seconds; an idle GPU's clocks are low
STREAM_TEST: Final = 0.02  # seconds; a kernel on a wrong stream would have long run


class Device(Protocol):
    """Where tensors are, and its clock, memory and graphs."""

    place: torch.device
    l2_bytes: int

    def describe(self) -> dict[str, str]:
        """Return the device's name, under "GPU", and what else its figures depend on."""

    def synchronize(self) -> None:
        """Wait for all work."""

    def seconds(self, call: Callable[[], object], calls: int, lead: float) -> tuple[float, bool]:
        """Return what one of several consecutive calls takes on the device, and whether the host was always ahead.

        A call before them is not timed. `lead` is how many seconds the host may need to issue them all.
        """

    def allocated(self) -> int:
        """Return the bytes that tensors hold."""

    def peak(self) -> int:
        """Return the most bytes that tensors held since the last `release`."""

    def release(self) -> None:
        """Give memory that no tensor holds back to the device."""

    def on_side_stream(self, work: Callable[[], T]) -> T:
        """Return what work returns on a stream of its own that starts late."""

    def capture(self, work: Callable[[], T]) -> tuple[Callable[[], None], T]:
        """Capture work as a graph; return the replay and what work returned, which every replay overwrites."""


class CudaDevice:
    """torch's current CUDA GPU."""

    def __init__(self) -> None:
        self.place = torch.device("cuda", torch.cuda.current_device())
        self.l2_bytes: int = torch.cuda.get_device_properties(self.place).L2_cache_size

    def describe(self) -> dict[str, str]:
        """Return the GPU, its driver, its clocks under load."""
        x = torch.empty(1 << 30, dtype=torch.uint8, device=self.place)
        end = time.perf_counter() + LOAD
        while time.perf_counter() < end:  # the launch queue fills, so there is work while the clocks are read
            x.zero_()
        return machine.describe(self.place)

    def synchronize(self) -> None:
        """Wait for all work."""
        torch.cuda.synchronize(self.place)

    def seconds(self, call: Callable[[], object], calls: int, lead: float) -> tuple[float, bool]:
        """Hold the stream back while the host issues the calls, and time them between two events."""
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(int(lead * CLOCK_LIMIT))
        call()
        start.record()
        for _ in range(calls):
            call()
        end.record()
        ahead = not start.query()
        end.synchronize()
        return start.elapsed_time(end) * 1e-3 / calls, ahead

    def allocated(self) -> int:
        """Return the bytes that tensors hold."""
        return torch.cuda.memory_allocated(self.place)

    def peak(self) -> int:
        """Return the most bytes that tensors held since the last `release`."""
        return torch.cuda.max_memory_allocated(self.place)

    def release(self) -> None:
        """Give memory that no tensor holds back to the device, and forget the peak."""
        torch.cuda.synchronize(self.place)
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.place)

    def on_side_stream(self, work: Callable[[], T]) -> T:
        """Return what work returns on a stream of its own that sleeps first."""
        stream = torch.cuda.Stream(self.place)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(int(STREAM_TEST * CLOCK_LIMIT))
            result = work()
        stream.synchronize()
        return result

    def capture(self, work: Callable[[], T]) -> tuple[Callable[[], None], T]:
        """Warm up on a side stream, as torch asks, then capture."""
        stream = torch.cuda.Stream(self.place)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # The outer context puts the current stream back; torch.cuda.graph does not where a capture fails.
        with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph):
            result = work()
        return graph.replay, result
