"""Section: alternative kernels, each measured against the one that is shipped.

An alternative that wins here by more than the noise, on GPUs that matter, should be shipped, and the choice removed.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import torch
from rich.table import Table

from bench.gpu import providers
from bench.gpu.session import Outcome, Session
from bench.gpu.timing import DeviceTiming, Provider, buffers_for, interleaved
from bench.tables import grid, name_of, short
from fastdrop.bench.providers import SEED, P
from fastdrop_kernels.cuda import cubins, launch
from fastdrop_kernels.cuda.compiler import compile_ptx, link
from fastdrop_kernels.cuda.dtypes import float32, traits
from fastdrop_kernels.cuda.elementwise import kernel
from fastdrop_kernels.cuda.grid import PARAMETERS
from fastdrop_kernels.cuda.packages import core
from fastdrop_kernels.formulas import FORMULAS

SIZES: Final = (1 << 26, 1 << 22)
EVERY_TILE: Final = 1 << 40  # tiles a thread: the grid is then as large as the GPU holds at once


class Variant(NamedTuple):
    """An alternative."""

    ptx: str
    threads: int = launch.THREADS  # of a block
    tiles: int = launch.TILES_PER_THREAD  # of a thread


def hinted(ptx: str, loads: str = "", stores: str = "") -> str:
    """Return PTX whose 128-bit accesses carry a cache hint: cs, "streaming"; cg, "cache in L2 only"."""
    return ptx.replace("ld.global.v4", f"ld.global{loads}.v4").replace("st.global.v4", f"st.global{stores}.v4")


def with_all_threads(ptx: str) -> str:
    """Return PTX that limits registers so that a multiprocessor reaches full occupancy."""
    blocks = launch.RESIDENT // launch.THREADS
    return ptx.replace("\n)\n", f"\n)\n.maxntid {launch.THREADS}, 1, 1\n.minnctapersm {blocks}\n", 1)


def variants(dtype: str, capability: tuple[int, int]) -> Iterator[tuple[str, Variant]]:
    """Yield each alternative with a name; the first is what is shipped."""
    shipped = cubins.ptx("dropout", dtype, capability)
    yield "shipped", Variant(shipped)
    if dtype == "float32":
        is_paired = traits(dtype, capability) is float32.LANE_PAIRED
        name, other = ("blocked", float32.BLOCKED) if is_paired else ("lane-paired", float32.LANE_PAIRED)
        made = kernel(FORMULAS["dropout"], other)
        yield name, Variant(compile_ptx(made, PARAMETERS, capability, cubins.entry_name("dropout", dtype)))
    for loads, stores in ((".cs", ""), ("", ".cs"), (".cs", ".cs"), (".cg", "")):
        yield f"ld{loads} st{stores}", Variant(hinted(shipped, loads, stores))
    yield "all threads", Variant(with_all_threads(shipped))
    for threads in (128, 512):
        yield f"{threads} threads", Variant(shipped, threads=threads)
    for tiles in (1, 2, 8, EVERY_TILE):
        yield "grid stride" if tiles == EVERY_TILE else f"{tiles} tiles", Variant(shipped, tiles=tiles)


def blocks(variant: Variant, size: int, multiprocessors: int) -> int:
    """Return the grid of a variant, as `launch.blocks` does for what is shipped."""
    one_each = -(-size // (8 * variant.threads))
    full = multiprocessors * (launch.RESIDENT // variant.threads)
    return min(one_each, max(full, -(-one_each // variant.tiles)))


def provider(variant: Variant, dtype: str, size: int, use: providers.Buffers) -> Provider:
    """Return a launch of a variant, on torch's stream."""
    device = torch.cuda.current_device()
    gpu, stream = core.Device(device), core.Stream.from_handle(torch.cuda.current_stream().cuda_stream)
    cubin = link(variant.ptx, cubins.arch_of(tuple(gpu.compute_capability)))
    handle = core.ObjectCode.from_cubin(cubin).get_kernel(cubins.entry_name("dropout", dtype))
    grid_size = blocks(variant, size, gpu.properties.multiprocessor_count)
    config = core.LaunchConfig(grid=grid_size, block=variant.threads)
    numbers = launch.load("dropout", dtype, device).numbers(P)

    def call(i: int) -> None:
        x, y = use.xs[i].data_ptr(), use.ys[i].data_ptr()
        core.launch(stream, config, handle, x, y, 0, 0, 0, size, SEED, 0, 0, *numbers, 0, 0)

    return call


def measure(session: Session, dtype: torch.dtype, size: int) -> dict[str, DeviceTiming]:
    """Return what each variant takes."""
    count = buffers_for(size * dtype.itemsize, session.device.l2_bytes)
    use = providers.buffers(session.device, dtype, size, count, backward=False)
    providers.launch("dropout", use.xs[0], use.ys[0], P, SEED, 0)  # a context, and what is shipped, loaded
    found = variants(name_of(dtype), torch.cuda.get_device_capability(session.device.place))
    calls = {name: provider(variant, name_of(dtype), size, use) for name, variant in found}
    calls["copy"] = lambda i: use.ys[i].copy_(use.xs[i])
    for call in calls.values():
        call(0)
    return interleaved(session.device, calls, count, session.effort)


def section(session: Session) -> Outcome:
    """Measure all variants in each size and dtype."""
    rows: list[dict[str, Any]] = []
    for dtype, size in itertools.product(session.dtypes, SIZES):
        if session.begins(f"{name_of(dtype)}, {short(size)}"):
            timings = measure(session, dtype, size)
            about = {"dtype": name_of(dtype), "size": size}
            rows += [{**about, "variant": name, **taken.timing._asdict()} for name, taken in timings.items()]
            session.device.release()
    return Outcome({"rows": rows}, [table(rows)] if rows else [])


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return one row a variant: its time, and the shipped kernel's over it."""
    shipped = {(row["dtype"], row["size"]): row["seconds"] for row in rows if row["variant"] == "shipped"}
    cells = [
        [
            f"{row['dtype']}, {short(row['size'])}",
            row["variant"],
            f"{row['seconds'] * 1e6:.4g}",
            f"{shipped[row['dtype'], row['size']] / row['seconds']:.3f}",
            f"{row['spread']:.1%}",
        ]
        for row in rows
    ]
    return grid("choices: µs on the device", ["what", "variant", "µs", "shipped /\nvariant", "IQR"], cells)
