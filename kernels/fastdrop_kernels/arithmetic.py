"""Arithmetic that rounds the same on every device, which a plain ``a * b + c`` need not: some compilers fuse it."""

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

NUMBERS: Final = (types.float32, types.float64)


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c of three float32 or three float64, rounded once: a fused multiply-add.

    One instruction on GPUs and on CPUs that have it, as those with AVX2 do; on others, a call of the C library.
    """
    if a not in NUMBERS or not a == b == c:
        raise TypeError(f"fma expects three float32 or three float64, but got {a}, {b} and {c}")

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        number = args[0].type
        function = ir.FunctionType(number, (number, number, number))
        return builder.call(builder.module.declare_intrinsic("llvm.fma", (number,), function), args)

    return a(a, b, c), codegen
