"""`python -m bench.steps`, from a checkout: training steps of models, and compiled dropout alone.

A step is measured with torch's dropouts, with ours installed, and with p = 0, the floor; eager and compiled; on two
threads. A dropout alone is measured on one, beside `x * 2`: an identity but for a factor, which reads and writes as
much in both passes as a dropout does; and beside `x.clone()`, whose backward does nothing.

All contenders take turns in one process, for ratios need that. So native goes through our overrides, switched off: 1.5
microseconds a dropout. And in eager mode, what is installed is so for each call anew: 8 microseconds a call.
"""

import argparse
import functools
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch._inductor import compile as inductor
from torch.nn.functional import dropout as native_dropout
from torch.nn.functional import mse_loss

import fastdrop
from bench.gpu import targets
from bench.gpu.report import WIDTH, grid
from bench.gpu.targets import Target
from bench.models import MODELS, Model
from fastdrop.bench import contenders, system
from fastdrop.bench.report import write
from fastdrop.bench.run import FULL, QUICK, Effort
from fastdrop.bench.timing import Timing, interleaved
from fastdrop.functional import dropout

FORMAT: Final = 1  # of the document
THREADS: Final = 2
P: Final = 0.1  # of the models
BATCH: Final = 16
SIZE: Final = 1 << 20
FASTER, SLOWER, COMPILED_FASTER, COMPILED_SLOWER = 1.4, 1.1, 10, 1.5  # targets: than native, than the floor

