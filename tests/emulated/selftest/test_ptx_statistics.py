"""What the PTX interpreter counts: bytes touched, and sectors of each warp's accesses."""

import numpy as np
import pytest
from ptx import Memory, Sectors, Touched
from ptx.snippets import FIRST_ADDRESS, PLACE, SECOND_ADDRESS, THREAD, run
from ptx_operands import width


def test_bytes_touched():
    """One double by all threads, every fourth float, and the upper half of each."""
    x, y = np.zeros(32, np.float64), np.zeros(16, np.float32)
    code = f"""{PLACE} ld.global.f64 w4, [w0]; mad.wide.u32 w2, r0, 16, w0; ld.global.b32 r4, [w2];
        ld.param.u64 w3, [a1]; mad.wide.u32 w3, r0, 4, w3; ld.global.b32 r5, [w3]; st.global.u16 [w3+2], h0;"""
    memory, _ = run(code, x, y, block=16)
    assert memory.touched(FIRST_ADDRESS) == Touched(16 * 8 + 16 * 4, 8 + 15 * 4, 0, 0)
    assert memory.touched(SECOND_ADDRESS) == (16 * 4, 16 * 4, 16 * 2, 16 * 2)
    run(PLACE.replace("w1, r0", "w1, 0") + "st.global.u32 [w1], 0;", SECOND_ADDRESS, memory=memory)
    assert memory.touched(SECOND_ADDRESS) == (16 * 4, 16 * 4, 16 * 2 + 32 * 4, 16 * 2 + 2)


def test_threads_that_access_different_buffers():
    x, y = np.arange(32, dtype=np.int32), np.arange(100, 132, dtype=np.int32)
    code = f"""{THREAD} and.b32 r1, r0, 1; setp.eq.u32 p, r1, 0; ld.param.u64 w0, [a0]; ld.param.u64 w1, [a1];
        selp.b64 w2, w0, w1, p; mad.wide.u32 w2, r0, 4, w2;
        ld.global.u32 r4, [w2]; neg.s32 r4, r4; st.global.u32 [w2], r4;"""
    memory, _ = run(code, x, y)
    assert x.tolist() == [i if i % 2 else -i for i in range(32)]
    assert y.tolist() == [-100 - i if i % 2 else 100 + i for i in range(32)]
    assert memory.touched(FIRST_ADDRESS) == memory.touched(SECOND_ADDRESS) == (64, 64, 64, 64)


def sectors(size: int, addresses: list[int], block: int) -> Sectors:
    """Count sectors warp by warp, with sets."""
    blocks = [addresses[i : i + block] for i in range(0, len(addresses), block)]
    warps = [threads[i : i + 32] for threads in blocks for i in range(0, block, 32)]
    touched = [len({address // 32 for address in warp}) for warp in warps]
    return Sectors(sum(touched), sum(-(-len(warp) * size // 32) for warp in warps))


PLACES = {  # of a thread's word, in words
    "contiguous": lambda i: i,
    "reversed": lambda i: 999 - i,
    "every other": lambda i: 2 * i,
    "far apart": lambda i: 64 * i,
    "the same": lambda i: 0,
    "odd and even": lambda i: i ^ 1,
    "scattered": lambda i: i * 7919 % 1021,
}


@pytest.mark.parametrize("vector", ["u8", "u16", "u32", "v4.u32", "v4.b64"])
@pytest.mark.parametrize("places", PLACES)
def test_sectors(places, vector):
    names = "{w4, w5, w6, w7}" if vector.startswith("v4") else "w4"
    size, (grid, block) = (4 if "v4" in vector else 1) * width(vector.removeprefix("v4.")) // 8, (4, 72)
    index = np.array([PLACES[places](i) for i in range(grid * block)], np.uint32)
    code = f"""{PLACE} ld.global.u32 r4, [w1]; ld.param.u64 w1, [a1]; mad.wide.u32 w1, r4, {size}, w1;
        st.global.{vector} [w1], {names};"""
    memory, x = Memory(), np.zeros((int(index.max()) + 1) * size, np.uint8)
    start = memory.add(x, address=2**63)
    _, statistics = run(code, index, start, grid=grid, block=block, memory=memory)
    assert statistics.store == sectors(size, [start + size * i for i in index.tolist()], block)
    assert statistics.load == sectors(4, [FIRST_ADDRESS + 4 * i for i in range(grid * block)], block)


@pytest.mark.parametrize(("thread", "second", "want"), [(32, 16, Sectors(128, 64)), (16, 1024, Sectors(64, 64))])
def test_sectors_tell_strided_from_contiguous(thread, second, want):
    """Eight floats a thread: side by side in two loads, or every load of a warp in one piece."""
    x, load = np.zeros(512, np.float32), "ld.global.v4.f32 {r1, r2, r3, r4}, "
    code = f"mov.u32 r0, %tid.x; ld.param.u64 w0, [a0]; mad.wide.u32 w1, r0, {thread}, w0; {load} [w1];"
    code += f"{load} [w1+{second}];"
    memory, statistics = run(code, x, block=64)
    assert (statistics.load, statistics.store) == (want, Sectors(0, 0))
    assert memory.touched(FIRST_ADDRESS) == (x.nbytes, x.nbytes, 0, 0)
