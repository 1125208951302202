"""The PTX interpreter's threads: special registers, branches and loops, shuffles and votes of a warp."""

import numpy as np
import pytest
from ptx import Sectors
from ptx.snippets import PLACE, THREAD, run, words


def test_special_registers():
    grid, block = (3, 2, 2), (5, 3, 4)
    names = [f"{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"] + ["laneid"]
    out = np.zeros((*grid[::-1], *block[::-1], len(names)), np.uint32)
    code = "mov.u32 r0, 0;"
    for name, size in zip(("ctaid.z", "ctaid.y", "ctaid.x", "tid.z", "tid.y", "tid.x"), out.shape, strict=False):
        code += f"mov.u32 r1, %{name}; mad.lo.u32 r0, r0, {size}, r1;"
    code += f"ld.param.u64 w0, [a0]; mad.wide.u32 w0, r0, {4 * len(names)}, w0;"
    code += "".join(f"mov.u32 r1, %{name}; st.global.u32 [w0+{4 * i}], r1;" for i, name in enumerate(names))
    run(code, out, grid=grid, block=block)
    for z, y, x, c, b, a in np.ndindex(out.shape[:-1]):
        thread = (c * 3 + b) * 5 + a
        assert out[z, y, x, c, b, a].tolist() == [a, b, c, *block, x, y, z, *grid, thread % 32]


def test_threads_part_and_meet_again():
    """Each path is taken by the lanes that it is for, and after them all lanes of a warp are active together."""
    code = """
        and.b32 r2, r0, 1; setp.eq.u32 p, r2, 0; @p bra EVEN;
        setp.lt.u32 q, r0, 9; @!q bra BIG;
        activemask.b32 r3; mov.u32 r4, 100; bra JOIN;
    BIG:
        activemask.b32 r3; mov.u32 r4, 200; bra.uni JOIN;
    EVEN:
        activemask.b32 r3; mov.u32 r4, 300; @!p bra JOIN;
        setp.ge.u32 q, r0, 60; @q add.u32 r4, r4, 1;
    JOIN:
        activemask.b32 r5; setp.eq.u32 p, r5, 0xFFFFFFFF; @!p mov.u32 r4, 0;
    """
    assert words(code, block=64) == [300 + (i >= 60) if i % 2 == 0 else 100 if i < 9 else 200 for i in range(64)]
    masks = [0x55555555 if i % 2 == 0 else 0xAA if i < 9 else 0xAAAAAAAA - 0xAA * (i < 32) for i in range(64)]
    assert words(code + "mov.u32 r4, r3;", block=64) == masks
    _, statistics = run(f"{PLACE} {code} st.global.u32 [w1], r4;", np.zeros(64, np.uint32), block=64)
    assert statistics.store == Sectors(8, 8)


COLLATZ = """
    add.u32 r5, r0, 1; mov.u32 r4, 0;
LOOP:
    setp.eq.u32 p, r5, 1; @p bra DONE;
    and.b32 r6, r5, 1; shr.u32 r7, r5, 1; setp.eq.u32 q, r6, 0; mad.lo.u32 r6, r5, 3, 1; selp.u32 r5, r7, r6, q;
    add.u32 r4, r4, 1; bra LOOP;
DONE:
"""


