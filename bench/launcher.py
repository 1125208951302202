"""`PYTHONPATH=tests/support python -m bench.launcher`, from a checkout: a launch's time on the host, without a GPU.

The tests' stand-in takes the CUDA driver's place and lets every launch through; CPU tensors take the place of CUDA
tensors. What fastdrop, cuda.core and torch's autograd do is in the figures. What a driver takes for a launch is not,
nor what torch takes to say which device and stream are current; seeds and memory are those of CPU tensors.

The floor of a pass is an autograd.Function, called as fastdrop calls its own, that only allocates what it returns.
"""

import argparse
import contextlib
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from cuda import core
from fake_torch_cuda import STREAM, cpu_as_gpu, torch_cuda
from rich.console import Console
from rich.table import Table
from standin import Driver, build, load, real_driver_present

from bench.gpu.report import grid
from bench.gpu.session import short
from fastdrop._devices import cuda
from fastdrop._ops import autograd
from fastdrop.bench import system
from fastdrop.bench.contenders import SEED, P
from fastdrop.bench.report import write
from fastdrop.bench.run import FULL, QUICK
from fastdrop.bench.timing import Timing, interleaved
from fastdrop.functional import dropout
from fastdrop_kernels.cuda import launch
from fastdrop_kernels.launch import Launch

FORMAT: Final = 1  # of the document
SIZES: Final = (64, 1 << 20)
TARGET: Final = 3e-6  # seconds that a launch takes above the floor
KEY: Final = (P, SEED, 0, None, None)
CALLS: Final = {  # what an operation costs: with its key at hand, and with checks and a seed that is drawn
    "Function": lambda x: autograd.drop("dropout", x, KEY),
    "dropout": lambda x: dropout(x, P),
}
LAUNCHES: Final = {"forward": 1, "forward + backward": 2}  # of a pass

Timings = Mapping[str, Timing]


class Floor(torch.autograd.Function):
    """What autograd and allocation cost."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Return memory for a result."""
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> torch.Tensor:
        """Return memory for a gradient."""
        return torch.empty_like(grad_output)


_floor: Final[Any] = super(torch.autograd.Function, Floor).apply  # the short way, which fastdrop takes


@contextlib.contextmanager
def standin() -> Iterator[None]:
    """Have fastdrop launch on the stand-in, which does nothing, what it would run on the CPU; once in a process."""
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(load(build(pathlib.Path(folder))))  # once loaded, the file is not needed
    with driver.ignoring(), torch_cuda() as state, cpu_as_gpu(state):
        yield


def contenders(size: int) -> dict[str, Callable[[], object]]:
    """Return what is compared, from the inside out: launches, then each pass's floor and what is held against it."""
    x, y, grad = torch.randn(size, requires_grad=True), torch.empty(size), torch.ones(size)
    kernel = launch.load("dropout", "float32", 0)
    config = core.LaunchConfig(grid=launch.blocks(size, kernel.tile, kernel.multiprocessors), block=launch.THREADS)
    stream, addresses = core.Stream.from_handle(STREAM), (x.data_ptr(), y.data_ptr())
    launched: Launch = (*addresses, 0, 0, 0, size, SEED, 0, 0, P, 0, 0)
    arguments = (*launched[:9], *kernel.numbers(P), 0, 0)
    compared: dict[str, Callable[[], object]] = {
        "core.launch": lambda: core.launch(stream, config, kernel.handle, *arguments),
        "launch.enqueue": lambda: launch.enqueue(kernel, STREAM, launched),
        "_cuda.run": lambda: cuda.run_kernel("dropout", "float32", 0, launched),
    }
    for name, call in {"floor": _floor, **CALLS}.items():
        compared[f"{name}, forward"] = lambda call=call: call(x)
        compared[f"{name}, forward + backward"] = lambda call=call: torch.autograd.grad(call(x), x, grad)
    return compared


def measure(size: int, quick: bool) -> Timings:
    """Return what each contender takes."""
    compared = contenders(size)
    for call in compared.values():
        call()  # autograd's first backward takes a second
    return interleaved(compared, *(QUICK if quick else FULL))


def above_floor(timings: Timings, name: str) -> float | None:
    """Return by how many seconds a launch of a contender is above its pass's floor; None: it is no pass."""
    call, _, part = name.partition(", ")
    if call not in CALLS:
        return None
    return (timings[name].seconds - timings[f"floor, {part}"].seconds) / LAUNCHES[part]


def table(found: Mapping[int, Timings]) -> Table:
    """Return a row a contender, with each size's figures side by side."""
    headings, rows = ["", *(f"{short(size)}\n{what}" for size in found for what in ("a call", "above", "IQR"))], []
    for name in next(iter(found.values())):
        cells = [name]
        for timings in found.values():
            above = above_floor(timings, name)
            cells += [f"{timings[name].seconds * 1e6:.2f}", "" if above is None else f"{above * 1e6:+.2f}"]
            cells += [f"{timings[name].spread:.0%}"]
        rows.append(cells)
    return grid("time on the host, µs: a call, and a launch above the floor", headings, rows)


def document(found: Mapping[int, Timings], quick: bool) -> dict[str, Any]:
    """Return everything as plain dicts, lists, strings and numbers; times are seconds."""
    results = [
        {"size": size, "name": name, **timing._asdict(), "above_floor": above_floor(timings, name)}
        for size, timings in found.items()
        for name, timing in timings.items()
    ]
    about = {**system.describe(), **system.cuda_versions()}
    return {"format": FORMAT, "system": about, "p": P, "quick": quick, "target": TARGET, "results": results}


def verdict(results: Sequence[Mapping[str, Any]], call: str) -> str:
    """Return whether a call meets the target in both passes and for all sizes."""
    most = max(result["above_floor"] for result in results if result["name"].startswith(f"{call},"))
    word = "met" if most < TARGET else "MISSED"
    return (
        f"{word}: {call} under {TARGET * 1e6:g} µs above what autograd and allocation cost ({most * 1e6:.2f} at most)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 where it cannot run."""
    parser = argparse.ArgumentParser(prog="python -m bench.launcher", description="Time a launch on the host.")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the results there too")
    parser.add_argument("--quick", action="store_true", help="a rough answer")
    arguments = parser.parse_args(argv)
    if real_driver_present() or shutil.which("cc") is None:
        print("python -m bench.launcher needs a C compiler (cc), and a machine without a CUDA driver", file=sys.stderr)
        return 2
    with standin():
        found = {size: measure(size, arguments.quick) for size in SIZES}
    told, console = document(found, arguments.quick), Console(highlight=False)
    console.print(table(found))
    for call in CALLS:
        console.print(verdict(told["results"], call), soft_wrap=True)
    if arguments.json is not None:
        write(told, arguments.json)
        console.print(f"written: {arguments.json}", markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
