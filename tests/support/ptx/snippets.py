"""A few lines of PTX as a kernel, for tests of single instructions.

Lines may use the registers p, q, t (predicates), h0 to h3 (16 bits), r0 to r7 (32) and w0 to w7 (64).
"""

from typing import Any, Final

import numpy as np

from ptx.formats import Array
from ptx.interpreter import Kernel
from ptx.memory import Memory
from ptx.statistics import Statistics

THREAD: Final = "mov.u32 r1, %ctaid.x; mov.u32 r2, %ntid.x; mov.u32 r3, %tid.x; mad.lo.u32 r0, r1, r2, r3;"
"""Puts the thread's number into r0."""
PLACE: Final = f"{THREAD} ld.param.u64 w0, [a0]; mad.wide.u32 w1, r0, 4, w0;"
"""Puts the address of the thread's 32-bit word of the first buffer into w1."""
FIRST_ADDRESS: Final = 0x7F00_0000_0000
"""Where `run` puts its first array, written down for tests once more than in the memory itself."""
SECOND_ADDRESS: Final = 0x7F00_0000_1100
"""Where it puts the second, after one of up to 256 bytes and a gap of 4096."""


def array_type(type: str) -> str:
    """Return the NumPy type of a PTX type's numbers."""
    return "?" if type == "pred" else {"b": "u", "u": "u", "s": "i", "f": "f"}[type[0]] + str(int(type[1:]) // 8)


def module(code: str, *parameters: str, head: str = "") -> str:
    """Return a PTX module with one kernel; its parameters are like ".u64 x"."""
    listed = ", ".join(f".param {each}" for each in parameters)
    return f"""
        .version 8.8
        .target sm_100
        .address_size 64
        .visible .entry kernel({listed}) {head}
        {{
            .reg .pred p, q, t;
            .reg .b16 h<4>;
            .reg .b32 r<8>;
            .reg .b64 w<8>;
            {code}
            ret;
        }}
    """


def run(
    code: str, *arguments: Array | int, grid: Any = 1, block: Any = 32, memory: Memory | None = None, **more: Any
) -> tuple[Memory, Statistics]:
    """Run lines whose 64-bit parameters a0, a1, ... are addresses of arrays, put into memory, or integers."""
    memory = memory or Memory()
    values = [each if isinstance(each, int) else memory.add(each) for each in arguments]
    kernel = Kernel(module(code, *(f".u64 a{n}" for n in range(len(values)))))
    return memory, kernel(grid, block, values, memory, **more)


def words(code: str, grid: int = 1, block: int = 32) -> list[int]:
    """Return what lines leave in r4 of each thread, whose number is in r0."""
    out = np.zeros(grid * block, np.uint32)
    run(f"{PLACE} {code} st.global.u32 [w1], r4;", out, grid=grid, block=block)
    return [int(word) for word in out]


def evaluate(code: str, result: str, *operands: Array) -> Array:
    """Return what lines leave in register d of each thread, with operands in a, b, c and e; bools are predicates."""
    output = np.zeros(operands[0].size, array_type(result))
    lines = [f"{THREAD} ld.param.u64 w0, [a0]; cvt.u64.u32 w1, r0; setp.ge.u64 p, w1, w0; @p ret;"]
    for n, (name, array) in enumerate(zip("dabce", (output, *operands), strict=False), start=1):
        kind = "pred" if array.dtype == np.bool_ else f"b{8 * array.itemsize}"
        lines += [f".reg .{kind} {name}; .reg .b64 to_{name}; ld.param.u64 to_{name}, [a{n}];"]
        lines += [f"mad.wide.u32 to_{name}, r0, {array.itemsize}, to_{name};"]
        if name != "d" and kind == "pred":
            lines += [f"ld.global.u8 h0, [to_{name}]; setp.ne.u16 {name}, h0, 0;"]
        elif name != "d":
            lines += [f"ld.global.{kind} {name}, [to_{name}];"]
    predicate = "selp.u16 h0, 1, 0, d; st.global.u8 [to_d], h0;"
    lines += [code, predicate if result == "pred" else f"st.global.b{8 * output.itemsize} [to_d], d;"]
    run("\n".join(lines), output.size, output, *operands, grid=-(-output.size // 128), block=128)
    return output
