"""Section: time of a call on the host, in loops that never wait for the device.

At this size the device is faster than Python, and the samples of fastdrop.bench.timing are a few hundred calls at most,
fewer than a launch queue holds: nothing blocks.
"""

from functools import partial
from typing import Any, Final

import torch

from bench.gpu import providers
from bench.gpu.report import failures
from bench.gpu.session import Outcome, Session
from bench.gpu.speed import COLUMNS, headings, where
from bench.tables import grid, name_of, short
from fastdrop.bench.report import PASSES
from fastdrop.bench.timing import interleaved

SIZE: Final = 1 << 10


def measure(session: Session, dtype: torch.dtype, part: str) -> dict[str, Any]:
    """Return one row: what a call of each provider takes, or why it cannot."""
    use = providers.buffers(session.device, dtype, SIZE, 1, part == "forward_backward")
    can, failed = providers.usable(session.device, part, use)
    timings = interleaved({name: partial(call, 0) for name, call in can.items()}, *session.effort)
    session.device.synchronize()
    figures = {name: timing._asdict() for name, timing in timings.items()}
    return {"dtype": name_of(dtype), "part": part, "providers": figures, "failed": failed}


def section(session: Session) -> Outcome:
    """Measure both passes of every dtype."""
    rows = [
        measure(session, dtype, part)
        for dtype in session.dtypes
        for part in PASSES
        if session.begins(f"{name_of(dtype)}, {PASSES[part]}")
    ]
    title = f"time of a call on the host, {short(SIZE)} elements, µs"
    failed = [(where(row), name, why) for row in rows for name, why in row["failed"].items()]
    return Outcome({"size": SIZE, "rows": rows}, [grid(title, ["", *headings()], map(_cells, rows)), *failures(failed)])


def _cells(row: dict[str, Any]) -> list[str]:
    figures = row["providers"]
    times = [f"{figures[name]['seconds'] * 1e6:.3g}" if name in figures else "-" for name in COLUMNS]
    return [where(row), *times]
