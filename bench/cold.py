"""`python -m bench.cold`, from a checkout: the CPU kernels with cold caches.

Every provider cycles through 12 inputs and 12 outputs of its own, which together exceed the caches, so it finds none of
them there, and pays for its own misses only. One thread, interleaved.

The kernels write into allocated memory, beside `y.copy_(x)`. Channel dropout, forward and backward, allocates as in
training, beside native; once with malloc's defaults, once with malloc set to return no memory to the system, so that
there are no page faults.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import torch
from rich.table import Table
from torch.nn import functional as native

from bench import command, tables
from bench.tables import short
from bench.targets import Target
from fastdrop import functional as ours
from fastdrop._devices import kernels
from fastdrop._keys.broadcast import NO_BROADCAST, BroadcastLayout
from fastdrop.bench import system
from fastdrop.bench.run import QUICK, Effort
from fastdrop.bench.timing import ROUNDS, Timing, interleaved

FULL: Final = Effort(0.5, ROUNDS)
BUFFERS: Final = 12
SIZE: Final = 1 << 20
SEED: Final = 1
P: Final = 0.1  # of channels, forward and backward
SHAPES: Final = ((1, 64, 8, 8), (4, 64, 16, 16), (10, 64, 28, 28), (32, 64, 28, 28), (84, 64, 28, 28))
FASTER, FASTER_FROM = 1.1, 500_000  # targets: times native's speed, from how many elements on
SLOWER, SLOWER_FROM = 0.9, 1 << 16
OVERHEAD: Final = 10e-6  # target: seconds more than native below that
NO_FAULTS: Final = {  # freed memory is kept, and nothing is mapped separately
    "MALLOC_TOP_PAD_": str(1 << 28),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 40),
}
MALLOCS: Final[dict[str, dict[str, str]]] = {"default": {}, "no page faults": NO_FAULTS}

Move = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], object]  # of x, y, and a mask's bytes


class Case(NamedTuple):
    """A kernel on inputs of one kind."""

    name: str
    dtype: torch.dtype
    p: float
    run: Move


class Row(NamedTuple):
    """What was measured of one case or shape."""

    name: str
    dtype: str
    size: int
    p: float
    timings: dict[str, Timing]  # seconds per call

    def ratio(self, one: str, other: str) -> float:
        """Return the time of one provider over that of another."""
        return self.timings[one].seconds / self.timings[other].seconds


def kernel(name: str, title: str, dtype: torch.dtype, p: float = P, broadcast: BroadcastLayout = NO_BROADCAST) -> Case:
    """Return the case of a formula's kernel and of a mask's broadcast layout."""
    return Case(title, dtype, p, lambda x, y, _: kernels.launch(name, x, y, p, SEED, 0, broadcast))


def masked_scale(title: str, dtype: torch.dtype, p: float = P, row: int = 0) -> Case:
    """Return the case of a mask in memory: one byte for each element, or for each row."""
    scale = 1 / (1 - p)
    return Case(title, dtype, p, lambda x, y, keep: kernels.masked_scale(x, keep, y, scale, row))


def cases() -> Iterator[Case]:
    """Return all cases."""
    both = torch.float32, torch.bfloat16
    for dtype in both:
        yield kernel("dropout", "elementwise", dtype)
    for length in (49, 512, 784, 1024):
        for p in (0.1, 0.5):
            yield kernel("dropout", f"channels of {length}", torch.float32, p, BroadcastLayout(length, 1))
    yield kernel("dropout", "channels of 784", torch.bfloat16, P, BroadcastLayout(784, 1))
    yield kernel("dropout", "drop path, 16 samples", torch.float32, P, BroadcastLayout(SIZE // 16, 1))
    for dtype in both:
        yield kernel("dropout", "128 time steps of 512", dtype, P, BroadcastLayout(128, 512))
        yield kernel("dropout", "channels_last, 64 channels", dtype, P, BroadcastLayout(1024, 64))
    yield kernel("dropout", "64 time steps of 4096", torch.float32, P, BroadcastLayout(64, 4096))
    for dtype in both:
        yield kernel("gaussian_dropout", "Gaussian", dtype)
    for dtype in both:
        yield masked_scale("masked_scale", dtype)
    yield masked_scale("masked_scale, rows of 784", torch.float32, P, 784)


def measure(case: Case, effort: Effort) -> Row:
    """Measure a case beside a copy."""

    def around(move: Move) -> Callable[[], None]:
        x, keep = torch.randn(SIZE).to(case.dtype), torch.rand(SIZE) >= case.p
        buffers = [(x.clone(), torch.zeros_like(x), keep.clone()) for _ in range(BUFFERS)]

        def go() -> None:
            for x, y, keep in buffers:
                move(x, y, keep)

        return go

    providers = {"fastdrop": around(case.run), "copy": around(lambda x, y, _: y.copy_(x))}
    return _row(case.name, case.dtype, SIZE, case.p, providers, effort)


def measure_channels(shape: tuple[int, ...], effort: Effort) -> Row:
    """Measure channel dropout, forward and backward, beside native."""

    def around(drop: Callable[[torch.Tensor, float], torch.Tensor]) -> Callable[[], None]:
        x = torch.randn(shape)
        buffers = [(x.clone().requires_grad_(), x.clone()) for _ in range(BUFFERS)]

        def go() -> None:
            for x, grad in buffers:
                torch.autograd.grad(drop(x, P), x, grad)

        return go

    providers = {"fastdrop": around(ours.dropout2d), "native": around(native.dropout2d)}
    return _row(str(shape), torch.float32, math.prod(shape), P, providers, effort)


def _row(
    name: str, dtype: torch.dtype, size: int, p: float, providers: dict[str, Callable[[], None]], effort: Effort
) -> Row:
    rounds = interleaved(providers, *effort)
    calls = {each: timing._replace(seconds=timing.seconds / BUFFERS) for each, timing in rounds.items()}
    return Row(name, kernels.FLOATS[dtype], size, p, calls)


def channels_in_a_process(variables: dict[str, str], quick: bool) -> list[Row]:
    """Measure channel dropout in a process of its own, for malloc reads its variables as one starts."""
    command = [sys.executable, "-m", "bench.cold", "--channels", *(["--quick"] if quick else [])]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
    found = json.loads(done.stdout)
    return [Row(**{**row, "timings": {k: Timing(*v) for k, v in row["timings"].items()}}) for row in found]


def table(title: str, rows: Iterable[Row], one: str, other: str) -> Table:
    """Return the figures, one case or shape a row."""
    cells = [
        [
            row.name,
            row.dtype,
            f"{row.p:g}",
            short(row.size),
            *(f"{timing.seconds * 1e6:.3g}" for timing in row.timings.values()),
            f"{row.ratio(one, other):.2f}",
            f"{max(timing.spread for timing in row.timings.values()):.0%}",
        ]
        for row in rows
    ]
    baseline = next(name for name in (one, other) if name != "fastdrop")
    headings = ["", "", "p", "elements", "fastdrop, us", f"{baseline}, us", f"{one}\n/ {other}", "IQR"]
    return tables.grid(title, headings, cells, texts=2)


def check_targets(channels: dict[str, list[Row]]) -> list[Target]:
    """Return the targets of channel dropout."""
    found = []
    for malloc, rows in channels.items():
        for row in rows:
            ratio, more = row.ratio("native", "fastdrop"), row.timings["fastdrop"].seconds
            more -= row.timings["native"].seconds
            where = f"channels, forward + backward, {row.name}, malloc {malloc}: "
            if row.size >= SLOWER_FROM:
                least = FASTER if row.size >= FASTER_FROM else SLOWER
                found.append(Target(f"{where}at least {least:g} x native's speed", f"{ratio:.2f} x", ratio >= least))
            else:
                what = f"{where}at most {OVERHEAD * 1e6:g} us more"
                found.append(Target(what, f"{more * 1e6:+.1f} us", more <= OVERHEAD))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0."""
    parser = command.parser("cold", "Time the kernels on cold memory.")
    parser.add_argument("--channels", action="store_true", help="print only the rows of channels, as JSON")
    arguments = parser.parse_args(argv)
    effort = QUICK if arguments.quick else FULL
    if arguments.channels:
        with system.torch_threads(1):
            print(json.dumps([measure_channels(shape, effort)._asdict() for shape in SHAPES]))
        return 0
    console = tables.console()
    about = command.show_system(console)
    with system.torch_threads(1):
        rows = [measure(case, effort) for case in command.progress(list(cases()), console)]
    channels = {name: channels_in_a_process(variables, arguments.quick) for name, variables in MALLOCS.items()}
    console.print(table("kernels, cold memory, one thread", rows, "fastdrop", "copy"))
    for malloc, each in channels.items():
        title = f"channels, forward + backward, one thread, malloc: {malloc}"
        console.print(table(title, each, "native", "fastdrop"))
    settings = {"buffers": BUFFERS, "quick": arguments.quick}
    of_channels = {name: command.plain(each) for name, each in channels.items()}
    results = {"kernels": command.plain(rows), "channels": of_channels}
    command.finish(console, arguments.json, about, settings, results, check_targets(channels))
    return 0


if __name__ == "__main__":
    sys.exit(main())
