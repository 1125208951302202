"""Run a kernel over a range of elements, in the calling thread or on the threads of an OpenMP runtime.

The runtime is one that somebody else has loaded; its functions come in as addresses.
"""

import functools
from typing import Any, Final, NamedTuple

import numpy as np
from numba import types

from fastdrop_kernels.casts import float64_bits
from fastdrop_kernels.cpu.compiler import KERNEL, compile_callback, compiled_entry, inlined
from fastdrop_kernels.cpu.elementwise import BLOCK
from fastdrop_kernels.cpu.intrinsics import WORDS, c_function, fence, stack_words

u64 = np.uint64
SHARED: Final = 15  # words that the threads share: a kernel's arguments (see elementwise.py), then what `share` needs

call_kernel = c_function(KERNEL.return_type, *KERNEL.args)
call_gomp_parallel = c_function(types.void, types.uint64, WORDS, types.uint32, types.uint32)
call_omp_get = c_function(types.int32)


class OpenMP(NamedTuple):
    """Addresses of an OpenMP runtime's functions."""

    gomp_parallel: int  # GOMP_parallel
    thread_num: int  # omp_get_thread_num
    num_threads: int  # omp_get_num_threads


def share(shared: Any) -> None:
    """Run the calling OpenMP thread's share of the blocks; threads beyond those that are wanted have none."""
    kernel, first, blocks, wanted = shared[9], shared[10], shared[11], shared[12]
    thread, threads = u64(call_omp_get(shared[13], ())), min(wanted, u64(call_omp_get(shared[14], ())))
    if thread < threads:
        last = first + blocks * (thread + u64(1)) // threads
        call_kernel(kernel, (shared, first + blocks * thread // threads, last))
        fence()  # what went past the caches arrives before whoever waits is told


@inlined
def pack(
    shared: Any, x: Any, y: Any, start: Any, count: Any, seed: Any, offset: Any, p: Any, repeat: Any, inner: Any
) -> Any:
    """Write a kernel's arguments; return its first block and the one after its last."""
    shared[0], shared[1], shared[2], shared[3] = u64(x), u64(y), u64(start), u64(count)
    shared[4], shared[5], shared[6] = u64(seed), u64(offset), float64_bits(p)
    shared[7], shared[8] = u64(repeat), u64(inner)
    return u64(start) // BLOCK, (u64(start) + u64(count) + BLOCK - u64(1)) // BLOCK


@compiled_entry
def run_serial(
    kernel: int, x: int, y: int, start: int, count: int, seed: int, offset: int, p: float, repeat: int, inner: int
) -> None:
    """Run a kernel on `count` elements in the calling thread, without the GIL.

    kernel: address from `kernels.address`; x, y: addresses of the first element (equal to work in place); start: its
    index in the stream; seed, offset: 64 bits each, as signed integers; p: drop probability;
    repeat, inner: how a mask is broadcast, for kernels that do.
    """
    shared = stack_words(SHARED)
    first, last = pack(shared, x, y, start, count, seed, offset, p, repeat, inner)
    call_kernel(u64(kernel), (shared, first, last))
    fence()  # as above


@compiled_entry
def run_parallel(
    kernel: int, x: int, y: int, start: int, count: int, seed: int, offset: int, p: float, repeat: int, inner: int,
    threads: int, team: int, worker: int, gomp_parallel: int, thread_num: int, num_threads: int,
) -> None:  # fmt: skip
    """Run a kernel as `run_serial` does, on `threads` threads of a team; worker: address of `share`; then an `OpenMP`.

    The team is to be as large as whoever else uses the runtime makes it: libgomp ends threads that a smaller team
    leaves out, and the next larger one has to start them again.
    """
    shared = stack_words(SHARED)
    first, last = pack(shared, x, y, start, count, seed, offset, p, repeat, inner)
    shared[9], shared[10], shared[11] = u64(kernel), first, last - first
    shared[12], shared[13], shared[14] = u64(threads), u64(thread_num), u64(num_threads)
    call_gomp_parallel(u64(gomp_parallel), (u64(worker), shared, np.uint32(team), np.uint32(0)))


@functools.cache
def worker() -> Any:
    """Return `share` as a C callback."""
    return compile_callback(types.void(WORDS), share, "share")