IDENTITY: Final = "x * 2"
MODES: Final = ("eager", "compiled")
STEPS: Final = ("native", "p = 0", "installed")  # native leaves the heap in a state that the next one pays for
ALONE: Final[Mapping[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "native": lambda x: native_dropout(x, contenders.P),
    "x.clone()": lambda x: x.clone(),  # after native, which leaves caches and heap to nobody's liking
    "x * 2": lambda x: x * 2,
    "installed": lambda x: native_dropout(x, contenders.P),
    "fastdrop": lambda x: dropout(x, contenders.P),
}

Call = Callable[[], object]


class Result(NamedTuple):
    """What was measured of one model, or of dropout alone, in one mode."""

    name: str
    mode: str
    timings: dict[str, Timing]


def in_mode(mode: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function as it is, or compiled by Inductor and for itself.

    Dynamo keeps what it compiles by code and backend, so contenders that share code would share what the first of them
    was compiled to, with fastdrop's operators or without. A backend of its own for each keeps them apart.
    """
    if mode == "eager":
        return function
    return torch.compile(function, backend=lambda graph, inputs: inductor(graph, inputs))


def warm(name: str, mode: str, call: Call) -> Call:
    """Return a contender, compiled, and called often enough to have all its memory."""
    ready = fastdrop.accelerated()(call) if name == "installed" else call
    for _ in range(3):
        ready()
    return call if mode == "compiled" else ready  # what is compiled while dropouts are ours keeps ours


def training_step(make: Callable[[float], Model], mode: str, name: str) -> Call:
    """Return a whole training step of a model: one of `STEPS`."""
    model = make(0.0 if name == "p = 0" else P)
    inputs, forward = model.draw(BATCH), in_mode(mode, model.module)
    with torch.no_grad():
        target = torch.randn_like(model.module(*inputs))
    optimizer = torch.optim.SGD(model.module.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        mse_loss(forward(*inputs), target).backward()
        optimizer.step()

    return warm(name, mode, step)


def alone(mode: str, name: str) -> Call:
    """Return the forward and backward of one of `ALONE`."""
    x, grad, forward = torch.randn(SIZE, requires_grad=True), torch.ones(SIZE), in_mode(mode, ALONE[name])
    return warm(name, mode, lambda: torch.autograd.grad(forward(x), x, grad))


def measure(name: str, mode: str, build: Callable[[str], Call], names: Iterable[str], effort: Effort) -> Result:
    """Build contenders by their names, and measure them."""
    torch._dynamo.reset()  # what was compiled before is needed no more
    return Result(name, mode, interleaved({each: build(each) for each in names}, *effort))


def measure_step(name: str, mode: str, effort: Effort) -> Result:
    """Measure a model's training step."""
    return measure(name, mode, functools.partial(training_step, MODELS[name], mode), STEPS, effort)


def measure_alone(mode: str, effort: Effort) -> Result:
    """Measure dropout alone."""
    return measure("dropout", mode, functools.partial(alone, mode), ALONE, effort)


def ratio(result: Result, one: str, other: str) -> float:
    """Return how often the time of one contender is that of another."""
    return result.timings[one].seconds / result.timings[other].seconds


def table(title: str, results: Sequence[Result], floor: str) -> Table:
    """Return results of the same contenders, one a row, with the ratios of what is installed."""
    pairs = [("native", "installed"), ("installed", floor)]
    headings = ["", "", *results[0].timings, *("\n/ ".join(pair) for pair in pairs), "IQR"]
    rows = []
    for result in results:
        cells = [result.name, result.mode, *(f"{timing.seconds * 1e3:.3g}" for timing in result.timings.values())]
        cells += [f"{ratio(result, *pair):.2f}" for pair in pairs]
        rows.append([*cells, f"{max(timing.spread for timing in result.timings.values()):.0%}"])
    return grid(title, headings, rows, texts=2)


def judge(encoder: Result, compiled: Result) -> list[Target]:
    """Return the targets, of the encoder's eager step and of compiled dropout alone."""
    faster, slower = ratio(encoder, "native", "installed"), ratio(encoder, "installed", "p = 0")
    alone_faster, alone_slower = ratio(compiled, "native", "installed"), ratio(compiled, "installed", IDENTITY)
    wanted = [
        (f"encoder: a step at least {FASTER} x faster than native", faster, faster >= FASTER),
        (f"encoder: a step at most {SLOWER} x that of p = 0", slower, slower <= SLOWER),
        (f"compiled dropout at least {COMPILED_FASTER} x faster", alone_faster, alone_faster >= COMPILED_FASTER),
        (f"compiled dropout at most {COMPILED_SLOWER} x {IDENTITY}", alone_slower, alone_slower <= COMPILED_SLOWER),
    ]
    return [Target(what, f"{found:.2f} x", met) for what, found, met in wanted]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.steps", description="Time training steps of models.")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the results there too")
    parser.add_argument("--quick", action="store_true", help="a rough answer")
    arguments = parser.parse_args(argv)
    effort, console = QUICK if arguments.quick else FULL, Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    about = system.describe()
    console.print("\n".join(f"{name}: {value}" for name, value in about.items()), markup=False)
    plan = [(name, mode) for name in MODELS for mode in MODES]
    with system.torch_threads(THREADS):
        shown = track(
            plan, "measuring", console=console, transient=True, auto_refresh=False, disable=not console.is_terminal
        )
        steps = [measure_step(*what, effort) for what in shown]
    with system.torch_threads(1):
        dropouts = [measure_alone(mode, effort) for mode in MODES]
    found = judge(steps[plan.index(("encoder", "eager"))], dropouts[MODES.index("compiled")])
    console.print(table(f"training step, ms, p = {P}, {THREADS} threads", steps, "p = 0"))
    console.print(table(f"{SIZE} float32, forward + backward, ms, one thread", dropouts, IDENTITY))
    console.print(targets.table(found))
    if arguments.json is not None:
        results = [{**result._asdict(), "timings": _plain(result.timings)} for result in steps + dropouts]
        threads = {"steps": THREADS, "dropout": 1}
        told = {"format": FORMAT, "system": about, "threads": threads, "p": P, "quick": arguments.quick}
        write({**told, "results": results, "targets": [target._asdict() for target in found]}, arguments.json)
        console.print(f"written: {arguments.json}", markup=False, soft_wrap=True)
    return 0


def _plain(timings: Mapping[str, Timing]) -> dict[str, Any]:
    return {name: timing._asdict() for name, timing in timings.items()}


if __name__ == "__main__":
    sys.exit(main())
