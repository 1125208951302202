"""`python -m bench.variants`, from a checkout: each variant of dropout beside its baseline.

Forward and backward on the CPU, on one thread, interleaved, beside a differentiable `x.clone()`.
"""

import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from rich.table import Table

from bench import command, tables
from bench.baselines import PAIRS, P
from bench.tables import short
from bench.targets import Target
from fastdrop.bench import system
from fastdrop.bench.providers import bytes_kept
from fastdrop.bench.run import FULL, QUICK, Effort
from fastdrop.bench.timing import Timing, interleaved

SIZES: Final = (4096, 1 << 16, 1 << 20, 1 << 24)
FASTER_AT: Final = 1 << 20
NEVER_SLOWER: Final = 1.0


class Row(NamedTuple):
    """What was measured of a variant on inputs of one size."""

    name: str
    source: str
    size: int
    timings: dict[str, Timing]
    kept: float  # bytes per element, by fastdrop
    faster: float | None  # target of this size

    def ratio(self, other: str) -> float:
        """Return how often another provider takes fastdrop's time."""
        return self.timings[other].seconds / self.timings["fastdrop"].seconds


def measure(name: str, size: int, effort: Effort) -> Row:
    """Measure a variant, its baseline and `x.clone()`."""
    pair = PAIRS[name]
    x = torch.randn(pair.shape(size)).to(memory_format=pair.memory_format).requires_grad_()
    providers = {"fastdrop": pair.fastdrop, "baseline": pair.baseline, "clone": torch.clone}
    gradients = {each: torch.randn_like(function(x)) for each, function in providers.items()}
    calls = {
        each: lambda each=each, function=function: torch.autograd.grad(function(x), x, gradients[each])
        for each, function in providers.items()
    }
    target = pair.faster if size == FASTER_AT else None if pair.faster is None else NEVER_SLOWER
    return Row(name, pair.source, size, interleaved(calls, *effort), bytes_kept(pair.fastdrop, x), target)


def table(rows: Sequence[Row]) -> Table:
    """Return the figures, one variant and size a row."""
    headings = ["", "baseline", "elements", "fastdrop, us", "baseline, us", "baseline\n/ fastdrop", "clone\n/ fastdrop"]
    cells = [
        [
            row.name,
            row.source,
            short(row.size),
            *(f"{row.timings[each].seconds * 1e6:.3g}" for each in ("fastdrop", "baseline")),
            *(f"{row.ratio(each):.2f}" for each in ("baseline", "clone")),
            f"{row.kept:.3g}",
            f"{max(timing.spread for timing in row.timings.values()):.0%}",
        ]
        for row in rows
    ]
    return tables.grid(
        f"forward + backward, float32, p = {P}, one thread",
        [*headings, "bytes kept\nper element", "IQR"],
        cells,
        texts=3,
    )


def check_targets(rows: Sequence[Row]) -> list[Target]:
    """Return the targets of the variants that torch has too."""
    wanted = [(row, row.faster) for row in rows if row.faster is not None]
    return [
        Target(
            f"{row.name}, {short(row.size)}: {f'at least {faster:g} x faster' if faster > 1 else 'not slower'}",
            f"{row.ratio('baseline'):.2f} x",
            row.ratio("baseline") >= faster,
        )
        for row, faster in wanted
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0."""
    arguments = command.parser("variants", "Time the variants and their baselines.").parse_args(argv)
    effort, console = QUICK if arguments.quick else FULL, tables.console()
    about = command.show_system(console)
    with system.torch_threads(1):
        plan = [(name, size) for name in PAIRS for size in SIZES]
        rows = [measure(name, size, effort) for name, size in command.progress(plan, console)]
    console.print(table(rows))
    settings = {"p": P, "quick": arguments.quick}
    command.finish(console, arguments.json, about, settings, command.plain(rows), check_targets(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
