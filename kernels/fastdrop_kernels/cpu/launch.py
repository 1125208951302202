"""Run a kernel's blocks, in the calling thread or on the OpenMP threads of a runtime that somebody else has loaded."""

import functools
from typing import Any, Final, NamedTuple

import numpy as np
from numba import types

from fastdrop_kernels.cpu.blocks import BLOCK
from fastdrop_kernels.cpu.compiler import KERNEL, compile_callback, compile_entry
from fastdrop_kernels.cpu.intrinsics import WORDS, address_of, c_function, float64_bits, stack_words

u64 = np.uint64
ARGUMENTS: Final = 7  # words that a kernel reads, see blocks.py
SHARED: Final = 12  # words that the threads share: a kernel's arguments, then what `share` needs

call_kernel = c_function(KERNEL.return_type, *KERNEL.args)
gomp_parallel = c_function(types.void, types.uint64, WORDS, types.uint32, types.uint32)
omp_get = c_function(types.int32)


class OpenMP(NamedTuple):
    """Addresses of an OpenMP runtime's functions; all 0 where there is none."""

    parallel: int = 0  # GOMP_parallel
    thread_num: int = 0  # omp_get_thread_num
    num_threads: int = 0  # omp_get_num_threads


@functools.cache
def worker() -> Any:
    """Compile what each OpenMP thread runs: its share of the blocks."""

    def share(shared: Any) -> None:
        kernel, first, blocks = shared[7], shared[8], shared[9]
        thread, threads = u64(omp_get(shared[10], ())), u64(omp_get(shared[11], ()))
        last = first + blocks * (thread + u64(1)) // threads
        call_kernel(kernel, (shared, first + blocks * thread // threads, last))

    return compile_callback(types.void(WORDS), share, "share_of_one_thread")


def launch(
    kernel: int, x: int, y: int, start: int, count: int, seed: int, offset: int, p: float,
    threads: int, share: int, parallel: int, thread_num: int, num_threads: int,
) -> None:
    shared = stack_words(SHARED)
    shared[0], shared[1], shared[2], shared[3] = u64(x), u64(y), u64(start), u64(count)
    shared[4], shared[5], shared[6] = u64(seed), u64(offset), float64_bits(p)
    first = u64(start) // BLOCK
    end = (u64(start) + u64(count) + BLOCK - u64(1)) // BLOCK
    if threads == 1:
        call_kernel(u64(kernel), (shared, first, end))
    else:
        shared[7], shared[8], shared[9] = u64(kernel), first, end - first
        shared[10], shared[11] = u64(thread_num), u64(num_threads)
        gomp_parallel(u64(parallel), (u64(share), shared, np.uint32(threads), np.uint32(0)))
launch = compile_entry(launch)
