"""How each dtype is read and written by a GPU thread."""

from typing import Final

from fastdrop_kernels.cuda.elements import bits16, byte, float32, float64
from fastdrop_kernels.cuda.elements.element import Element

__all__ = ["ELEMENTS", "Element", "element"]

ELEMENTS: Final = {
    "float16": bits16.FLOAT16,
    "bfloat16": bits16.BFLOAT16,
    "float32": float32.DEALT,
    "float64": float64.FLOAT64,
    "bool": byte.BYTE,
}
OLDER_ELEMENTS: Final = ELEMENTS | {"float16": bits16.FLOAT16_SM75, "bfloat16": bits16.BFLOAT16_SM75}


def element(dtype: str, capability: tuple[int, int]) -> Element:
    """Return the Element of a dtype ("float32", ...; "bool" for a mask) for GPUs of a compute capability."""
    return (ELEMENTS if capability >= (8, 0) else OLDER_ELEMENTS)[dtype]
