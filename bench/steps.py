"""`python -m bench.steps`, from a checkout: training steps of models, and compiled dropout alone.

A step is measured with torch's dropouts, with ours installed, and with p = 0, the lower bound; eager and compiled; on
two threads. A dropout alone is measured on one, beside `x * 2`, which reads and writes as much in both passes as a
dropout does; and beside `x.clone()`, whose backward does nothing.

All providers take turns in one process, because only then their ratios mean something. So native goes through our
overrides, switched off: 1.5 microseconds a dropout. And in eager mode ours are installed anew for each call: 8
microseconds a call.
"""

import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from rich.table import Table
from torch._inductor import compile as inductor
from torch.nn.functional import dropout as native_dropout
from torch.nn.functional import mse_loss

import fastdrop
from bench import command, tables
from bench.models import MODELS, Model
from bench.targets import Target
from fastdrop.bench import providers, system
from fastdrop.bench.run import FULL, QUICK, Effort
from fastdrop.bench.timing import Timing, interleaved
from fastdrop.functional import dropout

THREADS: Final = 2
P: Final = 0.1  # of the models
BATCH: Final = 16
SIZE: Final = 1 << 20
FASTER, SLOWER, COMPILED_FASTER, COMPILED_SLOWER = 1.4, 1.1, 10, 1.5  # targets: than native, than the lower bound

IDENTITY: Final = "x * 2"
MODES: Final = ("eager", "compiled")
STEPS: Final = ("native", "p = 0", "installed")  # native fragments the heap, and the next one pays for it
ALONE: Final[Mapping[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "native": lambda x: native_dropout(x, providers.P),
    "x.clone()": lambda x: x.clone(),  # after native, which leaves caches and heap in a bad state
    "x * 2": lambda x: x * 2,
    "installed": lambda x: native_dropout(x, providers.P),
    "fastdrop": lambda x: dropout(x, providers.P),
}

Call = Callable[[], object]


class Result(NamedTuple):
    """What was measured of one model, or of dropout alone, in one mode."""

    name: str
    mode: str
    timings: dict[str, Timing]


def in_mode(mode: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function as it is, or compiled by Inductor and for itself.

    Dynamo keeps what it compiles by code and backend, so providers that share code would share what the first of them
    was compiled to, with fastdrop's operators or without. A backend of its own for each keeps them apart.
    """
    if mode == "eager":
        return function
    return torch.compile(function, backend=lambda graph, inputs: inductor(graph, inputs))


def warm(name: str, mode: str, call: Call) -> Call:
    """Return a provider that is compiled, and was called often enough to have allocated its memory."""
    ready = fastdrop.accelerated()(call) if name == "installed" else call
    for _ in range(3):
        ready()
    return call if mode == "compiled" else ready  # what was compiled while ours were installed keeps them


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
    """Build providers by their names, and measure them."""
    torch._dynamo.reset()  # what was compiled before is needed no more
    return Result(name, mode, interleaved({each: build(each) for each in names}, *effort))


def measure_step(name: str, mode: str, effort: Effort) -> Result:
    """Measure a model's training step."""
    return measure(name, mode, functools.partial(training_step, MODELS[name], mode), STEPS, effort)


def measure_alone(mode: str, effort: Effort) -> Result:
    """Measure dropout alone."""
    return measure("dropout", mode, functools.partial(alone, mode), ALONE, effort)


def ratio(result: Result, one: str, other: str) -> float:
    """Return the time of one provider over that of another."""
    return result.timings[one].seconds / result.timings[other].seconds


def table(title: str, results: Sequence[Result], bound: str) -> Table:
    """Return results of the same providers, one a row, with the ratios of what is installed."""
    pairs = [("native", "installed"), ("installed", bound)]
    headings = ["", "", *results[0].timings, *("\n/ ".join(pair) for pair in pairs), "IQR"]
    rows = []
    for result in results:
        cells = [result.name, result.mode, *(f"{timing.seconds * 1e3:.3g}" for timing in result.timings.values())]
        cells += [f"{ratio(result, *pair):.2f}" for pair in pairs]
        rows.append([*cells, f"{max(timing.spread for timing in result.timings.values()):.0%}"])
    return tables.grid(title, headings, rows, texts=2)


def check_targets(encoder: Result, compiled: Result) -> list[Target]:
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
    arguments = command.parser("steps", "Time training steps of models.").parse_args(argv)
    effort, console = QUICK if arguments.quick else FULL, tables.console()
    about = command.show_system(console)
    plan = [(name, mode) for name in MODELS for mode in MODES]
    with system.torch_threads(THREADS):
        steps = [measure_step(name, mode, effort) for name, mode in command.progress(plan, console)]
    with system.torch_threads(1):
        dropouts = [measure_alone(mode, effort) for mode in MODES]
    found = check_targets(steps[plan.index(("encoder", "eager"))], dropouts[MODES.index("compiled")])
    console.print(table(f"training step, ms, p = {P}, {THREADS} threads", steps, "p = 0"))
    console.print(table(f"{SIZE} float32, forward + backward, ms, one thread", dropouts, IDENTITY))
    settings = {"threads": {"steps": THREADS, "dropout": 1}, "p": P, "quick": arguments.quick}
    command.finish(console, arguments.json, about, settings, command.plain(steps + dropouts), found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
