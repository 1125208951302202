"""The machine code of the kernels: if LLVM stops making vectors of a loop, it is ten times slower and still right."""

import functools
import json
import platform
import re

import pytest
from llvmlite import binding
from processes import run_python

CODE = """
import json
from fastdrop_kernels.cpu import compiler, registry
compiler.CodeCache.load_overload = lambda *_: None  # code from the cache has no assembly to read
dtypes = ["float16", "bfloat16", "float32", "float64"]
names = ["dropout", "segments_dropout", "repeated_rows_dropout", "gaussian_dropout"]
print(json.dumps({n: {d: registry.compiled(n, d)._library.get_asm_str() for d in dtypes} for n in names}))
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

pytestmark = [
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64") or not binding.get_host_cpu_features().get("avx2"),
        reason="names instructions of x86 CPUs with AVX2",
    ),
    pytest.mark.parametrize("cpu", CPUS),
    pytest.mark.parametrize("dtype", WIDE),
]

kernels = pytest.mark.parametrize("name", ["dropout", "gaussian_dropout"])


@functools.cache
def assembly(cpu: str) -> dict[str, dict[str, str]]:
    """Return the assembly of every kernel, by name and dtype, as a process compiles it for a CPU."""
    return json.loads(run_python(CODE, **CPUS[cpu]))


@kernels
def test_fill_multiplies_in_vectors(cpu, dtype, name):
    packed = re.findall(rf"vpmuludq\s.*{VECTOR}", assembly(cpu)[name][dtype])
    assert len(packed) >= 11, "a counter needs 11 multiplications in the loop"


@pytest.mark.parametrize("name", ["dropout", "repeated_rows_dropout"])
def test_apply_compares_and_computes_in_vectors(cpu, dtype, name):
    assert re.search(WIDE[dtype], assembly(cpu)[name][dtype])
    assert re.search(COMPARE, assembly(cpu)[name][dtype])


def test_runs_are_kept_in_vectors(cpu, dtype):
    """A line at a time, which AVX2 takes in quarters or halves."""
    assert re.search(WIDE[dtype].replace(VECTOR, "[xyz]mm"), assembly(cpu)["segments_dropout"][dtype])


@pytest.mark.parametrize("name", ["dropout", "segments_dropout", "repeated_rows_dropout", "gaussian_dropout"])
def test_large_results_are_streamed_in_vectors(cpu, dtype, name):
    assert re.search(rf"vmovnt(ps|pd|dq)\s.*{VECTOR}", assembly(cpu)[name][dtype])


def test_normal_numbers_are_made_in_vectors(cpu, dtype):
    body = assembly(cpu)["gaussian_dropout"][dtype]
    assert len(re.findall(rf"vfn?m(?:add|sub)\d+ps\s.*{VECTOR}", body)) >= 22
    assert re.search(rf"vfmadd\d+{'pd' if dtype == 'float64' else 'ps'}\s.*{VECTOR}", body)
    assert not re.search(r"v(p?gather|sqrt|div)\w*\s.*[yz]mm", body)


@kernels
def test_a_kernel_calls_nothing(cpu, dtype, name):
    """All its functions are inlined and nothing is taken from the heap; memset clears draws where all is dropped."""
    body = assembly(cpu)[name][dtype].split(".Lfunc_end0")[0]
    assert "vpmuludq" in body
    assert len(re.findall(r"\bcall\w*\s", body)) == body.count("$memset")


@kernels
def test_avx2_is_not_this_cpus_code(cpu, dtype, name):
    assert ("zmm" in assembly(cpu)[name][dtype]) == (
        cpu == "this" and bool(binding.get_host_cpu_features().get("avx512f"))
    )
