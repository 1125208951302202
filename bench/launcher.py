"""`python -m bench.launcher`, from a checkout: the host time of a launch, without a GPU.

The tests' stand-in replaces the CUDA driver and accepts every launch; CPU tensors replace CUDA tensors. The figures
include the time of fastdrop, cuda.core and torch's autograd, but not that of a driver's launch, nor of torch's lookup
of the current device and stream; seeds and memory are those of CPU tensors.

The baseline of a pass is an autograd.Function, called as fastdrop calls its own, that only allocates what it returns.
"""

import contextlib
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from cuda import core
from rich.table import Table

from bench import command, tables
from bench.standin import STREAM, Driver, build, cpu_as_gpu, load, real_driver_present, torch_cuda
from bench.tables import short
from fastdrop._devices import cuda
from fastdrop._ops import autograd
from fastdrop.bench import system
from fastdrop.bench.providers import SEED, P
from fastdrop.bench.run import FULL, QUICK
from fastdrop.bench.timing import Timing, interleaved
from fastdrop.functional import dropout
from fastdrop_kernels.cuda import launch
from fastdrop_kernels.launch import Launch

SIZES: Final = (64, 1 << 20)
TARGET: Final = 3e-6  # seconds that a launch takes more than the baseline
KEY: Final = (P, SEED, 0, None, None)
CALLS: Final = {  # what an operation costs: with its key at hand, and with checks and a seed that is drawn
    "Function": lambda x: autograd.drop("dropout", x, KEY),
    "dropout": lambda x: dropout(x, P),
}
LAUNCHES: Final = {"forward": 1, "forward + backward": 2}  # of a pass

Timings = Mapping[str, Timing]


class Baseline(torch.autograd.Function):
    """What autograd and allocation cost."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Return memory for a result."""
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> torch.Tensor:
        """Return memory for a gradient."""
        return torch.empty_like(grad_output)


_baseline: Final[Any] = super(torch.autograd.Function, Baseline).apply  # the fast way, which fastdrop takes


@contextlib.contextmanager
def standin() -> Iterator[None]:
    """Have fastdrop launch on the stand-in, which does nothing, what it would run on the CPU; once in a process."""
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(load(build(pathlib.Path(folder))))  # once loaded, the file is not needed
    with driver.ignoring(), torch_cuda() as state, cpu_as_gpu(state):
        yield


def providers(size: int) -> dict[str, Callable[[], object]]:
    """Return what is compared, from the inside out: launches, then each pass's baseline and providers."""
    x, y, grad = torch.randn(size, requires_grad=True), torch.empty(size), torch.ones(size)
    kernel = launch.load("dropout", "float32", 0)
    config = core.LaunchConfig(grid=launch.blocks(size, kernel.tile, kernel.multiprocessors), block=launch.THREADS)
    stream, addresses = core.Stream.from_handle(STREAM), (x.data_ptr(), y.data_ptr())
    launched: Launch = (*addresses, 0, 0, 0, size, SEED, 0, 0, P, 0, 0)
    arguments = (*launched[:9], *kernel.numbers(P), 0, 0)
    compared: dict[str, Callable[[], object]] = {
        "core.launch": lambda: core.launch(stream, config, kernel.handle, *arguments),
        "launch.enqueue": lambda: launch.enqueue(kernel, STREAM, launched),
        "cuda.run_kernel": lambda: cuda.run_kernel("dropout", "float32", 0, launched),
    }
    for name, call in {"baseline": _baseline, **CALLS}.items():
        compared[f"{name}, forward"] = lambda call=call: call(x)
        compared[f"{name}, forward + backward"] = lambda call=call: torch.autograd.grad(call(x), x, grad)
    return compared


def measure(size: int, quick: bool) -> Timings:
    """Return what each provider takes."""
    compared = providers(size)
    for call in compared.values():
        call()  # autograd's first backward takes a second
    return interleaved(compared, *(QUICK if quick else FULL))


def above_baseline(timings: Timings, name: str) -> float | None:
    """Return how many seconds more than its pass's baseline a launch of a provider takes; None: it is no pass."""
    call, _, part = name.partition(", ")
    if call not in CALLS:
        return None
    return (timings[name].seconds - timings[f"baseline, {part}"].seconds) / LAUNCHES[part]


def table(found: Mapping[int, Timings]) -> Table:
    """Return one row a provider, with each size's figures side by side."""
    headings, rows = ["", *(f"{short(size)}\n{what}" for size in found for what in ("a call", "above", "IQR"))], []
    for name in next(iter(found.values())):
        cells = [name]
        for timings in found.values():
            above = above_baseline(timings, name)
            cells += [f"{timings[name].seconds * 1e6:.2f}", "" if above is None else f"{above * 1e6:+.2f}"]
            cells += [f"{timings[name].spread:.0%}"]
        rows.append(cells)
    return tables.grid("time on the host, µs: a call, and a launch above the baseline", headings, rows)


def document(found: Mapping[int, Timings], quick: bool) -> dict[str, Any]:
    """Return everything as plain dicts, lists, strings and numbers; times are seconds."""
    results = [
        {"size": size, "name": name, **timing._asdict(), "above_baseline": above_baseline(timings, name)}
        for size, timings in found.items()
        for name, timing in timings.items()
    ]
    about = {**system.describe(), **system.cuda_versions()}
    return {"format": command.FORMAT, "system": about, "p": P, "quick": quick, "target": TARGET, "results": results}


def check_target(results: Sequence[Mapping[str, Any]], call: str) -> str:
    """Return whether a call meets the target in both passes and for all sizes."""
    most = max(result["above_baseline"] for result in results if result["name"].startswith(f"{call},"))
    word = "met" if most < TARGET else "MISSED"
    return (
        f"{word}: {call} under {TARGET * 1e6:g} µs above what autograd and allocation cost ({most * 1e6:.2f} at most)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 where it cannot run."""
    arguments = command.parser("launcher", "Time a launch on the host.").parse_args(argv)
    if real_driver_present() or shutil.which("cc") is None:
        print("python -m bench.launcher needs a C compiler (cc), and a machine without a CUDA driver", file=sys.stderr)
        return 2
    with standin():
        found = {size: measure(size, arguments.quick) for size in SIZES}
    report, console = document(found, arguments.quick), tables.console()
    console.print(table(found))
    for call in CALLS:
        console.print(check_target(report["results"], call), soft_wrap=True)
    if arguments.json is not None:
        command.save(report, arguments.json, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
