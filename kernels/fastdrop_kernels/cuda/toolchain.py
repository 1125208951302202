"""The tools that make and show machine code: nvJitLink, which holds the assembler ptxas, and nvdisasm. No GPU needed.

The assembler is nvJitLink's and not the program ptxas, as it is nvJitLink's code that is launched. It expects to be
linked with more: a kernel that calls one of the assembler's own helpers may then take twice the registers.
"""

import pathlib
import shutil
import subprocess
import tempfile

from fastdrop_kernels.cuda import packages
from fastdrop_kernels.cuda.cubins import Capability


class ToolError(RuntimeError):
    """A tool is missing, or cannot do what it is asked."""


def supported() -> list[Capability]:
    """Return the compute capabilities that kernels can be compiled for."""
    try:
        return list(packages.cuda.cudadrv.nvrtc.get_supported_ccs())
    except RuntimeError as error:  # cuda-bindings found no NVRTC
        raise ToolError(f"compiling CUDA kernels needs NVRTC: {packages.INSTALL}") from error


def assemble(ptx: str, arch: str) -> tuple[bytes, str]:
    """Return a cubin as `compiler.link` does, and what the assembler says of its registers and memory."""
    core = packages.core
    options = core.LinkerOptions(arch=arch, ptxas_options="-v")
    linker = core.Linker(core.ObjectCode.from_ptx(ptx.encode()), options=options)
    cubin = bytes(linker.link("cubin").code)
    return cubin, str(linker.get_info_log())


def find_nvdisasm() -> str:
    """Return the path of nvdisasm: a wheel's, conda's, CUDA_HOME's, or else what PATH holds, of whatever version."""
    try:
        from cuda.pathfinder import find_nvidia_binary_utility
    except ImportError:  # before version 1.3.4
        found = None
    else:
        found = find_nvidia_binary_utility("nvdisasm")
    path = found or shutil.which("nvdisasm")
    if path is None:
        raise ToolError("nvdisasm is neither installed (package nvidia-cuda-nvdisasm) nor on PATH or in CUDA_HOME")
    return path


def disassemble(cubin: bytes) -> str:
    """Return the machine code of a cubin as text."""
    nvdisasm = find_nvdisasm()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        done = subprocess.run([nvdisasm, "-c", str(path)], capture_output=True, text=True)
    if done.returncode != 0:
        raise ToolError(f"{nvdisasm} failed: {' '.join(done.stderr.split())}")
    return done.stdout
