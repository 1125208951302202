"""float16 conversions: by the instructions of the CPU that is compiled for, or by integer arithmetic if it has none.

LLVM would call a library function instead, which may be missing: the process would crash. Both ways give the same bits,
a NaN's payload included, and both are vectorized.
"""

import functools
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import binding
from numba.core.registry import cpu_target
from numba.extending import overload

from fastdrop_kernels.casts import float32_bits, float32_from_bits, float32_from_half, half_from_float32

u16, u32, f32 = np.uint16, np.uint32, np.float32
BOTH_WAYS: Final = """
define half @through_float(half %x) {
    %wide = fpext half %x to float
    %sum = fadd float %wide, %wide
    %narrow = fptrunc float %sum to half
    ret half %narrow
}"""
LIBRARY: Final = ("hfsf", "sfhf", "h2f", "f2h")  # in its functions' names: __extendhfsf2, __truncsfhf2, __gnu_h2f_ieee


@functools.cache
def is_native() -> bool:
    """Return whether the CPU that Numba compiles for (maybe not the host) converts float16: LLVM knows, so ask it."""
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    machine = binding.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    assembly = machine.emit_assembly(binding.parse_assembly(BOTH_WAYS))
    return not any(name in assembly for name in LIBRARY)


def widen_by_instruction(bits: Any) -> Any:
    """Return a half as float32."""
    return float32_from_half(bits)


def narrow_by_instruction(value: Any) -> Any:
    """Return a float32 as the nearest half, ties to even."""
    return half_from_float32(value)


def widen_by_arithmetic(bits: Any) -> Any:
    """Return a half as float32.

    A normal one's exponent and fraction are moved to their places in a float32 and rebiased: by a product, which takes
    infinity to infinity and a NaN to a quiet one. A subnormal's fraction becomes that of 0.5, which is then taken off.
    """
    magnitude = u32(bits) & u32(0x7FFF)
    sign = (u32(bits) & u32(0x8000)) << u32(16)
    normal = float32_from_bits(u32((magnitude << u32(13)) + u32(224 << 23))) * f32(2.0**-112)
    subnormal = float32_from_bits(u32(magnitude | u32(126 << 23))) - f32(0.5)
    return float32_from_bits(u32(sign | float32_bits(subnormal if magnitude < u32(0x400) else normal)))


def narrow_by_arithmetic(value: Any) -> Any:
    """Return a float32 as the nearest half, ties to even.

    The sum with a power of two whose last bit weighs what the half's last bit will does the rounding. Too large a
    number has become infinity before.
    """
    bits = u32(float32_bits(value))
    sign, magnitude = bits & u32(0x8000_0000), u32(bits & u32(0x7FFF_FFFF))
    scaled = (float32_from_bits(magnitude) * f32(2.0**112)) * f32(2.0**-110)
    exponent = max(u32(magnitude & u32(0x7F80_0000)), u32(113 << 23))  # at least that of the smallest normal half
    rounded = u32(float32_bits(float32_from_bits(u32(exponent + u32(15 << 23))) + scaled))
    number = ((rounded >> u32(13)) & u32(0x7C00)) + (rounded & u32(0xFFF))
    nan = u32(0x7E00) | ((magnitude >> u32(13)) & u32(0x3FF))
    return u16((sign >> u32(16)) | (nan if magnitude > u32(0x7F80_0000) else number))


def widen_float16(bits: Any) -> Any:
    """Read float16."""
    raise NotImplementedError("compiled code only")


def narrow_float16(value: Any) -> Any:
    """Round to float16."""
    raise NotImplementedError("compiled code only")


@overload(widen_float16, jit_options={"forceinline": True})
def _widen(bits: Any) -> Callable[[Any], Any]:
    return widen_by_instruction if is_native() else widen_by_arithmetic


@overload(narrow_float16, jit_options={"forceinline": True})
def _narrow(value: Any) -> Callable[[Any], Any]:
    return narrow_by_instruction if is_native() else narrow_by_arithmetic
