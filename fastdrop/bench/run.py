"""`fastdrop bench`: measure every dtype, number of threads and size, show tables, write JSON."""

import pathlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from rich.console import Console
from rich.progress import Progress

from fastdrop import warmup
from fastdrop._devices import threads as _threads
from fastdrop._devices.kernels import FLOATS
from fastdrop.bench import providers, report, system
from fastdrop.bench.report import Result
from fastdrop.bench.timing import ROUNDS, interleaved


class Effort(NamedTuple):
    """How long each pass of each size is measured."""

    budget: float  # seconds
    rounds: int  # at least


FULL: Final = Effort(2.0, ROUNDS)
QUICK: Final = Effort(0.15, 3)


def measure(dtype: torch.dtype, size: int, effort: Effort) -> Result:
    """Measure all providers on `size` elements, with the threads that torch has."""
    x = torch.randn(size).to(dtype)
    leaf = x.clone().requires_grad_()
    return Result(
        dtype=FLOATS[dtype],
        threads=torch.get_num_threads(),
        backend=_threads.backend(),
        size=size,
        forward=interleaved(providers.forward(x), *effort),
        forward_backward=interleaved(providers.forward_backward(leaf), *effort),
        bytes_kept={name: providers.bytes_kept(drop, leaf) for name, drop in providers.DROPOUTS.items()},
    )


def run(
    dtypes: Sequence[torch.dtype],
    sizes: Sequence[int],
    threads: Sequence[int],
    quick: bool = False,
    json_path: pathlib.Path | None = None,
) -> None:
    """Measure and report.

    Parameters
    ----------
    dtypes : sequence of torch.dtype
        Any that fastdrop has kernels for.
    sizes : sequence of int
        Numbers of elements.
    threads : sequence of int
        Numbers of torch's threads.
    quick : bool
        If True, measure for a fifth of the time.
    json_path : Path, optional
        Where the results go as JSON.
    """
    console = Console(highlight=False)
    about = system.describe()
    console.print("\n".join(f"{name}: {value}" for name, value in about.items()), markup=False)
    warmup(dtypes)
    results: list[Result] = []
    # Its own refreshing would be a thread that runs beside what is measured.
    with Progress(console=console, transient=True, auto_refresh=False, disable=not console.is_terminal) as progress:
        task = progress.add_task("measuring", total=len(dtypes) * len(threads) * len(sizes))
        for dtype in dtypes:
            for count in threads:
                rows = []
                for size in sizes:
                    with system.torch_threads(count):
                        rows.append(measure(dtype, size, QUICK if quick else FULL))
                    progress.update(task, advance=1, refresh=True)
                console.print(*(report.table(rows, part) for part in report.PASSES))
                results += rows
    console.print(report.LEGEND, markup=False)
    if json_path is not None:
        report.write(report.document(about, quick, results), json_path)
        console.print(f"written: {json_path}", markup=False, soft_wrap=True)
