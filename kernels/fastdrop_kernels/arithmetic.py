"""Arithmetic that rounds the same on every device, which a plain ``a * b + c`` need not: some compilers fuse it."""

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastdrop_kernels.casts import FLOAT, cast

NUMBERS: Final = (types.float32, types.float64)


def _fused(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    function = ir.FunctionType(a.type, (a.type, a.type, a.type))
    return builder.call(builder.module.declare_intrinsic("llvm.fma", (a.type,), function), (a, b, c))


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c of three float32 or three float64, rounded once: a fused multiply-add.

    One instruction on GPUs and on CPUs that have it, as those with AVX2 do; on others, a call of the C library.
    """
    if a not in NUMBERS or not a == b == c:
        raise TypeError(f"fma expects three float32 or three float64, but got {a}, {b} and {c}")

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return _fused(builder, *args)

    return a(a, b, c), codegen


def polynomial(*coefficients: float) -> Any:
    """Make an intrinsic of one float32 x: ``c0 + x * (c1 + x * (c2 + ...))``, a fused multiply-add a coefficient."""

    def horner(builder: ir.IRBuilder, x: Any) -> Any:
        value, *others = [ir.Constant(FLOAT, c) for c in reversed(coefficients)]
        for c in others:
            value = _fused(builder, value, x, c)
        return value

    return cast(types.float32, types.float32, horner)
