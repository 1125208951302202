"""Gaussian noise on the GPU: its PTX, interpreted, against the CPU kernels bit for bit; and its machine code."""

import re
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from cuda_cases import ARCHITECTURES, each, parametrized
from cuda_runs import Run, assert_same, check_alignments, check_beyond_32_bits, check_lengths, placed, values
from cuda_tools import needs_tools
from machine_code import ACCESSES, BITS, REGISTERS, report

from fastdrop_kernels.cuda import cubins
from fastdrop_kernels.cuda.disassembly import Access, accesses, called, histogram, local_accesses
from fastdrop_kernels.names import KERNELS

INSTRUCTIONS = 51  # of an element, at most: 2 x 28 / 8 to draw, 23 fused multiply-adds, 17 others
BFLOAT16_ON_SM75 = 55

GAUSSIAN = [kernel for kernel in KERNELS if kernel[0].startswith("gaussian")]
# Each dtype for one architecture; bfloat16 for the one that has no instructions for it.
ALWAYS = [
    (f"gaussian_{name}", dtype, capability)
    for name, dtype, capability in zip(
        ("dropout", "noise", "dropout", "noise"),
        ("bfloat16", "float16", "float32", "float64"),
        ARCHITECTURES,
        strict=True,
    )
]
pytestmark = parametrized(each(GAUSSIAN), ALWAYS)


@pytest.fixture
def run(name: str, dtype: str, capability: tuple[int, int]) -> Run:
    return Run(name, dtype, capability)


def test_every_length_from_every_start(run):
    check_lengths(run)


def test_every_alignment(run):
    check_alignments(run)


def test_in_place_with_a_seed_in_memory_and_any_grid(run, dtype):
    x = values(dtype, 9001)
    wanted = run.wanted(x)
    for grid in (1, 7, 200):
        y = placed(x, 0)
        run(y, y, grid=grid, seed_in_memory=True)
        assert_same(y, wanted, dtype)


def test_every_probability(run, dtype):
    """Near 1 too, where a mask's tiles have to give up, as thresholds exceed what a draw is compared with."""
    x = placed(values(dtype, 4099), 0)
    for p in (0.0, 2**-40, 0.5, 1 - 2**-17, 1 - 2**-33):
        y = placed(np.zeros_like(x), 0)
        wide = run(x, y, p=p).opcodes
        assert_same(y, run.wanted(x, p=p), dtype)
        assert sum(count for name, count in wide.items() if name.startswith("st.global.v")) >= 4099 // 8


def test_elements_and_threads_beyond_32_bits(run):
    check_beyond_32_bits(run)


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
