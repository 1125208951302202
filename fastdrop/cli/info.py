"""`fastdrop info`: what a bug report should contain, in plain text."""

import os
import pathlib
import platform
from typing import Final

import torch
from llvmlite import binding

from fastdrop._devices import threads as _threads
from fastdrop._devices.openmp import torch_openmp
from fastdrop.bench.system import cpu_name, cuda_versions, versions
from fastdrop_kernels.cache import checked, made
from fastdrop_kernels.cpu import code_cache
from fastdrop_kernels.cuda import cubins as kernels

SIMD: Final = (  # that the kernels' loops use
    *("avx2", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"),
    *("neon", "fullfp16", "sve", "sve2"),
)
MAPS: Final = pathlib.Path("/proc/self/maps")
HUGE_PAGES: Final = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def simd() -> str:
    """Return the host's SIMD features that matter here."""
    features = binding.get_host_cpu_features()
    return " ".join(name for name in SIMD if features.get(name)) or "none known"


def library_at(address: int) -> str | None:
    """Return the path of the library whose code is at an address of this process, on systems that tell (Linux)."""
    if not MAPS.exists():
        return None
    for line in MAPS.read_text().splitlines():
        addresses, *_, path = line.split(maxsplit=5)
        first, last = (int(end, 16) for end in addresses.split("-"))
        if first <= address < last:
            return path
    return None


def threads() -> str:
    """Return the number of threads, what runs them and which OpenMP library was found."""
    openmp = torch_openmp()
    if openmp is None:
        found = "torch's OpenMP: not found or switched off"
    else:
        found = f"torch's OpenMP: {library_at(openmp.gomp_parallel) or 'found'}"
    return f"{torch.get_num_threads()}, {_threads.backend()}; {found}"


def cache() -> str:
    """Return where compiled kernels are cached and how many there are, or why none are."""
    try:
        folder = made(code_cache.subfolder())
    except OSError as fault:
        return f"none, every process compiles anew: {fault}"
    sizes = [path.stat().st_size for path in folder.glob(f"*{code_cache.SUFFIX}")]
    end = "" if os.access(folder, os.W_OK) else ", and it cannot be written"
    return f"{folder}: {len(sizes)} compiled files, {sum(sizes) / 1e6:.2f} MB{end}"


def cubins() -> str:
    """Return how many cubins there are and where, or why they are not used."""
    try:
        folder = checked(kernels.subfolder())
    except FileNotFoundError:
        return "no cubins yet"
    except OSError as fault:
        return f"no cubins: {fault}"
    return f"{len(list(folder.glob('*.cubin')))} cubins in {folder}"


def cuda() -> str:
    """Return what torch sees of CUDA and what fastdrop's kernels need of it: packages, and code that is compiled."""
    seen = f"{torch.cuda.device_count()} devices" if torch.version.cuda else "torch is built without it"
    packages = ", ".join(f"{name} {version}" for name, version in cuda_versions().items())
    return f"{seen}; {packages}; {cubins()}"


def huge_pages() -> str:
    """Return the system's setting of transparent huge pages."""
    return HUGE_PAGES.read_text().strip() if HUGE_PAGES.exists() else "not available on this system"


def text() -> str:
    """Return all of it, a line each."""
    lines = {
        **versions(),
        "platform": platform.platform(),
        "CPU": f"{cpu_name()} ({binding.get_host_cpu_name()})",
        "SIMD": simd(),
        "threads": threads(),
        "cache": cache(),
        "CUDA": cuda(),
        "huge pages": huge_pages(),
    }
    return "\n".join(f"{name + ':':<12}{value}" for name, value in lines.items())
