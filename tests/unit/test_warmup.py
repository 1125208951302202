"""warmup: what a member takes is there afterwards, on the CPU and while a CUDA graph is captured."""

from collections.abc import Iterator

import pytest
import torch
from family_cases import CASES, words

import fastdrop
from fastdrop import _warmup, functional
from fastdrop._devices import cpu, cuda

MASKS_OF_DROPOUT = "dropout2d"  # whose kernels dropout takes where it has a noise_shape


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[tuple[str, str]]]:
    """Return the names and dtypes of the kernels that run on the CPU from now on."""
    asked, run = set(), cpu.run_kernel
    monkeypatch.setattr(cpu, "run_kernel", lambda *args: asked.add(args[:2]) or run(*args))
    return asked


def test_every_op_can_be_named():
    assert set(functional.__all__) == _warmup.OPS


@pytest.mark.parametrize("name", CASES)
def test_a_member_takes_no_other_kernels(name, asked):
    member, _, _ = name.replace("dropout, mask", f"{MASKS_OF_DROPOUT}, mask").partition(", ")
    fastdrop.warmup([torch.float32], ops=[member])
    warm = set(asked)
    asked.clear()
    CASES[name].results(CASES[name].input(), seed=1)
    assert asked and asked <= warm


def test_dropout_alone_unless_more_is_asked_for(asked):
    fastdrop.warmup([torch.float32, torch.float64])
    assert asked == {("dropout", "float32"), ("dropout", "float64"), ("mask", "bool")}


def test_all_members_run_while_a_graph_is_captured(on_gpu, driver):
    with driver.running(lambda launch: None):  # what kernels compute is tested elsewhere
        fastdrop.warmup([torch.float32], ops="all")
        loaded = set(cuda._loaded)
        on_gpu.capturing = True
        with driver.capturing():
            for case in CASES.values():
                case.results(case.input(), seed=1)
            functional.word_dropout(words(), 0.5, 0, seed=1)
    assert set(cuda._loaded) == loaded


@pytest.mark.parametrize("ops", ["dropout1d", ["dropout", "Dropout2d"], [3]])
def test_unknown_ops(ops):
    with pytest.raises(ValueError, match=r'warmup needs ops="all" or an iterable of names out of alpha_dropout, '):
        fastdrop.warmup(ops=ops)


def test_the_old_name_of_ops(asked):
    with pytest.warns(DeprecationWarning, match="warmup takes ops in place of members"):
        fastdrop.warmup([torch.float32], members=["gaussian_dropout"])
    assert asked == {("gaussian_dropout", "float32"), ("mask", "bool")}


def test_what_has_no_kernels():
    with pytest.raises(ValueError, match=r"warmup needs dtypes out of .*torch.float64, but got torch.complex64"):
        fastdrop.warmup([torch.complex64])
    with pytest.raises(ValueError, match="warmup needs the CPU or a CUDA device, but got meta"):
        fastdrop.warmup(device="meta")
