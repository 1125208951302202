"""`python -m bench.gpu` on a CPU: a device in the GPU's place, sessions on it, and what fails on purpose."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from bench.gpu import command, timing
from bench.gpu.session import Session
from fastdrop.bench.run import Effort
from fastdrop.functional import dropout

SHORT = Effort(0.0, 2)
SIZES = (64, 1024)
PLAN = command.Plan(SIZES, SHORT, quick=True)
SECTIONS = [section for section in command.SECTIONS if section.name != "choices"]  # that one launches for a GPU


class CpuDevice:
    """A CPU in the place of a GPU."""

    place = torch.device("cpu")
    l2_bytes = 16_384

    def describe(self) -> dict[str, str]:
        return {"GPU": "A GPU (of 1) & more"}

    def synchronize(self) -> None:
        pass

    def seconds(self, call: Callable[[], object], calls: int, lead: float) -> tuple[float, bool]:
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - begun) / calls, True

    def allocated(self) -> int:
        return 0

    def peak(self) -> int:
        return 0

    def release(self) -> None:
        pass

    def on_side_stream(self, work: Callable[[], Any]) -> Any:
        return work()

    def capture(self, work: Callable[[], tuple[torch.Tensor, ...]]) -> tuple[Callable[[], None], Any]:
        results = work()

        def replay() -> None:
            for result, new in zip(results, work(), strict=True):
                result.copy_(new)

        return replay, results


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def session(seconds: float = 1e9, sizes: Sequence[int] = SIZES, clock: Callable[[], float] = time.monotonic) -> Session:
    deadline = timing.Deadline(seconds, clock)
    return Session(CpuDevice(), (torch.float32,), sizes, SHORT, deadline, say=lambda _: None)


def no_compiler() -> Any:
    raise RuntimeError("no compiler\nto be found")


def other_gradient(x: torch.Tensor, p: float, **key: Any) -> torch.Tensor:
    x = x.view_as(x)
    if x.requires_grad:
        x.register_hook(lambda grad: grad.flip(0))
    return dropout(x, p, **key)
