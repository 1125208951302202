"""How many threads a kernel gets, and which."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import torch

from fastdrop._openmp import torch_openmp
from fastdrop_kernels.cpu import launch
from fastdrop_kernels.stream import BLOCK

OPENMP_GRAIN = 16_384  # elements that are worth a thread of OpenMP's: about 3 us of work
WORTH_SHARING = 2 * OPENMP_GRAIN
POOL_GRAIN = 262_144  # elements that are worth a Python thread: about 50 us

_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True  # a child inherits OpenMP's state, not its threads: a parallel region in it can hang for good


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="fastdrop")


def backend() -> str:
    """Return what runs a large tensor's kernel now: "openmp", "python threads" or "serial"."""
    if _forked or torch.get_num_threads() == 1:
        return "serial"
    return "openmp" if torch_openmp() else "python threads"


def run(
    kernel: int, x: int, y: int, start: int, count: int, itemsize: int,
    seed: int, offset: int, p: float, repeat: int, inner: int,
) -> None:  # fmt: skip
    """Run a kernel (see `launch.run`) on as many of torch's threads as its size is worth; the result is the same."""
    threads = team = 1
    if not _forked:
        openmp, team = torch_openmp(), torch.get_num_threads()
        threads = min(team, count // (OPENMP_GRAIN if openmp else POOL_GRAIN))
    if threads <= 1:
        launch.run(kernel, x, y, start, count, seed, offset, p, repeat, inner)
    elif openmp:
        worker = launch.worker().address
        launch.run_parallel(kernel, x, y, start, count, seed, offset, p, repeat, inner, threads, team, worker, *openmp)
    else:
        share = -(-count // (threads * BLOCK)) * BLOCK

        def run_share(i: int) -> None:
            size = min(share, count - i)
            launch.run(kernel, x + i * itemsize, y + i * itemsize, start + i, size, seed, offset, p, repeat, inner)

        list(_pool().map(run_share, range(0, count, share)))
