"""What a kernel is called with, by name."""

from fastdrop_kernels.launch import Launch


def launch_of(
    x: int, y: int, start: int, count: int, seed: int, offset: int, parameter: float,
    repeat: int = 0, inner: int = 0, second: int = 0, seed_address: int = 0,
) -> Launch:  # fmt: skip
    """Return the arguments of a kernel; x, y, second: addresses."""
    return x, y, second, 0, start, count, seed, seed_address, offset, parameter, repeat, inner
