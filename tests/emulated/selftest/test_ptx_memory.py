"""The PTX interpreter's memory: loads, stores and vectors, and accesses that no GPU would forgive."""

import struct

import numpy as np
import pytest
from ptx import AccessError, Memory
from ptx.snippets import FIRST_ADDRESS, PLACE, SECOND_ADDRESS, THREAD, run
from ptx_operands import width


@pytest.mark.parametrize(
    ("type", "format"), [*{"u8": "B", "s8": "b", "u16": "H", "s16": "h", "b32": "I", "s32": "i"}.items()]
)
def test_loads_extend_and_stores_cut(type, format):
    x, y = np.random.default_rng(0).integers(0, 256, 64, np.uint8), np.zeros(2, np.uint64)
    code = f"ld.param.u64 w0, [a0]; ld.param.u64 w1, [a1]; ld.global.{type} w2, [w0+8];"
    memory, _ = run(f"{code} st.global.b64 [w1], w2; st.global.{type} [w1+8], w2;", x, y, block=1)
    (want,) = struct.unpack_from(format, x, 8)
    assert int(y[0]) == want % 2**64
    assert y[1:].tobytes() == struct.pack(format, want).ljust(8, b"\0")
    assert memory.touched(FIRST_ADDRESS).loaded == struct.calcsize(format)


@pytest.mark.parametrize("vector", ["v2.u8", "v4.u8", "v2.b16", "v4.f32", "v4.b32", "v2.f64", "v8.b32", "v4.b64"])
def test_vectors(vector):
    """With hints, which change nothing; each thread's words come back in reverse order."""
    count, bits = int(vector[1]), width(vector[3:])
    names = [f"x{n}" for n in range(count)]
    x = np.random.default_rng(0).integers(0, 2**16, (8, count), np.uint64).astype(f"u{bits // 8}")
    y = np.zeros_like(x)
    code = f"""{THREAD} .reg .b{max(16, bits)} {", ".join(names)}; ld.param.u64 w0, [a0]; ld.param.u64 w1, [a1];
        mad.wide.u32 w0, r0, {x[0].nbytes}, w0; mad.wide.u32 w1, r0, {x[0].nbytes}, w1; add.s64 w1, w1, 64;
        ld.global.nc.L1::no_allocate.L2::128B.{vector} {{{", ".join(names)}}}, [w0];
        st.global.cs.{vector} [w1+-64], {{{", ".join(reversed(names))}}};"""
    memory, _ = run(code, x, y, block=8)
    assert np.array_equal(y, x[:, ::-1])
    assert memory.touched(FIRST_ADDRESS) == (x.nbytes, x.nbytes, 0, 0)


LOAD = "ld.param.u64 w0, [a0]; ld.global.v4.u32 {r1, r2, r3, r4}, [w0];"
STORE = "ld.param.u64 w0, [a0]; st.global.u16 [w0+2], h0;"


@pytest.mark.parametrize("distance", [-16, -2, 64, 4096, 4352 + 64, -(2**46), 2**62, -FIRST_ADDRESS])
def test_accesses_outside_every_buffer(distance):
    memory, at = Memory(), FIRST_ADDRESS + distance
    assert [memory.add(np.zeros(16, np.float32)) for _ in range(2)] == [FIRST_ADDRESS, SECOND_ADDRESS]
    if at % 16 == 0:
        with pytest.raises(
            AccessError, match=f"^load of 16 bytes at {at:#x} is not inside a buffer, in `ld.global.v4.u32"
        ):
            run(LOAD, at, memory=memory)
    with pytest.raises(AccessError, match=f"^store of 2 bytes at {at:#x} is not inside a buffer, in `st.global.u16"):
        run(STORE, at - 2, memory=memory)
    run(LOAD, FIRST_ADDRESS + 48, memory=memory)
    run(STORE, SECOND_ADDRESS + 60, memory=memory)


def test_accesses_that_begin_in_a_buffer_and_end_outside():
    memory = Memory()
    memory.add(np.zeros(13, np.float32))
    run(LOAD, FIRST_ADDRESS + 32, memory=memory)
    with pytest.raises(AccessError, match=f"load of 16 bytes at {FIRST_ADDRESS + 48:#x} is not inside"):
        run(LOAD, FIRST_ADDRESS + 48, memory=memory)
    with pytest.raises(AccessError, match="at 0x0 is not inside"):
        run(LOAD, 0)  # no buffer at all


@pytest.mark.parametrize(("code", "shift"), [(LOAD, 8), (LOAD, 4), (LOAD, 1), (STORE, 1), (STORE, 33)])
def test_misaligned_accesses(code, shift):
    memory = Memory()
    at = memory.add(np.zeros(16, np.float32)) + shift
    access = f"load of 16 bytes at {at:#x}" if code is LOAD else f"store of 2 bytes at {at + 2:#x}"
    with pytest.raises(AccessError, match=f"^{access} is misaligned, in `"):
        run(code, at, memory=memory)


def test_stores_to_a_read_only_buffer():
    memory = Memory()
    address = memory.add(np.zeros(16, np.float32), readonly=True)
    run(LOAD, address, memory=memory)
    with pytest.raises(AccessError, match=f"^store of 2 bytes at {address + 2:#x} is in a read-only buffer"):
        run(STORE, address, memory=memory)
    assert memory.touched(address).stored == 0


def test_one_wrong_thread_of_many_is_found():
    with pytest.raises(AccessError, match=f"store of 4 bytes at {FIRST_ADDRESS + 4 * 99:#x} is not inside"):
        run(f"{PLACE} st.global.u32 [w1], r0;", np.zeros(99, np.uint32), block=100)


def test_buffers_may_not_overlap_and_have_to_be_contiguous():
    memory, array = Memory(), np.zeros(16, np.float32)
    assert memory.add(array, address=0x1004) == 0x1004
    for address in 0x1003, 0x1004, 0x1004 + 63, 0x1004 - 63:
        with pytest.raises(ValueError, match=f"at {address:#x} overlaps the one at 0x1004"):
            memory.add(array, address=address)
    assert [memory.add(array, address=at) for at in (0x1004 + 64, 0x1004 - 64)] == [0x1044, 0xFC4]
    with pytest.raises(ValueError, match="contiguous"):
        memory.add(array[::2])


def test_a_buffer_at_its_real_address():
    """As device memory is seen where host memory stands in for it, here between two multiples of 16 bytes."""
    storage, memory = np.zeros(100, np.uint8), Memory()
    start = -storage.ctypes.data % 16 + 4
    x = storage[start : start + 60].view(np.uint32)
    x[:] = np.arange(15)
    address = memory.add(x, address=x.ctypes.data)
    run(f"{LOAD} st.global.u32 [w0], r4;", address + 12, block=1, memory=memory)
    assert x.tolist() == [0, 1, 2, 6, *range(4, 15)]
    assert memory.touched(address) == (16, 16, 4, 4)
    run(LOAD, address + 44, memory=memory)
    for outside in address - 4, address + 60:
        with pytest.raises(AccessError, match="not inside"):
            run(LOAD, outside, memory=memory)
