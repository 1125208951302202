"""The machine operations of a GPU that numba.cuda does not offer: accesses by address, wide products, packed rounding.

Each is one PTX instruction. Addresses are integers: numba.cuda's arrays are accessed one element at a time, while
vectorized accesses of 16 bytes need a quarter of the instructions. An instruction that LLVM would not select by itself
is written as inline assembly.
"""

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastdrop_kernels.casts import FLOAT, I32, I64, cast

U32, F32 = types.uint32, types.float32
GLOBAL: Final = 1  # the address space of device memory
VECTOR_BYTES: Final = 16


def ptx(text: str, restype: ir.Type, *argtypes: ir.Type, pure: bool = True) -> Any:
    """Return a function that emits one PTX instruction; not `pure`: it depends on other lanes or on memory."""
    letters = {I32: "r", I64: "l", FLOAT: "f"}
    constraints = ",".join(["=" + letters[restype], *(letters[argtype] for argtype in argtypes)])
    assembly = ir.InlineAsm(ir.FunctionType(restype, argtypes), text, constraints, side_effect=not pure)
    return lambda builder, *values: builder.call(assembly, values)


def binary(restype: Any, one: Any, other: Any, emit: Any) -> Any:
    """Make an intrinsic of two arguments from a function that emits its LLVM instructions."""

    @intrinsic
    def operation(typing_context: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            return emit(builder, *args)

        return restype(one, other), codegen

    return operation


def _vector_pointer(builder: ir.IRBuilder, address: Any, traits: ir.Type, count: int) -> Any:
    return builder.inttoptr(address, ir.PointerType(ir.VectorType(traits, count), addrspace=GLOBAL))


@intrinsic
def load_vector(typing_context: Any, address: Any, scalar: types.NumberClass) -> Any:
    """Return the 16 bytes at an aligned address of device memory as a tuple: ``load_vector(address, np.float32)``."""
    kind = scalar.instance_type
    count = VECTOR_BYTES * 8 // kind.bitwidth

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        pointer = _vector_pointer(builder, args[0], context.get_data_type(kind), count)
        vector = builder.load(pointer, align=VECTOR_BYTES)
        values = [builder.extract_element(vector, ir.Constant(I32, i)) for i in range(count)]
        return context.make_tuple(builder, signature.return_type, values)

    return types.UniTuple(kind, count)(types.uint64, scalar), codegen


@intrinsic
def store_vector(typing_context: Any, address: Any, values: Any) -> Any:
    """Write a tuple of 16 bytes to an aligned address of device memory."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        traits = context.get_data_type(values.dtype)
        vector = ir.Constant(ir.VectorType(traits, values.count), ir.Undefined)
        for i in range(values.count):
            vector = builder.insert_element(vector, builder.extract_value(args[1], i), ir.Constant(I32, i))
        builder.store(vector, _vector_pointer(builder, args[0], traits, values.count), align=VECTOR_BYTES)
        return context.get_dummy_value()

    return types.void(types.uint64, values), codegen


@intrinsic
def load(typing_context: Any, address: Any, scalar: types.NumberClass) -> Any:
    """Return the scalar of a NumPy class at an address of device memory: ``load(address, np.float32)``."""
    kind = scalar.instance_type

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        pointer = ir.PointerType(context.get_data_type(kind), addrspace=GLOBAL)
        return builder.load(builder.inttoptr(args[0], pointer), align=kind.bitwidth // 8)

    return kind(types.uint64, scalar), codegen


@intrinsic
def store(typing_context: Any, address: Any, value: Any) -> Any:
    """Write a scalar to an address of device memory."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        pointer = ir.PointerType(args[1].type, addrspace=GLOBAL)
        builder.store(args[1], builder.inttoptr(args[0], pointer), align=value.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(types.uint64, value), codegen


mul_wide = binary(types.uint64, U32, U32, ptx("mul.wide.u32 $0, $1, $2;", I64, I32, I32))
# (upper value, lower value) -> a word of two 16-bit floats; from sm_80 on
pack_float16 = binary(U32, F32, F32, ptx("cvt.rn.f16x2.f32 $0, $1, $2;", I32, FLOAT, FLOAT))
pack_bfloat16 = binary(U32, F32, F32, ptx("cvt.rn.bf16x2.f32 $0, $1, $2;", I32, FLOAT, FLOAT))
# The neighbouring lane's value (lanes 0 and 1, 2 and 3, ...): all 32 lanes of the warp have to take part.
of_neighbour = cast(U32, U32, ptx("shfl.sync.bfly.b32 $0, $1, 1, 31, -1;", I32, I32, pure=False))
