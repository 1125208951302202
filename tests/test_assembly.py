"""The machine code of the kernels: if LLVM stops making vectors of a loop, it is ten times slower and still right."""

import platform
import re

import pytest
from fastdrop_kernels.cpu import compiler, kernels
from llvmlite import binding

FEATURES = binding.get_host_cpu_features()
VECTOR = "[yz]mm"  # 256 or 512 bits
WIDE = {  # dtype: the instruction that its multiplication, or its reading, has to be, in vectors
    "float32": rf"vmulps\s.*{VECTOR}",
    "float64": rf"vmulpd\s.*{VECTOR}",
    "float16": rf"vcvtph2ps\s.*{VECTOR}",
    "bfloat16": rf"vmulps\s.*{VECTOR}",
}

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not FEATURES.get("avx2"), reason="names instructions of AVX2 CPUs"
)


@pytest.fixture
def assembly(monkeypatch):
    monkeypatch.setattr(compiler, "_callbacks", {})
    monkeypatch.setattr(compiler, "cache_folder", lambda: None)  # code from the cache has no assembly to read
    return lambda name, dtype: kernels.compiled(name, dtype)._library.get_asm_str()


@pytest.mark.parametrize("dtype", WIDE)
def test_fill_multiplies_in_vectors(assembly, dtype):
    text = assembly("dropout", dtype)
    packed = re.findall(rf"vpmuludq\s.*{VECTOR}", text)
    assert len(packed) >= 11, "a counter needs 11 multiplications in the loop"


@pytest.mark.parametrize("dtype", WIDE)
def test_apply_compares_and_computes_in_vectors(assembly, dtype):
    text = assembly("dropout", dtype)
    assert re.search(WIDE[dtype], text)
    packed_compare = r"vpcmp\w*uw\s.*[xyz]mm|vp(min|max)uw\s.*[xyz]mm|vpsubusw\s.*[xyz]mm"
    assert re.search(packed_compare, text)


@pytest.mark.parametrize("dtype", WIDE)
def test_a_kernel_calls_nothing(assembly, dtype):
    """All its functions are inlined and nothing is taken from the heap; memset clears draws where all is dropped."""
    body = assembly("dropout", dtype).split(".Lfunc_end0")[0]
    assert "vpmuludq" in body
    assert len(re.findall(r"\bcall\w*\s", body)) == body.count("$memset")
