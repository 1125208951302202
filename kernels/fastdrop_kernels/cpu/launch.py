"""Run a kernel over a range of elements, in the calling thread or on the threads of an OpenMP runtime.

The runtime is one that somebody else has loaded; its functions come in as addresses.
"""

import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numba import types

from fastdrop_kernels.casts import float64_bits
from fastdrop_kernels.cpu.compiler import KERNEL, compile_callback, compiled_entry, entry_point, inlined
from fastdrop_kernels.cpu.elementwise import BLOCK
from fastdrop_kernels.cpu.intrinsics import WORDS, c_function, fence, stack_words
from fastdrop_kernels.launch import (
    COUNT,
    INNER,
    OFFSET,
    PARAMETER,
    REPEAT,
    SECOND,
    SEED,
    SEED_ADDRESS,
    START,
    THIRD,
    Launch,
    X,
    Y,
)

u64 = np.uint64
SHARED: Final = 18  # words that the threads share: a kernel's arguments, then what `share` needs
KERNEL_ADDRESS, FIRST, BLOCKS, WANTED, THREAD_NUM, NUM_THREADS = range(12, SHARED)

LAUNCH: Final = types.Tuple([types.float64 if index == PARAMETER else types.int64 for index in range(KERNEL_ADDRESS)])

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
    first, blocks = shared[FIRST], shared[BLOCKS]
    thread = u64(call_omp_get(shared[THREAD_NUM], ()))
    threads = min(shared[WANTED], u64(call_omp_get(shared[NUM_THREADS], ())))
    if thread < threads:
        last = first + blocks * (thread + u64(1)) // threads
        call_kernel(shared[KERNEL_ADDRESS], (shared, first + blocks * thread // threads, last))
        fence()  # non-temporal stores arrive before whoever waits is told


@inlined
def pack(shared: Any, launch: Any) -> None:
    """Write a kernel's arguments."""
    x, y, second, third, start, count, seed, seed_address, offset, parameter, repeat, inner = launch
    shared[X], shared[Y], shared[SECOND], shared[THIRD] = u64(x), u64(y), u64(second), u64(third)
    shared[START], shared[COUNT] = u64(start), u64(count)
    shared[SEED], shared[SEED_ADDRESS], shared[OFFSET] = u64(seed), u64(seed_address), u64(offset)
    shared[PARAMETER], shared[REPEAT], shared[INNER] = float64_bits(parameter), u64(repeat), u64(inner)


@inlined
def blocks_of(start: Any, count: Any) -> Any:
    """Return the first block of the mask stream that elements lie in, and the one after the last."""
    return u64(start) // BLOCK, (u64(start) + u64(count) + BLOCK - u64(1)) // BLOCK


@compiled_entry
def run_serial(kernel: int, launch: Launch) -> None:
    """Run a kernel in the calling thread, without the GIL; kernel: an address of `registry`."""
    shared = stack_words(SHARED)
    pack(shared, launch)
    first, last = blocks_of(launch[START], launch[COUNT])
    call_kernel(u64(kernel), (shared, first, last))
    fence()  # as above


def serial(kernel: int) -> Callable[[Launch], None]:
    """Return `run_serial` of a kernel, with less work a call."""
    return functools.partial(entry_point(run_serial, types.int64, LAUNCH), kernel)


@compiled_entry
def run_blocks(kernel: int, launch: Launch, first: int, last: int) -> None:
    """Run a kernel as `run_serial` does, on those of its elements that lie in blocks from `first` to before `last`."""
    shared = stack_words(SHARED)
    pack(shared, launch)
    call_kernel(u64(kernel), (shared, u64(first), u64(last)))
    fence()  # as above


@compiled_entry
def run_parallel(
    kernel: int, launch: Launch, threads: int, team: int, worker: int,
    gomp_parallel: int, thread_num: int, num_threads: int,
) -> None:  # fmt: skip
    """Run a kernel as `run_serial` does, on `threads` threads of a team; worker: address of `share`; then an `OpenMP`.

    The team is to be as large as whoever else uses the runtime makes it: libgomp ends threads that a smaller team
    leaves out, and the next larger one has to start them again.
    """
    shared = stack_words(SHARED)
    pack(shared, launch)
    first, last = blocks_of(launch[START], launch[COUNT])
    shared[KERNEL_ADDRESS], shared[FIRST], shared[BLOCKS] = u64(kernel), first, last - first
    shared[WANTED], shared[THREAD_NUM], shared[NUM_THREADS] = u64(threads), u64(thread_num), u64(num_threads)
    call_gomp_parallel(u64(gomp_parallel), (u64(worker), shared, np.uint32(team), np.uint32(0)))


@functools.cache
def worker() -> Any:
    """Return `share` as a C callback."""
    return compile_callback(types.void(WORDS), share, "share")
