"""How `python -m bench.gpu` measures: interleaved rounds, the host ahead of the stream, and enough buffers."""

from collections.abc import Callable, Sequence

import pytest
import torch
from bench_on_cpu import SHORT, CpuDevice

from bench.gpu import timing
from bench.gpu.device import CudaDevice
from fastdrop.bench.run import Effort


class Scripted(CpuDevice):
    """A device whose answers are written down."""

    def __init__(self, took: Sequence[float] = (), ahead: Callable[[float], bool] = lambda lead: True) -> None:
        self.took, self.ahead = iter(took), ahead
        self.asked: list[tuple[int, float]] = []

    def seconds(self, call: Callable[[], object], calls: int, lead: float) -> tuple[float, bool]:
        self.asked.append((calls, lead))
        for _ in range(calls):
            call()
        return next(self.took), self.ahead(lead)


def test_timing_gives_medians_of_interleaved_rounds():
    took = [1e-3, 2e-3] + [1e-3, 2e-3, 1e-3, 2e-3, 3e-3, 8e-3]  # an estimate each, then rounds
    order: list[str] = []
    device = Scripted(took)
    timings = timing.interleaved(
        device, {"a": lambda i: order.append("a"), "b": lambda i: order.append("b")}, 2, Effort(0.0, 3)
    )
    assert {name: taken.timing.seconds for name, taken in timings.items()} == {"a": 1e-3, "b": 2e-3}
    assert timings["a"].timing.rounds == 3 and timings["a"].host_bound == 0
    assert "".join(order[-12:]) == "aabbaabbaabb"


@pytest.mark.parametrize(("estimate", "calls"), [(2e-6, 32), (1e-4, 10), (5e-3, 2)])
def test_a_batch_is_long_enough_but_never_fills_the_launch_queue(estimate, calls):
    device = Scripted([estimate] * 3)
    timing.interleaved(device, {"a": lambda i: None}, 2, SHORT)
    assert [asked for asked, _ in device.asked] == [2, calls, calls]


def test_where_the_host_is_late_the_stream_is_held_back_longer_and_else_it_is_said():
    device = Scripted([1e-3] * 100, ahead=lambda lead: lead > 4e-3)
    assert timing.interleaved(device, {"a": lambda i: None}, 2, SHORT)["a"].host_bound == 0
    leads = [lead for _, lead in device.asked]
    assert leads[0] < 4e-3 < leads[-1] == leads[-2] <= 8e-3
    device = Scripted([1e-3] * 100, ahead=lambda lead: False)
    assert timing.interleaved(device, {"a": lambda i: None}, 2, SHORT)["a"].host_bound == 2
    assert max(lead for _, lead in device.asked) == timing.MOST_LEAD


def test_calls_go_round_the_buffers_and_results_are_kept_as_long():
    rotation, used = timing.Rotation(3), []
    for _ in range(5):
        rotation.call(lambda i: used.append(i) or torch.tensor(len(used)))  # type: ignore[func-returns-value]
    assert used == [0, 1, 2, 0, 1]
    assert [int(kept) for kept in rotation._kept] == [3, 4, 5]


@pytest.mark.parametrize(
    ("elements", "itemsize", "buffers", "in_l2"),
    [
        (1 << 10, 4, 256, True),
        (1 << 14, 4, 256, True),
        (1 << 16, 2, 256, True),
        (1 << 18, 2, 240, False),
        (1 << 20, 4, 30, False),
        (1 << 26, 4, 2, False),
    ],
)
def test_buffers_exceed_the_60_mib_of_an_l2_cache_where_so_many_are_bearable(elements, itemsize, buffers, in_l2):
    assert timing.buffers_for(elements * itemsize, 60 << 20) == buffers
    assert timing.fits_l2(buffers, elements * itemsize, 60 << 20) is in_l2


def test_the_events_stand_around_the_calls_while_the_stream_is_held_back(monkeypatch):
    order: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            order.append("event")

        def query(self) -> bool:
            order.append("query")
            return False

        def synchronize(self) -> None:
            order.append("wait")

        def elapsed_time(self, end: "Event") -> float:
            return 6.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: order.append(f"sleep {cycles}"))
    device = CudaDevice.__new__(CudaDevice)
    assert device.seconds(lambda: order.append("call"), 3, 1e-3) == (pytest.approx(2e-3), True)
    assert order == ["sleep 2000000", "call", "event", "call", "call", "call", "event", "query", "wait"]
