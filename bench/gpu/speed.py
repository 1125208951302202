"""Section: time on the device and share of the copy's bandwidth, over dtypes, sizes and passes."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from rich.table import Table

from bench.gpu import providers
from bench.gpu.report import failures
from bench.gpu.session import Outcome, Session, reason
from bench.gpu.timing import DeviceTiming, buffers_for, fits_l2, interleaved
from bench.tables import grid, name_of, short
from fastdrop.bench.report import HEADINGS, PASSES

ACCESSES: Final = {"forward": 2, "forward_backward": 4}  # of memory, per element; a kept mask's own do not count
COLUMNS: Final = ("native", "compiled", "triton", "fastdrop", "fastdrop_into", "clone", "copy")


def _figures(timings: Mapping[str, DeviceTiming], traffic: int) -> dict[str, dict[str, Any]]:
    copy = timings["copy"].timing.seconds if "copy" in timings else None
    return {
        name: {
            **taken.timing._asdict(),
            "host_bound": taken.host_bound,
            "gb_per_second": traffic / taken.timing.seconds * 1e-9,
            "share_of_copy": copy / taken.timing.seconds if copy else None,
        }
        for name, taken in timings.items()
    }


def measure(session: Session, dtype: torch.dtype, size: int, part: str) -> dict[str, Any]:
    """Return one row: what each provider takes, or why it cannot."""
    device, tensor_bytes = session.device, size * dtype.itemsize
    count = buffers_for(tensor_bytes, device.l2_bytes)
    row: dict[str, Any] = {
        "dtype": name_of(dtype),
        "size": size,
        "part": part,
        "buffers": count,
        "in_l2": fits_l2(count, tensor_bytes, device.l2_bytes),
        "providers": {},
        "failed": {},
    }
    try:
        use = providers.buffers(device, dtype, size, count, part == "forward_backward")
        can, row["failed"] = providers.usable(device, part, use)
        timings = interleaved(device, can, count, session.effort)
        row["providers"] = _figures(timings, ACCESSES[part] * tensor_bytes)
    except Exception as error:  # a full memory, most likely: the other sizes are worth having
        row["failed"]["all"] = reason(error)
    return row


def section(session: Session) -> Outcome:
    """Measure all sizes, the largest first: they matter most, should time run out."""
    rows = []
    for size in sorted(session.sizes, reverse=True):
        for dtype in session.dtypes:
            for part in PASSES:
                if session.begins(f"{name_of(dtype)}, {short(size)}, {PASSES[part]}"):
                    rows.append(measure(session, dtype, size, part))
                    session.device.release()
    rows.sort(key=lambda row: row["size"])
    return Outcome({"rows": rows}, tables(rows))


def tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Return a table for each dtype and pass, and one of what failed."""
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        kinds.setdefault((row["dtype"], row["part"]), []).append(row)
    shown = [_table(*kind, of_kind) for kind, of_kind in kinds.items()]
    failed = [(where(row), name, why) for row in rows for name, why in row["failed"].items()]
    return [*shown, *failures(failed)]


def where(row: Mapping[str, Any]) -> str:
    """Return what a row is about."""
    size = [short(row["size"])] if "size" in row else []
    return " ".join([row["dtype"], *size, PASSES[row["part"]]])


def _table(dtype: str, part: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    notes = []
    if any(row["in_l2"] for row in rows):
        notes.append("*: stays in L2")
    if any(figures["host_bound"] for row in rows for figures in row["providers"].values()):
        notes.append("!: the host was too slow to time the device alone")
    title = f"{dtype}, {PASSES[part]}: µs on the device, share of the copy's bandwidth"
    return grid(title, ["elements", *headings(), "IQR"], map(_cells, rows), caption="; ".join(notes))


def headings() -> list[str]:
    """Return the headings of the providers' columns."""
    return [HEADINGS.get(name, name) for name in COLUMNS]


def _cells(row: Mapping[str, Any]) -> list[str]:
    figures = row["providers"]
    spread = f"{max(taken['spread'] for taken in figures.values()):.0%}" if figures else "-"
    size = f"{short(row['size'])}{' *' if row['in_l2'] else ''}"
    return [size, *(_cell(figures[name]) if name in figures else "-" for name in COLUMNS), spread]


def _cell(figures: Mapping[str, Any]) -> str:
    share = figures["share_of_copy"]
    mark = "!" if figures["host_bound"] else ""
    return f"{figures['seconds'] * 1e6:.4g}{mark}" + ("" if share is None else f"\n{share:.0%}")
