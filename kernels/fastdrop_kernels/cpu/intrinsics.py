"""The few CPU operations that Numba does not offer: pointers, calls by address, prefetches, non-temporal stores.

Each is one or two LLVM instructions, without any overhead in the compiled loops.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastdrop_kernels.casts import I64, cast

WORDS = types.CPointer(types.uint64)
CACHE_LINE = 64  # bytes


@intrinsic
def pointer(typing_context: Any, address: types.Integer, traits: types.NumberClass) -> Any:
    """Take an address as a pointer to elements of a NumPy scalar class: ``pointer(address, np.float32)``."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(traits.instance_type)(address, traits), codegen


@intrinsic(prefer_literal=True)
def stack_words(typing_context: Any, count: types.IntegerLiteral) -> Any:
    """Reserve ``count`` (a constant) uint64 words on the stack, aligned to a cache line."""
    size = count.literal_value

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        with builder.goto_entry_block():  # once per call, also when used inside a loop
            buffer = builder.alloca(I64, size)
            buffer.align = CACHE_LINE
        return buffer

    return WORDS(count), codegen


@intrinsic
def address_of(typing_context: Any, words: types.CPointer) -> Any:
    """Return the address that a pointer holds, as uint64."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.ptrtoint(args[0], I64)

    return types.uint64(words), codegen


@intrinsic
def prefetch(typing_context: Any, address: types.Integer) -> Any:
    """Prefetch the cache line at an address for reading; no address faults."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = ir.FunctionType(ir.VoidType(), (pointer, flag, flag, flag))
        instruction = builder.module.declare_intrinsic("llvm.prefetch", (pointer,), function)
        builder.call(instruction, (builder.inttoptr(args[0], pointer), flag(0), flag(3), flag(1)))  # read, keep, data
        return context.get_dummy_value()

    return types.void(types.uint64), codegen


def _results(builder: ir.IRBuilder) -> Any:
    """Return the metadata of the scope of all that `store` writes."""
    module = builder.module
    return module.add_metadata([module.add_metadata(["results", module.add_metadata(["fastdrop"])])])


@intrinsic
def load(typing_context: Any, words: types.CPointer, index: types.Integer) -> Any:
    """Return an element; nothing that `store` writes in the same kernel may lie there."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        value = builder.load(builder.gep(args[0], [args[1]]))
        value.set_metadata("noalias", _results(builder))
        return value

    return words.dtype(words, types.uint64), codegen


@intrinsic
def store(typing_context: Any, words: types.CPointer, index: types.Integer, value: Any) -> Any:
    """Write an element where `load` reads nothing in the same kernel.

    LLVM cannot know that of two addresses: it would compare them before each loop, and not vectorize short ones.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        instruction = builder.store(args[2], builder.gep(args[0], [args[1]]))
        instruction.set_metadata("alias.scope", _results(builder))
        return context.get_dummy_value()

    return types.void(words, types.uint64, words.dtype), codegen


@intrinsic
def store_line_nontemporal(typing_context: Any, target: types.Integer, source: types.Integer) -> Any:
    """Copy a cache line by a non-temporal store; both addresses must be aligned to a line, or the process crashes."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        line = ir.VectorType(I64, CACHE_LINE // 8).as_pointer()
        value = builder.load(builder.inttoptr(args[1], line), align=CACHE_LINE)
        store = builder.store(value, builder.inttoptr(args[0], line), align=CACHE_LINE)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), codegen


@intrinsic
def fence(typing_context: Any) -> Any:
    """Order non-temporal stores before all later ones."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


def c_function(restype: types.Type, *argtypes: types.Type) -> Any:
    """Make an intrinsic ``f(address, (arguments,))`` that calls the C function at ``address``.

    The address is an argument, never a constant: a constant would be baked into code cached on disk and jump to a
    stale place in the next process.
    """

    @intrinsic
    def call(typing_context: Any, address: Any, arguments: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            values = [context.get_value_type(argtype) for argtype in argtypes]
            returned = ir.VoidType() if restype == types.void else context.get_value_type(restype)
            function = ir.FunctionType(returned, values)
            result = builder.call(
                builder.inttoptr(args[0], function.as_pointer()), cgutils.unpack_tuple(builder, args[1])
            )
            return context.get_dummy_value() if restype == types.void else result

        return restype(types.uint64, types.Tuple(argtypes)), codegen

    return call


def _rotate_by_32(builder: ir.IRBuilder, word: Any) -> Any:
    rotate = builder.module.declare_intrinsic("llvm.fshl", (I64,), ir.FunctionType(I64, (I64, I64, I64)))
    return builder.call(rotate, (word, word, ir.Constant(I64, 32)))


swap_halves = cast(types.uint64, types.uint64, _rotate_by_32)
