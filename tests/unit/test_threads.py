"""One result from any number of threads, in any kind of process."""

import os
import sys
import threading
import time

import mask_reference
import numpy as np
import pytest
import torch
from processes import is_true_in_fork, run_python

import fastdrop
from fastdrop._devices import openmp as _openmp
from fastdrop._devices import threads as _threads
from fastdrop_kernels.cpu.stores import NONTEMPORAL_MIN_BYTES

N = 300_001  # enough for eight OpenMP threads, with an odd tail
LARGE = int(NONTEMPORAL_MIN_BYTES) // 4 + 5  # float32 elements that go past the caches


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def reference(x: torch.Tensor, seed: int) -> np.ndarray:
    return mask_reference.dropout(x.numpy(), 0.1, seed)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [N, 2 * _threads.OPENMP_GRAIN + 1, LARGE])  # the second is worth two threads of any team
@pytest.mark.sampled(3)
def test_thread_count_does_not_matter(threads, n):
    torch.set_num_threads(threads)
    x = torch.randn(n)
    assert np.array_equal(fastdrop.functional.dropout(x, 0.1, seed=threads).numpy(), reference(x, threads))


@pytest.mark.parametrize("side", [64, 50])  # of a channel: whole cache lines, and not
def test_threads_that_meet_within_a_large_channel(side):
    torch.set_num_threads(3)
    x = torch.randn(LARGE // (7 * side * side) + 1, 7, side, side)
    keep = mask_reference.keep_mask(np.arange(x.shape[0] * 7), 0.5, 3).reshape(-1, 7, 1, 1)
    y = fastdrop.functional.dropout2d(x, 0.5, seed=3)
    assert np.array_equal(y.numpy(), np.where(keep, 2 * x.numpy(), 0))


def test_openmp_is_torchs_own():
    openmp = _openmp.torch_openmp()
    assert openmp is not None and all(openmp)
    omp_get_max_threads = next(filter(_openmp._is_torchs, _openmp._libraries())).omp_get_max_threads
    for threads in (1, 3, 2):
        torch.set_num_threads(threads)
        assert omp_get_max_threads() == threads


def test_backend_follows_torchs_threads():
    torch.set_num_threads(2)
    assert _threads.backend() == "openmp"
    torch.set_num_threads(1)
    assert _threads.backend() == "serial"


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_fallback_without_openmp(monkeypatch, threads):
    monkeypatch.setenv(_openmp.SWITCH, "0")
    monkeypatch.setattr(_threads, "torch_openmp", _openmp.torch_openmp.__wrapped__)
    torch.set_num_threads(threads)
    assert _threads.backend() == ("serial" if threads == 1 else "python threads")
    x = torch.randn(3 * _threads.POOL_GRAIN + 5)
    assert np.array_equal(fastdrop.functional.dropout(x, 0.1, seed=9).numpy(), reference(x, 9))


def test_switch_is_read_by_a_new_process():
    code = (
        "import fastdrop._devices.threads, torch; torch.set_num_threads(2); print(fastdrop._devices.threads.backend())"
    )
    assert run_python(code, **{_openmp.SWITCH: "0"}) == "python threads"


def test_four_python_threads_at_once():
    torch.set_num_threads(2)
    inputs = [torch.randn(N) for _ in range(4)]
    results: dict[int, list[torch.Tensor]] = {}

    def work(i: int) -> None:
        results[i] = [fastdrop.functional.dropout(inputs[i], 0.1, seed=100 * i + k) for k in range(20)]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i in range(4):
        for k in range(20):
            assert np.array_equal(results[i][k].numpy(), reference(inputs[i], 100 * i + k)), (i, k)


def test_the_gil_is_released():
    """With switches a minute apart, another thread can count only while a kernel has let go of the GIL."""
    torch.set_num_threads(1)
    x = torch.randn(1 << 25)
    y = torch.empty_like(x)
    count, done, interval = [0], threading.Event(), sys.getswitchinterval()

    def counting() -> None:
        while not done.is_set():
            count[0] += 1
            time.sleep(1e-4)

    thread = threading.Thread(target=counting)
    thread.start()
    sys.setswitchinterval(60)
    try:
        before = count[0]
        fastdrop._devices.kernels.launch_into("dropout", x, y, 0.1, 1, 0)
        counted = count[0] - before
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()
    assert counted >= 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_runs_serially_and_right():
    torch.set_num_threads(2)
    x = torch.randn(N)
    want = reference(x, 5)
    assert np.array_equal(fastdrop.functional.dropout(x, 0.1, seed=5).numpy(), want)  # the parent has used OpenMP

    def drops_alike_and_alone() -> bool:
        right = np.array_equal(fastdrop.functional.dropout(x, 0.1, seed=5).numpy(), want)
        return right and _threads.backend() == "serial"

    assert is_true_in_fork(drops_alike_and_alone)


class Dropped(torch.utils.data.Dataset):
    """Item i is the dropout of ones with seed i."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> torch.Tensor:
        return fastdrop.functional.dropout(torch.ones(100_000), 0.1, seed=i)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_dataloader_workers(context):
    loader = torch.utils.data.DataLoader(Dropped(), num_workers=2, batch_size=None, multiprocessing_context=context)
    for i, item in enumerate(loader):
        assert np.array_equal(item.numpy(), reference(torch.ones(100_000), i)), i
