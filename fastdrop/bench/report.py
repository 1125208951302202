"""Results as tables for people and as a JSON document for programs."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from fastdrop.bench.providers import P
from fastdrop.bench.timing import Timing

FORMAT: Final = 1  # of the document, for those who read it

RATIOS: Final = {  # provider and what it is divided by: heading
    ("native", "fastdrop"): "native /\nfastdrop",
    ("fastdrop", "clone"): "fastdrop\n/ clone",
    ("fastdrop_into", "copy"): "into y\n/ copy",
}
HEADINGS: Final = {"fastdrop_into": "fastdrop\ninto y", "copy": "copy\ninto y"}  # widths: a table fits 80 columns
PASSES: Final = {"forward": "forward", "forward_backward": "forward + backward"}
LEGEND: Final = f"""
native: torch's dropout. fastdrop: this library's. Both with p = {P:g}.
clone: x.clone(). copy: y.copy_(x).
into y: the output y exists already; all others allocate theirs.
native / fastdrop: above 1, fastdrop is faster.
fastdrop / clone, into y / copy: 1 would be as fast as a copy.
kept by: bytes per element that are saved for the backward pass.
IQR: interquartile range / median of the times, the row's largest."""


class Result(NamedTuple):
    """What was measured of one dtype, number of threads and size."""

    dtype: str
    threads: int
    backend: str
    size: int
    forward: dict[str, Timing]
    forward_backward: dict[str, Timing]
    bytes_kept: dict[str, float]  # for the backward, per element


def ratios(timings: Mapping[str, Timing]) -> dict[tuple[str, str], float]:
    """Return the ratios of medians that can be taken within one interleaved run."""
    return {
        (one, other): timings[one].seconds / timings[other].seconds
        for one, other in RATIOS
        if one in timings and other in timings
    }


def table(results: Sequence[Result], part: str) -> Table:
    """Return one pass of one dtype and number of threads as a table, a row a size.

    Parameters
    ----------
    results : sequence of Result
        All of one dtype and number of threads.
    part : str
        A name in `PASSES`.
    """
    first = results[0]
    threads = f"{first.threads} thread{'s' if first.threads > 1 else ''} ({first.backend})"
    shown = Table(
        title=f"\n{first.dtype}, {threads}: {PASSES[part]}, ns per element",
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        title_justify="left",
    )
    timings: dict[str, Timing] = getattr(first, part)
    headings = [HEADINGS.get(name, name) for name in timings] + [RATIOS[pair] for pair in ratios(timings)]
    if part == "forward_backward":
        headings += [f"kept by\n{name}" for name in first.bytes_kept]
    for heading in ["elements", *headings, "IQR"]:
        shown.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        shown.add_row(*_cells(result, part))
    return shown


def _cells(result: Result, part: str) -> list[str]:
    timings: dict[str, Timing] = getattr(result, part)
    cells = [str(result.size)]
    cells += [f"{timing.seconds * 1e9 / result.size:.3g}" for timing in timings.values()]
    cells += [f"{ratio:.2f}x" for ratio in ratios(timings).values()]
    if part == "forward_backward":
        cells += [f"{kept:g} B" for kept in result.bytes_kept.values()]
    return [*cells, f"{max(timing.spread for timing in timings.values()):.0%}"]


def document(system: Mapping[str, str], quick: bool, results: Sequence[Result]) -> dict[str, Any]:
    """Return everything as plain dicts, lists, strings and numbers; times are seconds per call."""
    return {
        "format": FORMAT,
        "system": dict(system),
        "p": P,
        "quick": quick,
        "results": [_plain(result) for result in results],
    }


def _plain(result: Result) -> dict[str, Any]:
    plain = result._asdict()
    for part in PASSES:
        timings: dict[str, Timing] = plain[part]
        plain[part] = {name: timing._asdict() for name, timing in timings.items()}
        plain[part]["ratios"] = {" / ".join(pair): ratio for pair, ratio in ratios(timings).items()}
    return plain


def write(content: Mapping[str, Any], path: pathlib.Path) -> None:
    """Write a document as JSON, all of it or nothing."""
    fresh = path.parent / f".fastdrop-bench-{os.getpid()}"
    try:
        fresh.write_text(json.dumps(content, indent=2) + "\n")
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
