"""What a GPU's figures depend on besides the host: the GPU itself, its driver, its clocks, Triton."""

import platform
import subprocess
from importlib import metadata
from typing import Final

import torch

QUERY: Final = {
    "driver": "driver_version",
    "SM clock": "clocks.sm",
    "highest SM clock": "clocks.max.sm",
    "memory clock": "clocks.mem",
    "power limit": "power.limit",
}


def smi(uuid: str) -> dict[str, str]:
    """Return what nvidia-smi reports of a GPU, or "unknown"."""
    command = ["nvidia-smi", f"--query-gpu=uuid,{','.join(QUERY.values())}", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        lines = []
    for line in lines:
        if uuid in line or len(lines) == 1:
            return dict(zip(QUERY, (value.strip() for value in line.split(",")[1:]), strict=False))
    return dict.fromkeys(QUERY, "unknown")


def triton() -> str:
    """Return the version of Triton, which Inductor compiles with too."""
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return "missing"


def describe(place: torch.device) -> dict[str, str]:
    """Return the GPU of a device, and what else its figures depend on."""
    properties = torch.cuda.get_device_properties(place)
    return {
        "GPU": properties.name,
        "compute capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": str(properties.multi_processor_count),
        "memory": f"{properties.total_memory / 2**30:.1f} GiB",
        "L2 cache": f"{properties.L2_cache_size / 2**20:.1f} MiB",
        **smi(str(getattr(properties, "uuid", "of no known kind"))),
        "CUDA of torch": str(torch.version.cuda),
        "platform": platform.platform(),
        "triton": triton(),
    }
