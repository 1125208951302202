"""The machine code of the kernels: if LLVM stops making vectors of a loop, it is ten times slower and still right."""

import functools
import json
import platform
import re
from typing import Any

import pytest
from llvmlite import binding
from processes import run_python

CODE = """
import json
from fastdrop_kernels.cpu import compiler, registry
compiler.CodeCache.load_overload = lambda *_: None  # code from the cache has no assembly to read
print(json.dumps([registry.compiled(*kernel)._library.get_asm_str() for kernel in {kernels}]))
"""
CPUS = {"this": {}, "AVX2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,+f16c,+bmi,+bmi2"}}
VECTOR = "[yz]mm"  # 256 or 512 bits
WIDE = {  # dtype: the multiplication, or the reading, that has to be in vectors
    "float32": rf"vmulps\s.*{VECTOR}",
    "float64": rf"vmulpd\s.*{VECTOR}",
    "float16": rf"vcvtph2ps\s.*{VECTOR}",
    "bfloat16": rf"vmulps\s.*{VECTOR}",
}
COMPARE = r"vpcmp\w*uw\s.*[xyz]mm|vp(min|max)uw\s.*[xyz]mm|vpsubusw\s.*[xyz]mm"  # AVX-512, AVX2: 16-bit, unsigned

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not binding.get_host_cpu_features().get("avx2"),
    reason="names instructions of x86 CPUs with AVX2",
)
NAMES = ("dropout", "segments_dropout", "repeated_rows_dropout", "gaussian_dropout")
Kernel = tuple[str, str]  # name and dtype


def is_slow(cpu: str, name: str, dtype: str) -> bool:
    """Return whether a kernel is usually left out: of this CPU each name and each dtype comes once."""
    return cpu != "this" or (NAMES.index(name) + list(WIDE).index(dtype)) % 4 != 0


def kernels(*names: str) -> Any:
    """Parametrize by CPU, name and dtype."""
    cases = [(cpu, name, dtype) for cpu in CPUS for name in names for dtype in WIDE]
    params = [pytest.param(*case, marks=pytest.mark.slow if is_slow(*case) else ()) for case in cases]
    return pytest.mark.parametrize(("cpu", "name", "dtype"), params)


@functools.cache
def compiled(cpu: str, slow: bool) -> dict[Kernel, str]:
    """Return the assembly of kernels as a process compiles them for a CPU."""
    chosen = [(name, dtype) for name in NAMES for dtype in WIDE if is_slow(cpu, name, dtype) == slow]
    return dict(zip(chosen, json.loads(run_python(CODE.format(kernels=chosen), **CPUS[cpu])), strict=True))


def assembly(cpu: str, name: str, dtype: str) -> str:
    return compiled(cpu, is_slow(cpu, name, dtype))[name, dtype]


@kernels("dropout", "gaussian_dropout")
def test_fill_multiplies_in_vectors(cpu, name, dtype):
    packed = re.findall(rf"vpmuludq\s.*{VECTOR}", assembly(cpu, name, dtype))
    assert len(packed) >= 11, "a counter needs 11 multiplications in the loop"


@kernels("dropout", "repeated_rows_dropout")
def test_apply_compares_and_computes_in_vectors(cpu, name, dtype):
    assert re.search(WIDE[dtype], assembly(cpu, name, dtype))
    assert re.search(COMPARE, assembly(cpu, name, dtype))


@kernels("segments_dropout")
def test_runs_are_kept_in_vectors(cpu, name, dtype):
    """A line at a time, which AVX2 takes in quarters or halves."""
    assert re.search(WIDE[dtype].replace(VECTOR, "[xyz]mm"), assembly(cpu, name, dtype))


@kernels(*NAMES)
def test_large_results_are_streamed_in_vectors(cpu, name, dtype):
    assert re.search(rf"vmovnt(ps|pd|dq)\s.*{VECTOR}", assembly(cpu, name, dtype))


@kernels("gaussian_dropout")
def test_normal_numbers_are_made_in_vectors(cpu, name, dtype):
    body = assembly(cpu, name, dtype)
    assert len(re.findall(rf"vfn?m(?:add|sub)\d+ps\s.*{VECTOR}", body)) >= 22
    assert re.search(rf"vfmadd\d+{'pd' if dtype == 'float64' else 'ps'}\s.*{VECTOR}", body)
    assert not re.search(r"v(p?gather|sqrt|div)\w*\s.*[yz]mm", body)


@kernels("dropout", "gaussian_dropout")
def test_a_kernel_calls_nothing(cpu, name, dtype):
    """All its functions are inlined and nothing is taken from the heap; memset clears draws where all is dropped."""
    body = assembly(cpu, name, dtype).split(".Lfunc_end0")[0]
    assert "vpmuludq" in body
    assert len(re.findall(r"\bcall\w*\s", body)) == body.count("$memset")


@kernels("dropout", "gaussian_dropout")
def test_avx2_is_not_this_cpus_code(cpu, name, dtype):
    assert ("zmm" in assembly(cpu, name, dtype)) == (
        cpu == "this" and bool(binding.get_host_cpu_features().get("avx512f"))
    )
