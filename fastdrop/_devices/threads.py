"""How many threads a kernel gets, and which."""

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import torch

from fastdrop._devices.openmp import torch_openmp
from fastdrop_kernels.cpu.launch import run_blocks, run_parallel, run_serial, worker
from fastdrop_kernels.launch import COUNT, START, Launch
from fastdrop_kernels.locks import held_by_forks
from fastdrop_kernels.stream import BLOCK

OPENMP_GRAIN = 16_384  # elements that are worth a thread of OpenMP's: about 3 us of work
WORTH_SHARING = 2 * OPENMP_GRAIN
POOL_GRAIN = 262_144  # elements that are worth a Python thread: about 50 us

_inviting: Final = held_by_forks(threading.RLock())  # around locks of the pool's, which forks hold too
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


def run_shared(kernel: int, launch: Launch) -> None:
    """Run a kernel (see `run_serial`) on as many of torch's threads as it is worth; the result is the same."""
    threads = team = 1
    if not _forked:
        openmp, team = torch_openmp(), torch.get_num_threads()
        threads = min(team, launch[COUNT] // (OPENMP_GRAIN if openmp else POOL_GRAIN))
    if threads <= 1:
        run_serial(kernel, launch)
    elif openmp:
        run_parallel(kernel, launch, threads, team, worker().address, *openmp)
    else:
        first, last = launch[START] // BLOCK, (launch[START] + launch[COUNT] - 1) // BLOCK + 1
        size = -(-(last - first) // threads)

        def run_share(block: int) -> None:
            run_blocks(kernel, launch, block, min(block + size, last))

        _share(run_share, range(first, last, size))


def _share(run_share: Callable[[int], None], shares: Sequence[int]) -> None:
    """Run all shares, in this thread and in those of the pool that come to help.

    No share is being run when this returns, nor when it raises: what a signal handler raises frees the memory.
    """
    todo = [*shares]
    helpers: list[None] = []  # one for each thread that helps now; like todo it is changed by calls that are atomic

    def work() -> None:
        while todo:
            try:
                share = todo.pop()
            except IndexError:  # another thread was faster
                return
            run_share(share)

    def help_out() -> None:
        helpers.append(None)  # before it takes a share, so whoever finds no share left and no helper has found the end
        try:
            work()
        finally:
            helpers.pop()

    try:
        invited = _invite(help_out, len(todo) - 1)
        work()
        for helper in invited:
            if not helper.cancel():
                helper.result()
    finally:
        _stop(todo, helpers)


def _invite(help_out: Callable[[], None], count: int) -> list[Future[None]]:
    """Have threads of the pool called, if they can be: without them it is only slower."""
    invited: list[Future[None]] = []
    if not _inviting._is_owned():  # type: ignore[attr-defined]  # else a signal handler interrupts what follows
        with _inviting, contextlib.suppress(RuntimeError):  # the interpreter ends, or the system has no more threads
            for _ in range(count):
                invited.append(_pool().submit(help_out))
    return invited


def _stop(todo: list[int], helpers: list[None]) -> None:
    """Return when nobody works on a share, and nobody will."""
    try:
        todo.clear()
        while helpers:
            time.sleep(0.001)
    except BaseException:  # another signal's
        _stop(todo, helpers)
        raise
