"""Which OpenMP runtime kernels run on, where a process holds more than one: torch's."""

import shutil
import subprocess
import sys

import pytest
from processes import run_python

# A runtime of one thread, which counts the regions that it runs. What it lacks is looked up in torch's own.
RUNTIME = """
static int threads = 1;
int regions;
void GOMP_parallel(void (*body)(void *), void *data, unsigned count, unsigned flags) { ++regions; body(data); }
int omp_get_thread_num(void) { return 0; }
int omp_get_num_threads(void) { return 1; }
int omp_in_parallel(void) { return 0; }
int omp_get_max_threads(void) { return threads; }
void omp_set_num_threads(int count) { threads = count; }
"""

RUN = """
import ctypes, os, torch
LOADED_LATE
from fastdrop._devices import openmp
from fastdrop.functional import dropout

torch.set_num_threads(2)
runtime = ctypes.CDLL(os.environ["RUNTIME"])
x = torch.ones(1 << 20)
y = torch.empty_like(x)

def regions_of(function):
    before = ctypes.c_int.in_dll(runtime, "regions").value
    function()
    return ctypes.c_int.in_dll(runtime, "regions").value - before

openmp = openmp.torch_openmp()
threads = torch.get_num_threads()
is_torchs = regions_of(lambda: torch.mul(x, 2, out=y)) > 0
addresses = [ctypes.cast(f, ctypes.c_void_p).value
             for f in (runtime.GOMP_parallel, runtime.omp_get_thread_num, runtime.omp_get_num_threads)]
print(is_torchs, regions_of(lambda: dropout(x, 0.5, seed=1)) > 0, list(openmp) == addresses, threads,
      torch.get_num_threads(), set(dropout(x, 0.5, seed=1).tolist()) == {0.0, 2.0})
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the linker's rules are Linux's")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) to build an OpenMP runtime")
    folder = tmp_path_factory.mktemp("openmp")
    source, library = folder / "runtime.c", folder / "libruntime.so"
    source.write_text(RUNTIME)
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    return str(library)


def test_a_preloaded_runtime_takes_the_place_of_torchs(runtime):
    said = run_python(RUN.replace("LOADED_LATE", ""), LD_PRELOAD=runtime, RUNTIME=runtime)
    assert said == "True True True 2 2 True"


@pytest.mark.parametrize("mode", ["RTLD_GLOBAL", "RTLD_LOCAL"])
@pytest.mark.sampled(2)
def test_a_runtime_that_comes_after_torch_does_not(runtime, mode):
    late = f'ctypes.CDLL(os.environ["RUNTIME"], mode=ctypes.{mode})'
    # Torch's calls are bound one by one when they are first made, so it is made to do all of them before.
    first = "torch.set_num_threads(3); torch.get_num_threads(); torch.mul(torch.ones(1 << 20), 2)"
    said = run_python(RUN.replace("LOADED_LATE", f"{first}; {late}"), RUNTIME=runtime)
    assert said == "False False False 2 2 True"
