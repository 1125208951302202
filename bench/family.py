"""`python -m bench.family`, from a checkout: each member of the family beside its original.

Forward and backward on the CPU, on one thread, interleaved, beside a differentiable `x.clone()`.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.gpu import targets
from bench.gpu.report import WIDTH, grid
from bench.gpu.session import short
from bench.gpu.targets import Target
from bench.originals import PAIRS, P
from fastdrop.bench import system
from fastdrop.bench.contenders import bytes_kept
from fastdrop.bench.report import write
from fastdrop.bench.run import FULL, QUICK, Effort
from fastdrop.bench.timing import Timing, interleaved

FORMAT: Final = 1  # of the document
SIZES: Final = (4096, 1 << 16, 1 << 20, 1 << 24)
FASTER_AT: Final = 1 << 20
NEVER_SLOWER: Final = 1.0


class Row(NamedTuple):
    """What was measured of a member on inputs of one size."""

    name: str
    source: str
    size: int
    timings: dict[str, Timing]
    kept: float  # bytes per element, by fastdrop
    faster: float | None  # target of this size

    def ratio(self, other: str) -> float:
        """Return how often another contender takes fastdrop's time."""
        return self.timings[other].seconds / self.timings["fastdrop"].seconds


def measure(name: str, size: int, effort: Effort) -> Row:
    """Measure a member, its original and `x.clone()`."""
    pair = PAIRS[name]
    x = torch.randn(pair.shape(size)).to(memory_format=pair.memory_format).requires_grad_()
    contenders = {"fastdrop": pair.fastdrop, "original": pair.original, "clone": torch.clone}
    gradients = {each: torch.randn_like(function(x)) for each, function in contenders.items()}
    calls = {
        each: lambda each=each, function=function: torch.autograd.grad(function(x), x, gradients[each])
        for each, function in contenders.items()
    }
    target = pair.faster if size == FASTER_AT else None if pair.faster is None else NEVER_SLOWER
    return Row(name, pair.source, size, interleaved(calls, *effort), bytes_kept(pair.fastdrop, x), target)


def table(rows: Sequence[Row]) -> Table:
    """Return the figures, a member and size a row."""
    headings = ["", "original", "elements", "fastdrop, us", "original, us", "original\n/ fastdrop", "clone\n/ fastdrop"]
    cells = [
        [
            row.name,
            row.source,
            short(row.size),
            *(f"{row.timings[each].seconds * 1e6:.3g}" for each in ("fastdrop", "original")),
            *(f"{row.ratio(each):.2f}" for each in ("original", "clone")),
            f"{row.kept:.3g}",
            f"{max(timing.spread for timing in row.timings.values()):.0%}",
        ]
        for row in rows
    ]
    return grid(
        f"forward + backward, float32, p = {P}, one thread",
        [*headings, "bytes kept\nper element", "IQR"],
        cells,
        texts=3,
    )


def judge(rows: Sequence[Row]) -> list[Target]:
    """Return the targets, of members that torch has too."""
    wanted = [(row, row.faster) for row in rows if row.faster is not None]
    return [
        Target(
            f"{row.name}, {short(row.size)}: {f'at least {faster:g} x faster' if faster > 1 else 'not slower'}",
            f"{row.ratio('original'):.2f} x",
            row.ratio("original") >= faster,
        )
        for row, faster in wanted
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.family", description="Time the family and its originals.")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the results there too")
    parser.add_argument("--quick", action="store_true", help="a rough answer")
    arguments = parser.parse_args(argv)
    effort, console = QUICK if arguments.quick else FULL, Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    about = system.describe()
    console.print("\n".join(f"{name}: {value}" for name, value in about.items()), markup=False)
    plan = [(name, size) for name in PAIRS for size in SIZES]
    shown = track(
        plan, "measuring", console=console, transient=True, auto_refresh=False, disable=not console.is_terminal
    )
    with system.torch_threads(1):
        rows = [measure(*what, effort) for what in shown]
    found = judge(rows)
    console.print(table(rows))
    console.print(targets.table(found))
    if arguments.json is not None:
        told: dict[str, Any] = {"format": FORMAT, "system": about, "p": P, "quick": arguments.quick}
        plain = [
            {**row._asdict(), "timings": {name: timing._asdict() for name, timing in row.timings.items()}}
            for row in rows
        ]
        write({**told, "results": plain, "targets": [target._asdict() for target in found]}, arguments.json)
        console.print(f"written: {arguments.json}", markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
