"""The targets of the GPU kernels, and whether the figures reach them."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from bench.gpu.providers import BASELINES
from bench.gpu.speed import where
from bench.tables import short
from bench.targets import Target
from fastdrop.bench.report import PASSES

SHARE: Final = 0.90  # of the copy's bandwidth
SHARE_AT: Final = 1 << 26  # elements
FASTER_FROM: Final = 1 << 20
NOTHING: Final = 0.01  # bytes per element; an allocator's rounding, and a seed


class Figure(NamedTuple):
    """One of a target's figures."""

    where: str
    value: float | None  # None: could not be measured
    met: bool


def _target(what: str, figures: Iterable[Figure], wanted: int, worst: Any, shown: str) -> Target:
    """Return a target that all its figures have to meet; it names the worst of them."""
    known = [figure for figure in figures if figure.value is not None]
    if not known:
        return Target(what, "not measured", None)
    figure = worst(known, key=lambda figure: figure.value)
    found = f"{shown.format(figure.value)} ({figure.where})"
    if not all(figure.met for figure in known):
        return Target(what, found, False)
    if len(known) < wanted:
        return Target(what, f"{found}; {len(known)} of {wanted} measured", None)
    return Target(what, found, True)


def _seconds(row: Mapping[str, Any], name: str) -> float | None:
    seconds: float | None = row["providers"].get(name, {}).get("seconds")
    return seconds


def _ratios(rows: Iterable[Mapping[str, Any]], baseline: str) -> list[Figure]:
    figures = []
    for row in rows:
        other, ours = _seconds(row, baseline), _seconds(row, "fastdrop")
        ratio = other / ours if other and ours else None
        figures.append(Figure(where(row), ratio, ratio is not None and ratio >= 1))
    return figures


def _share(rows: Iterable[Mapping[str, Any]], kinds: int) -> Target:
    figures = []
    for row in rows:
        if row["size"] == SHARE_AT:
            share = row["providers"].get("fastdrop", {}).get("share_of_copy")
            figures.append(Figure(where(row), share, share is not None and share >= SHARE))
    what = f"at least {SHARE:.0%} of y.copy_(x)'s bandwidth at {short(SHARE_AT)}"
    return _target(what, figures, kinds, min, "{:.1%}")


def check_targets(sections: Mapping[str, Any], dtypes: int, sizes: Iterable[int]) -> list[Target]:
    """Return all targets.

    Parameters
    ----------
    sections : mapping of names to what sections found
        As in the document.
    dtypes, sizes : int, iterable of int
        How many dtypes and which sizes were meant to be measured.
    """
    kinds = dtypes * len(PASSES)
    speed = sections.get("speed", {}).get("rows", [])
    large = [row for row in speed if row["size"] >= FASTER_FROM]
    wanted = kinds * sum(size >= FASTER_FROM for size in sizes)
    host = sections.get("host", {}).get("rows", [])
    kept = [row for row in sections.get("memory", {}).get("rows", []) if row["name"] == "fastdrop"]
    graphs = [row for row in sections.get("graphs", {}).get("rows", []) if row["name"] == "fastdrop"]
    return [
        _share(speed, kinds),
        *(
            _target(
                f"faster than {baseline} from {short(FASTER_FROM)} up",
                _ratios(large, baseline),
                wanted,
                min,
                "{:.2f} x",
            )
            for baseline in BASELINES
        ),
        _target("time on the host no more than native's", _ratios(host, "native"), kinds, min, "native takes {:.2f} x"),
        _target("0 bytes kept for the backward", map(_kept, kept), dtypes, max, "{:.3f} bytes an element"),
        _target(
            "a graph's replays have masks as they should", map(_masks, graphs), dtypes, min, "{:.0f} of 3 checks hold"
        ),
    ]


def _kept(row: Mapping[str, Any]) -> Figure:
    most = max(row["saved"], row["kept"], row["peak"]) if "saved" in row else None
    return Figure(row["dtype"], most, most is not None and most <= NOTHING)


def _masks(row: Mapping[str, Any]) -> Figure:
    held = sum(row[check] for check in ("fresh_masks", "same_masks", "independent")) if "fresh_masks" in row else None
    return Figure(row["dtype"], held, held == 3)
