"""The compiled kernels by name, dtype and architecture, each compiled at its first use, and cached on disk.

A cubin is 10 KB that any driver of its architecture loads without a compiler. So compiled kernels are portable: a cache
folder filled on one machine serves another that has a driver but no CUDA toolkit, or an incompatible one.
"""

import functools

from fastdrop_kernels import cache

Capability = tuple[int, int]


def entry_name(name: str, dtype: str) -> str:
    """Return what a kernel is called in its cubin."""
    return f"fastdrop_{name}_{dtype}"


def arch_of(capability: Capability) -> str:
    """Return the architecture of a compute capability: (9, 0) is "sm_90"."""
    return f"sm_{capability[0]}{capability[1]}"


@functools.cache
def ptx(name: str, dtype: str, capability: Capability) -> str:
    """Return a kernel's PTX (dtype: "float32", ...; "bool" for a mask). It needs numba-cuda, but no GPU."""
    from fastdrop_kernels.cuda.compiler import compile_ptx  # here: cubins run where numba-cuda is missing
    from fastdrop_kernels.cuda.grid import PARAMETERS
    from fastdrop_kernels.cuda.registry import kernel

    return compile_ptx(kernel(name, dtype, capability), PARAMETERS, capability, entry_name(name, dtype))


def subfolder() -> str:
    """Return the name of the cache's subfolder for the cubins of these sources."""
    return f"cuda-{cache.digest(without='cpu')}"


def cubin_name(name: str, dtype: str, capability: Capability) -> str:
    """Return the name of a kernel's cubin in the cache."""
    return f"{name}-{dtype}-{arch_of(capability)}.cubin"


def cubin(name: str, dtype: str, capability: Capability) -> bytes:
    """Return a kernel's machine code: from the cache, else compiled, and then kept there if it can be."""
    with cache.tolerated():
        kept = cache.read(subfolder(), cubin_name(name, dtype, capability))
        if kept is not None:
            return kept
    from fastdrop_kernels.cuda.compiler import link

    code = link(ptx(name, dtype, capability), arch_of(capability))
    with cache.tolerated():
        cache.write(subfolder(), cubin_name(name, dtype, capability), code)
    return code
