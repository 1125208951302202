"""The machine code of the GPU kernels, read for GPUs that nobody here needs to have: what a launch runs."""

import pathlib
import re
from collections import Counter

import pytest
from cuda_cases import SM75, SM90, each, often, parametrized
from cuda_tools import needs_tools
from emulation import PLAIN
from machine_code import ACCESSES, BITS, REGISTERS, report

from fastdrop_kernels.cuda import cubins, toolchain
from fastdrop_kernels.cuda.disassembly import Access, Code, accesses, called, histogram, local_accesses, parse
from fastdrop_kernels.cuda.inspect import Resources, resources, signature
from fastdrop_kernels.cuda.toolchain import ToolError

INSTRUCTIONS = {"float16": 13, "bfloat16": 13, "float32": 12, "float64": 14, "bool": 9}  # of an element, at most
BFLOAT16_ON_SM75 = 18  # it has no instruction that rounds to bfloat16: integer arithmetic, one value at a time
PARAMETERS = {
    **{
        name: "u64" for name in ("x", "y", "second", "third", "start", "count", "seed", "seed_address", "offset", "p32")
    },
    **{name: "f64" for name in ("scale", "shift", "fill")},
    **{name: "u64" for name in ("repeat", "inner")},
}

cases = parametrized(each(PLAIN), often(PLAIN))


@needs_tools
@cases
def test_nothing_is_spilled_nothing_lies_in_local_memory_and_nothing_is_called(name, dtype, capability):
    told = report(name, dtype, capability)
    assert told.resources[1:] == (0, 0, 0)
    assert local_accesses(told.code.instructions) == 0
    assert called(told.code.instructions) == []


@needs_tools
@cases
def test_1024_threads_fit_a_multiprocessor(name, dtype, capability):
    assert 16 <= report(name, dtype, capability).resources.registers <= REGISTERS


@needs_tools
@cases
def test_main_loop_accesses_memory_in_16_bytes_only(name, dtype, capability):
    told = report(name, dtype, capability)
    loads, stores = ACCESSES[dtype]
    assert accesses(told.code.main) == Counter({Access("load", 128): loads, Access("store", 128): stores})
    assert 128 * stores == BITS[dtype] * told.elements


@needs_tools
@cases
def test_only_outside_the_main_loop_are_single_elements(name, dtype, capability):
    elements = [] if dtype == "bool" else [Access("load", BITS[dtype])]
    seed = Access("load", 64)
    expected = Counter([seed, *elements, Access("store", BITS[dtype])])
    assert accesses(report(name, dtype, capability).code.rest) == expected


@needs_tools
@cases
def test_an_element_takes_few_instructions(name, dtype, capability):
    most = BFLOAT16_ON_SM75 if (dtype, capability) == ("bfloat16", SM75) else INSTRUCTIONS[dtype]
    told = report(name, dtype, capability)
    assert most / 2 < told.instructions_per_element <= most


@needs_tools
@cases
def test_main_loop_has_no_loop_within(name, dtype, capability):
    code = report(name, dtype, capability).code
    assert [loop for loop in code.loops if set(loop) < set(code.loop)] == []


@needs_tools
@cases
def test_a_wide_product_is_one_instruction(name, dtype, capability):
    told = report(name, dtype, capability)
    counted = histogram(told.code.main)
    products = counted["IMAD.WIDE"] + counted["UIMAD.WIDE"]
    counters = told.elements // 8
    assert 12 * counters <= products <= 15 * counters  # 14 in 7 rounds; two counters share some, addresses take one
    assert counted["IMAD.HI"] == counted["UIMAD.HI"] == 0


@needs_tools
@cases
def test_entry_and_parameters_are_called_what_they_are(name, dtype, capability):
    told = report(name, dtype, capability).signature
    assert told.entry == f"fastdrop_{name}_{dtype}"
    assert list(told.parameters.items()) == list(PARAMETERS.items())


