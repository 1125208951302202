"""Every member of the family on CUDA tensors, with CPU tensors in their place: which kernels run, and the CPU's bits.

The stand-in driver hands each launch to the PTX interpreter, which works on the tensors' own memory.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("numba_cuda")
pytest.importorskip("cuda.core")

from fake_torch_cuda import cpu_as_gpu
from family_cases import CASES, IN_PLACE, P, grad_output_of, words
from oracle import assert_same_bits
from standin import Driver
from torch.utils._python_dispatch import TorchDispatchMode

from fastdrop import functional
from fastdrop._ops import masked_scale

KEY = {"seed": 2**64 - 3, "offset": 2**63 + 1}
FUSED = {case.forward: name for name, case in CASES.items() if case.forward != "mask"}  # one each
HALVES = [  # dropout's own kernel, as other tests compile it
    pytest.param(name, torch.bfloat16, marks=() if forward == "dropout" else pytest.mark.slow)
    for forward, name in FUSED.items()
]


def launched(
    driver: Driver, call: Callable[..., torch.Tensor], *args: Any, **key: Any
) -> tuple[torch.Tensor, set[str]]:
    """Return a call's result and the names of the kernels that it launched."""
    before = len(driver.launches)
    result = call(*args, **key)
    return result, {each.function for each in driver.launches[before:]}


def kernels(name: str | None, dtype: torch.dtype) -> set[str]:
    of_dtype = "bool" if name == "mask" else str(dtype).removeprefix("torch.")
    return set() if name is None else {f"fastdrop_{name}_{of_dtype}"}


def test_all_members_are_here():
    named = {name.split(",")[0] for name in CASES}
    assert named | {"dropout_mask", "word_dropout"} == set(functional.__all__)


@pytest.mark.parametrize(("name", "dtype"), [*((name, torch.float32) for name in CASES), *HALVES])
def test_forward_and_backward(cuda, driver, name, dtype):
    case, x = CASES[name], CASES[name].input(dtype)
    y, grad = case.results(x, **KEY)
    assert not torch.equal(y, x)
    leaf = x.requires_grad_()
    with cpu_as_gpu(cuda):
        got, of_forward = launched(driver, case.function, leaf, **KEY)
        (gradient,), of_backward = launched(driver, torch.autograd.grad, got, leaf, grad_output_of(got))
    assert_same_bits(got, y)
    assert_same_bits(gradient, grad)
    assert got.stride() == y.stride() and gradient.stride() == grad.stride()
    assert (of_forward, of_backward) == (kernels(case.forward, dtype), kernels(case.backward, dtype))


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(cuda, driver, name):
    case, x = CASES[name], CASES[name].input()
    wanted = case.function(x, **KEY)
    address = x.data_ptr()
    with cpu_as_gpu(cuda):
        got, kernel = launched(driver, case.function, x, inplace=True, **KEY)
    assert got is x and x.data_ptr() == address
    assert_same_bits(x, wanted)
    assert kernel == kernels(case.forward, x.dtype)


def test_words(cuda, driver):
    wanted = functional.word_dropout(words(), P, 9, **KEY)
    with cpu_as_gpu(cuda):
        got, kernel = launched(driver, functional.word_dropout, words(), P, 9, **KEY)
    assert torch.equal(got, wanted) and not torch.equal(got, words())
    assert kernel == {"fastdrop_mask_bool"}


class LikeCuda(TorchDispatchMode):
    """Round factors to a product's dtype before it is made, as torch's CUDA kernel does with those in GPU memory."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.mul.Tensor:
            args = [each.to(torch.result_type(*args)) for each in args]
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_blocks_are_scaled_exactly(dtype):
    x, keep, scale = CASES["drop_block2d"].input(dtype), torch.rand(2, 3, 7, 6) < P, torch.tensor(1.2345678)
    with LikeCuda():
        y = masked_scale.decomposed(x, keep, scale)
    assert_same_bits(y, torch.where(keep, (x.float() * scale).to(dtype), 0))
