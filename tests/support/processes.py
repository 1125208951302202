"""Other processes: fresh ones that see the packages as this one does, installed or from a checkout, and forked ones."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["fastdrop"])


def run_python(code: str, **environment: str) -> str:
    """Return what a new process prints that runs `code`; it fails if the process does."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function of a test file returns in a process that has imported fastdrop and compiled nothing."""
    with ProcessPoolExecutor(1, mp_context=FORKED) as pool:
        return pool.submit(function, *arguments).result(timeout=300)


def is_true_in_fork(check: Callable[[], bool]) -> bool:
    """Return what `check` returns in a forked child; the test fails if the child hangs."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)  # an exception is not to run the parent's tests in the child
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")