@pytest.mark.parametrize(("grid", "block"), [(1, 100), (3, 33), (7, 16), (50, 32), (100, 1)])
def test_loops_of_different_lengths(grid, block):
    def steps(n: int) -> int:
        return 0 if n == 1 else 1 + steps(n // 2 if n % 2 == 0 else 3 * n + 1)

    want = [steps(n + 1) for n in range(grid * block)]
    assert words(COLLATZ, grid, block) == want
    _, statistics = run(THREAD + COLLATZ, grid=grid, block=block)
    executed = [statistics.opcodes[name] for name in ("shr.u32", "setp.eq.u32", "bra", "ret")]
    assert executed == [sum(want), 2 * sum(want) + len(want), sum(want) + len(want), len(want)]


def test_threads_that_returned_do_nothing_more():
    out = np.full(64, 7, np.uint32)
    run(f"{PLACE} setp.lt.u32 p, r0, 5; @p ret; setp.gt.u32 p, r0, 60; @p exit; st.global.u32 [w1], r0;", out, block=64)
    assert out.tolist() == [i if 5 <= i <= 60 else 7 for i in range(64)]


def test_registers_hold_anything_before_they_are_written():
    assert words("setp.ge.u32 p, r0, 3; @p mov.u32 r4, 9;") == [0xA5A5A5A5] * 3 + [9] * 29


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("segment", [0, 16, 24, 30, 31])
def test_shuffles(mode, segment):
    """As NVIDIA's manual has them: lane by lane."""
    c = segment << 8 | (0 if mode == "up" else 31)
    for b in 0, 1, 3, 8, 16, 31, 33:
        offset, clamp, want = b & 31, c & 31, []
        for lane in range(32):
            first, last = lane & segment, lane & segment | clamp & ~segment
            places = {"up": lane - offset, "down": lane + offset, "bfly": lane ^ offset}
            place = places.get(mode, first | offset & ~segment)
            inside = place >= last if mode == "up" else place <= last
            want.append(((place if inside else lane) ** 2, inside))
        code = f"mov.u32 r5, %laneid; mul.lo.u32 r5, r5, r5; shfl.sync.{mode}.b32 r4|p, r5, {b}, {c}, -1;"
        assert words(code, block=96) == 3 * [value for value, _ in want], b
        assert words(f"{code} selp.u32 r4, 1, 0, p;") == [inside for _, inside in want], b


def test_shuffles_with_lanes_that_are_not_there():
    shuffle, ten = "shfl.sync.bfly.b32 r4, r0, 1, 31, {};", [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]
    assert words(shuffle.format(-1), block=10) == ten  # a GPU waits for no lane that never was
    out = np.zeros(32, np.uint32)
    run(f"{PLACE} setp.gt.u32 p, r0, 9; @p ret; {shuffle.format(-1)} st.global.u32 [w1], r4;", out)
    assert out.tolist() == ten + [0] * 22  # nor for one that has returned
    apart = f"setp.gt.u32 p, r0, 9; @p bra ON; {shuffle} ON: mov.u32 r5, 0;"
    assert words(apart.format(0x3FF))[:10] == ten
    with pytest.raises(RuntimeError, match="member mask names lanes that are elsewhere"):
        words(apart.format(-1))
    with pytest.raises(RuntimeError, match="not in its own member mask"):
        words(shuffle.format(0xFFFF))
    with pytest.raises(RuntimeError, match="a lane that is not active, in `shfl.sync.bfly.b32 r4, r0, 1, 31, -1`"):
        words(shuffle.format(-1), block=9)
    with pytest.raises(RuntimeError, match="a lane that is not active"):
        words(apart.replace("bfly", "idx").replace("r0, 1,", "r0, 20,").format(0x3FF))


def test_votes():
    assert words("setp.lt.u32 q, r0, 5; vote.sync.ballot.b32 r4, q, -1;", block=64) == [31] * 32 + [0] * 32
    votes = "setp.lt.u32 q, r0, {}; vote.sync.{}.pred p, q, -1; selp.u32 r4, 1, 0, p;"
    for limit, some, every in (0, 0, 0), (1, 1, 0), (31, 1, 0), (32, 1, 1):
        assert words(votes.format(limit, "any")) == [some] * 32
        assert words(votes.format(limit, "all")) == [every] * 32
    half = (
        "setp.lt.u32 p, r0, 16; selp.b32 r5, 0xFFFF, 0xFFFF0000, p; vote.sync.all.pred q, p, r5; selp.u32 r4, 1, 0, q;"
    )
    assert words(half) == [1] * 16 + [0] * 16
