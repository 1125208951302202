"""How a GPU thread loads and stores each dtype."""

from typing import Final

from fastdrop_kernels.cuda.dtypes import bits16, byte, float32, float64
from fastdrop_kernels.cuda.dtypes.traits import DTypeTraits

__all__ = ["DTypeTraits", "traits", "traits_of_thread"]

SM_90: Final = {
    "float16": bits16.FLOAT16,
    "bfloat16": bits16.BFLOAT16,
    "float32": float32.LANE_PAIRED,
    "float64": float64.FLOAT64,
    "bool": byte.BYTE,
}
# Before sm_90, a shuffle links in a helper for diverged warps: it is never called, but takes 20 registers.
SM_80: Final = SM_90 | {"float32": float32.BLOCKED}
SM_75: Final = SM_80 | {"float16": bits16.FLOAT16_SM75, "bfloat16": bits16.BFLOAT16_SM75}


def traits(dtype: str, capability: tuple[int, int]) -> DTypeTraits:
    """Return the traits of a dtype ("float32", ...; "bool" for a mask) for GPUs of a compute capability."""
    newest = SM_90 if capability >= (9, 0) else SM_80 if capability >= (8, 0) else SM_75
    return newest[dtype]


def traits_of_thread(dtype: str, capability: tuple[int, int]) -> DTypeTraits:
    """Return the traits for kernels whose threads may diverge: lanes exchange nothing."""
    return float32.BLOCKED if dtype == "float32" else traits(dtype, capability)
