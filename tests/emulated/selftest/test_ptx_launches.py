"""The PTX interpreter's launches: some blocks of a grid, grids that no GPU takes, and arguments."""

import numpy as np
import pytest
from ptx import Kernel, Memory
from ptx.snippets import FIRST_ADDRESS, THREAD, module, run
from ptx_operands import raw


@pytest.mark.parametrize("first", [2**31 // 512 - 3, 2**31 - 8])
def test_some_blocks_of_a_huge_grid(first):
    """Elements beyond 2**31 and 2**40 of an array, of which no more than the blocks' part is there."""
    part = np.zeros(512 * 7, np.uint64)
    code = """mov.u32 r1, %ctaid.x; mov.u32 r2, %tid.x; cvt.u64.u32 w1, r2; mad.wide.u32 w1, r1, 512, w1;
        ld.param.u64 w0, [a0]; shl.b64 w2, w1, 3; add.s64 w2, w0, w2; st.global.u64 [w2], w1;"""
    memory = Memory()
    address = memory.add(part)
    blocks = range(first, first + 7)
    _, statistics = run(code, address - 8 * 512 * first, grid=2**31 - 1, block=512, memory=memory, blocks=blocks)
    assert part.tolist() == list(range(512 * first, 512 * (first + 7)))
    assert memory.touched(address) == (0, 0, part.nbytes, part.nbytes)
    assert statistics.opcodes["st.global.u64"] == part.size


def test_blocks_by_number():
    out = np.zeros(6 * 32, np.uint32)
    code = f"""{THREAD} mov.u32 r4, %ctaid.y; mad.lo.u32 r4, r4, 3, r1; mad.lo.u32 r0, r4, r2, r3;
        ld.param.u64 w0, [a0]; mad.wide.u32 w1, r0, 4, w0; add.u32 r4, r4, 1; st.global.u32 [w1], r4;"""
    memory, _ = run(code, out, grid=(3, 2), blocks=[4, 1])
    assert out.reshape(6, 32).tolist() == [[n] * 32 for n in (0, 2, 0, 0, 5, 0)]
    for blocks in [6], range(-1, 3):
        with pytest.raises(ValueError, match=r"a grid of \(3, 2, 1\) has no blocks \[(6|-1)\]"):
            run(code, FIRST_ADDRESS, grid=(3, 2), memory=memory, blocks=blocks)


IMPOSSIBLE = [(2**31, 1), ((1, 65536), 1), (0, 1), (1, 1025), (1, 0), (1, (64, 64)), (1, (1, 1, 65))]


@pytest.mark.parametrize(("grid", "block"), IMPOSSIBLE)
def test_launches_that_no_gpu_takes(grid, block):
    with pytest.raises(ValueError, match="no GPU runs"):
        run("", grid=grid, block=block)


def test_arguments():
    """Integers as signed or unsigned ones, floats, and parts of a parameter."""
    loads = {
        "u8 a": 255,
        "s16 b": -2,
        "u32 c": -1,
        "u64 d": 0x1122334455667788,
        "f32 e": 0.1,
        "f64 f": 0.1,
        "b64 g": -(2**63),
    }
    code = "ld.param.u64 w0, [out];"
    for n, name in enumerate(loads):
        code += f"ld.param.{name[:-2]} w1, [{name[-1]}]; st.global.u64 [w0+{8 * n}], w1;"
    code += "ld.param.b32 w1, [d+4]; st.global.u64 [w0+56], w1; ld.param.s8 w1, [a]; st.global.u64 [w0+64], w1;"
    kernel = Kernel(
        module(code, *(f".{name}" for name in loads), ".u64 .ptr .align 1 out", ".u64 .ptr .global .align 16 h")
    )
    assert kernel.name == "kernel"
    assert kernel.params == [*(tuple(name.split()) for name in loads), ("u64", "out"), ("u64", "h")]
    out, memory = np.zeros(9, np.uint64), Memory()
    kernel(1, 1, [*loads.values(), memory.add(out), 0], memory)
    bits = raw(0.1, "f32"), raw(0.1, "f64")
    assert out.tolist() == [255, 2**64 - 2, 2**32 - 1, loads["u64 d"], *bits, 2**63, 0x11223344, 2**64 - 1]
    for wrong, error in (256, OverflowError), (-129, OverflowError), (1.0, TypeError):
        with pytest.raises(error):
            kernel(1, 1, [wrong, 0, 0, 0, 0, 0, 0, 0, 0], memory)
    with pytest.raises(ValueError, match="shorter"):
        kernel(1, 1, [0, 0], memory)
