"""Bit casts and float16 conversions, which Numba does not offer, for both devices: one or two instructions each."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)


def cast(restype: types.Type, argtype: types.Type, emit: Callable[[ir.IRBuilder, Any], Any]) -> Any:
    """Make an intrinsic of one argument from a function that emits its LLVM instructions."""

    @intrinsic
    def convert(typing_context: Any, value: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            return emit(builder, args[0])

        return restype(argtype), codegen

    return convert


float64_from_bits = cast(types.float64, types.uint64, lambda b, v: b.bitcast(v, DOUBLE))
float64_bits = cast(types.uint64, types.float64, lambda b, v: b.bitcast(v, I64))
float32_from_bits = cast(types.float32, types.uint32, lambda b, v: b.bitcast(v, FLOAT))
float32_bits = cast(types.uint32, types.float32, lambda b, v: b.bitcast(v, I32))
float32_from_half = cast(types.float32, types.uint16, lambda b, v: b.fpext(b.bitcast(v, HALF), FLOAT))
half_from_float32 = cast(types.uint16, types.float32, lambda b, v: b.bitcast(b.fptrunc(v, HALF), I16))