@needs_tools
@cases
def test_what_is_inspected_is_what_is_launched(name, dtype, capability, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTDROP_CACHE_DIR", str(tmp_path))
    launched = parse(toolchain.disassemble(cubins.cubin(name, dtype, capability)))
    assert launched.instructions == report(name, dtype, capability).code.instructions


def assembled(ptx: str) -> tuple[Code, Resources]:
    cubin, log = toolchain.assemble(ptx, "sm_90")
    return parse(toolchain.disassemble(cubin)), resources(log, signature(ptx).entry)


@needs_tools
def test_spilling_is_seen():
    ptx = cubins.ptx("dropout", "float32", SM90)
    code, taken = assembled(ptx.replace(")\n{", ")\n.maxnreg 24\n{", 1))
    assert taken.registers == 24
    assert min(taken[1:]) > 0
    assert local_accesses(code.instructions) > 0


@needs_tools
def test_narrower_accesses_are_seen():
    ptx = cubins.ptx("dropout", "bfloat16", SM90)
    wide = r"ld\.global\.v4\.u32 \t?\{(%r\d+), (%r\d+), (%r\d+), (%r\d+)\}, \[(%rd\d+)\];"
    halves = r"ld.global.v2.u32 {\1, \2}, [\5]; ld.global.v2.u32 {\3, \4}, [\5+8];"
    narrowed, replaced = re.subn(wide, halves, ptx)
    assert replaced == 1
    code, _ = assembled(narrowed)
    assert accesses(code.main) == {Access("load", 64): 2, Access("store", 128): 1}


def sass(*lines: str) -> Code:
    """Return code that is made of instructions and labels, laid out as nvdisasm does."""
    text, address = ["\t.section\t.text.kernel", "kernel:"], 0
    for line in lines:
        if line.endswith(":"):
            text.append(line)
        else:
            text.append(f"        /*{address:04x}*/                   {line} ;")
            address += 16
    return parse("\n".join(text))


def test_widths_are_read_from_modifiers():
    code = sass(
        ".L_x_0:",
        "LDG.E.128.CONSTANT R8, desc[UR4][R2.64]",
        "LDG.E.LTC128B.64 R4, [R2.64+0x10]",
        "@!P0 LDG.E.U16.SYS R1, [R2]",
        "LDG.E R1, desc[UR4][R2.64]",
        "LDC.64 R4, c[0x0][0x228]",
        "STG.E.S8 [R2.64], R1",
        "@P1 BRA `(.L_x_0)",
        "EXIT",
    )
    assert accesses(code.main) == {
        Access("load", 128): 1,
        Access("load", 64): 1,
        Access("load", 16): 1,
        Access("load", 32): 1,
        Access("store", 8): 1,
    }


def test_an_instruction_is_read_with_what_it_depends_on():
    code = sass("@!UP0 UIMAD.WIDE.U32 UR4, UR5, 0x10, URZ", "NOP", "EXIT")
    first, second, _ = code.instructions
    assert (first.predicated, first.opcode, first.operands) == (True, "UIMAD.WIDE.U32", "UR4, UR5, 0x10, URZ")
    assert (second.predicated, second.opcode, second.operands) == (False, "NOP", "")
    assert code.size == 48


@pytest.mark.parametrize("tail_first", [False, True])
def test_main_loop_is_the_one_that_writes_most(tail_first):
    tail = ["NOP", ".L_x_1:", "NOP", "NOP", "STG.E [R2.64], R1", "@P0 BRA `(.L_x_1)"]
    main = [".L_x_2:", "LDG.E.64 R4, [R2.64]", "STG.E.64 [R2.64], R4", "@!P0 BRA.U `(.L_x_2)"]
    code = sass(*(tail + main if tail_first else main + tail), "EXIT", ".L_x_3:", "BRA `(.L_x_3)")
    assert [instruction.opcode for instruction in code.main] == ["LDG.E.64", "STG.E.64", "BRA.U"]
    assert len(code.loops) == 3
    assert accesses(code.rest) == {Access("store", 32): 1}


def test_what_stands_behind_the_end_is_not_counted():
    code = sass(
        ".L_x_5:",
        "BRA.DIV UR6, `(.L_x_4)",
        "SHFL.BFLY PT, R36, R45, 0x1, 0x1f",
        ".L_x_11:",
        "STG.E.128 [R2.64], R4",
        "@!P0 BRA `(.L_x_5)",
        "@P1 EXIT",
        "STG.E [R2.64], R1",
        "EXIT",
        ".L_x_4:",
        "CALL.REL.NOINC `(helper)",
        "BRA `(.L_x_11)",
    )
    assert len(code.main) == 4
    assert called(code.main) == []
    assert called(code.instructions) == ["`(helper)"]


def test_a_loop_that_may_be_left_early_is_one():
    code = sass(".L_x_0:", "@P1 EXIT", "STG.E [R2.64], R1", "BRA `(.L_x_0)", "EXIT")
    assert len(code.main) == 3


def test_of_nested_loops_the_inner_one_counts_if_it_writes():
    inner = [".L_x_1:", "STG.E [R2.64], R1", "@P0 BRA `(.L_x_1)"]
    assert len(sass(".L_x_0:", *inner, "@P1 BRA `(.L_x_0)", "EXIT").main) == 2
    rounds = [".L_x_1:", "IMAD.WIDE.U32 R2, R4, R5, RZ", "@P0 BRA `(.L_x_1)"]
    assert len(sass(".L_x_0:", *rounds, "STG.E [R2.64], R1", "@P1 BRA `(.L_x_0)", "EXIT").main) == 4


@pytest.mark.parametrize(
    "lines",
    [
        ["STG.E [R2.64], R1", "EXIT"],
        [".L_x_0:", "LDG.E R1, [R2.64]", "STL [R1], R2", "@P0 BRA `(.L_x_0)", "EXIT"],
    ],
)
def test_code_without_a_loop_that_writes_is_refused(lines):
    with pytest.raises(ValueError, match="loop that writes"):
        _ = sass(*lines).main


def test_local_memory_is_counted():
    code = sass("STL.64 [R1], R2", "@P0 LDL R2, [R1+0x4]", "LDG.E R1, [R2.64]", "EXIT")
    assert local_accesses(code.instructions) == 2


def test_operations_are_told_apart_by_what_they_do_alone():
    code = sass("IMAD.WIDE.U32 R2, R4, R5, RZ", "IMAD.MOV.U32 R1, RZ, RZ, R2", "LOP3.LUT R1, R2, R3, RZ, 0x3c, !PT")
    assert histogram(code.instructions) == {"IMAD.WIDE": 1, "IMAD.MOV": 1, "LOP3": 1}


PTXAS = """ptxas info    : 8 bytes gmem
ptxas info    : Compiling entry function 'other' for 'sm_90'
ptxas info    : Function properties for other
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, used 0 barriers
ptxas info    : Compiling entry function 'kernel' for 'sm_90'
ptxas info    : Function properties for kernel
ptxas         .     48 bytes stack frame, 40 bytes spill stores, 44 bytes spill loads
ptxas info    : Used 64 registers, used 0 barriers, 424 bytes cmem[0]
"""


def test_resources_are_read_for_the_right_kernel():
    assert resources(PTXAS, "kernel") == Resources(registers=64, stack=48, spill_stores=40, spill_loads=44)
    assert resources(PTXAS, "other") == Resources(registers=12, stack=0, spill_stores=0, spill_loads=0)


def test_an_assembler_that_says_nothing_is_named():
    with pytest.raises(ToolError, match="nothing of kernel, but: 'fine'"):
        resources("fine", "kernel")


def test_signatures_are_read_in_order():
    read = signature(".visible .entry f_1$(\n\t.param .u64 y,\n\t.param .u64 .ptr .global x,\n\t.param .f32 p\n)\n{")
    assert read.entry == "f_1$"
    assert list(read.parameters.items()) == [("y", "u64"), ("x", "u64"), ("p", "f32")]
    with pytest.raises(ValueError, match="an entry, but got:\n.func f"):
        signature(".func f()")


def tool(folder: pathlib.Path, text: str) -> str:
    """Make a nvdisasm of a line of shell."""
    path = folder / "nvdisasm"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@needs_tools
def test_an_installed_nvdisasm_goes_before_the_path(tmp_path, monkeypatch):
    found = toolchain.find_nvdisasm()
    monkeypatch.setenv("PATH", str(tmp_path))
    ours = tool(tmp_path, "exit 1")
    assert toolchain.find_nvdisasm() == found != ours


@needs_tools
def test_nvdisasm_is_looked_for_on_the_path_where_none_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("cuda.pathfinder.find_nvidia_binary_utility", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="nvidia-cuda-nvdisasm"):
        toolchain.disassemble(b"")
    path = tool(tmp_path, "echo the code is of a later version >&2; exit 3")
    with pytest.raises(ToolError, match=f"{path} failed: the code is of a later version"):
        toolchain.disassemble(b"")
