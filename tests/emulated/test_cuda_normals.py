"""Gaussian noise on the GPU: its PTX, interpreted, against the CPU kernels bit for bit; and its machine code."""

import functools
import re
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from cuda_runs import OFFSET, SEED, THREADS, Run, assert_same, numbers, placed, signed, values
from cuda_tools import needs_tools
from emulation import ARCHITECTURES, STORAGE
from ptx import Memory
from test_cuda_code import ACCESSES, BITS, REGISTERS
from test_cuda_kernels import LENGTHS, STARTS

from fastdrop_kernels.cuda import cubins
from fastdrop_kernels.cuda.cubins import arch_of
from fastdrop_kernels.cuda.disassembly import Access, accesses, called, histogram, local_accesses
from fastdrop_kernels.cuda.inspect import inspect
from fastdrop_kernels.names import KERNELS

INSTRUCTIONS = 51  # of an element, at most: 2 x 28 / 8 to draw, 23 fused multiply-adds, 17 others
BFLOAT16_ON_SM75 = 55

pytestmark = [
    pytest.mark.parametrize("capability", ARCHITECTURES, ids=arch_of),
    pytest.mark.parametrize(("name", "dtype"), [kernel for kernel in KERNELS if kernel[0].startswith("gaussian")]),
]
report = functools.cache(inspect)


@pytest.fixture
def run(name: str, dtype: str, capability: tuple[int, int]) -> Run:
    return Run(name, dtype, capability)


def test_every_length_from_every_start(run, dtype):
    """With memory aligned as the stream is, so that there are heads, whole tiles and tails."""
    for case, n in enumerate(LENGTHS):
        start = STARTS[case % len(STARTS)]
        x = placed(values(dtype, n, n), start % 16)
        y = placed(np.zeros_like(x), start % 16)
        run(x, y, start)
        assert_same(y, run.wanted(x, start), dtype)


@pytest.mark.parametrize(("of_x", "of_y", "start"), [(1, 0, 0), (0, 1, 0), (3, 3, 0), (0, 0, 3), (5, 6, 7), (0, 0, 8)])
def test_every_alignment(run, dtype, of_x, of_y, start):
    x, y = placed(values(dtype, 700), of_x), placed(np.zeros(700, STORAGE[dtype]), of_y)
    run(x, y, start)
    assert_same(y, run.wanted(x, start), dtype)


def test_in_place_with_a_seed_in_memory_and_any_grid(run, dtype):
    x = values(dtype, 9001)
    wanted = run.wanted(x)
    for grid in (1, 7, 200):
        y = placed(x, 0)
        run(y, y, grid=grid, seed_in_memory=True)
        assert_same(y, wanted, dtype)


@pytest.mark.parametrize("p", [0.0, 2**-40, 0.5, 1 - 2**-17, 1 - 2**-33])
def test_every_probability(run, dtype, p):
    """Near 1 too, where a mask's tiles have to give up, as thresholds exceed what a draw is compared with."""
    x = placed(values(dtype, 4099), 0)
    y = placed(np.zeros_like(x), 0)
    wide = run(x, y, p=p).opcodes
    assert_same(y, run.wanted(x, p=p), dtype)
    assert sum(count for name, count in wide.items() if name.startswith("st.global.v")) >= 4099 // 8


def test_elements_and_threads_beyond_32_bits(run, dtype):
    """One block of a launch on 2**36 elements, with no memory but where this block works."""
    per_block = THREADS * 8
    block = 2**36 // per_block - 1  # the last
    x, y = placed(values(dtype, per_block), 0), placed(np.zeros(per_block, STORAGE[dtype]), 0)
    memory, before = Memory(), block * x.nbytes
    memory.add(x, x.ctypes.data, readonly=True)
    memory.add(y, y.ctypes.data)
    key = SEED, 0, signed(OFFSET), *numbers(run.name, dtype, 0.3), 0, 0
    args = [x.ctypes.data - before, y.ctypes.data - before, 0, 2**36 + 5, *key]
    run.kernel(2**31 - 1, THREADS, args, memory, blocks=[block])
    assert_same(y, run.wanted(x, block * per_block), dtype)


def test_the_assembler_finds_nothing_to_fuse(name, dtype, capability):
    """Of a product and a sum it may make one operation with one rounding, as it likes, unless .rn forbids it."""
    text = cubins.ptx(name, dtype, capability)
    products = set(re.findall(r"mul\.f\d+\s+(%\w+),", text))
    operands = re.findall(r"(?:add|sub)\.f\d+\s+%\w+, ([^;]+);", text)
    assert products and operands
    assert not products & {register for pair in operands for register in pair.split(", ")}
    assert not re.search(r"\.(approx|ftz)", text)


@needs_tools
def test_machine_code(name, dtype, capability):
    told = report(name, dtype, capability)
    loads, stores = ACCESSES[dtype]
    assert accesses(told.code.main) == Counter({Access("load", 128): loads, Access("store", 128): stores})
    ends = Counter([Access("load", 64), Access("load", BITS[dtype]), Access("store", BITS[dtype])])  # seed, x, y
    assert accesses(told.code.rest) == ends
    assert told.resources[1:] == (0, 0, 0) and local_accesses(told.code.instructions) == 0
    assert told.resources.registers <= REGISTERS
    assert all(place.startswith("`(.L_x_") for place in called(told.code.instructions))  # the loop's own end, on sm_80


@needs_tools
def test_an_element_takes_few_instructions(name, dtype, capability):
    told = report(name, dtype, capability)
    most = BFLOAT16_ON_SM75 if (dtype, capability) == ("bfloat16", (7, 5)) else INSTRUCTIONS
    assert most / 2 < told.instructions_per_element <= most
    counted = histogram(told.code.main)
    assert 22 * 8 <= counted["FFMA"] <= 23 * 8
    assert counted["SHFL"] == 0
