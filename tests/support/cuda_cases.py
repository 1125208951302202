"""Which kernels are tested for which architectures.

To compile one takes seconds. So of each dtype those architectures come with all tests for which it is read and
written another way, such that every architecture is among them; the others with `pytest -m slow`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import pytest

from fastdrop_kernels.cuda.cubins import Capability, arch_of

slow = pytest.mark.slow

Kernel = tuple[str, str, Capability]  # name, dtype, architecture

SM75, SM80, SM90, SM100 = ARCHITECTURES = ((7, 5), (8, 0), (9, 0), (10, 0))
OFTEN: Final = {
    "bool": (SM80,),
    "float16": (SM100,),
    "bfloat16": (SM75, SM90),
    "float32": (SM80, SM90),
    "float64": (SM75,),
}


def each(kernels: Iterable[tuple[str, str]]) -> list[Kernel]:
    """Return kernels, given by name and dtype, for every architecture."""
    return [(name, dtype, capability) for name, dtype in kernels for capability in ARCHITECTURES]


def often(kernels: Iterable[tuple[str, str]]) -> list[Kernel]:
    """Return kernels for the architectures that are always tested."""
    return [kernel for kernel in each(kernels) if kernel[2] in OFTEN[kernel[1]]]


def parametrized(kernels: Sequence[Kernel], always: Sequence[Kernel]) -> Any:
    """Parametrize by name, dtype and capability; kernels that are not `always` tested are slow."""
    params = [
        pytest.param(*kernel, id="-".join((*kernel[:2], arch_of(kernel[2]))), marks=() if kernel in always else slow)
        for kernel in kernels
    ]
    return pytest.mark.parametrize(("name", "dtype", "capability"), params)
