"""The memory of a device: NumPy arrays at 64-bit addresses, with every access checked and counted."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from ptx.formats import Array, Where

FIRST_ADDRESS: Final = 0x7F00_0000_0000
ALIGNMENT: Final = 256  # of a buffer, as the CUDA allocator's
GUARD: Final = 4096  # bytes after a buffer that belong to none


class AccessError(RuntimeError):
    """A load or store that a GPU answers with an error or, worse, with another buffer's bytes."""


class Touched(NamedTuple):
    """How many bytes of a buffer kernels have loaded and stored, and how many different ones."""

    loaded: int
    loaded_distinct: int
    stored: int
    stored_distinct: int


class Buffer:
    """An array in device memory, and which of its bytes kernels have touched."""

    def __init__(self, address: int, array: Array, readonly: bool) -> None:
        self.address, self.readonly = address, readonly
        self.bytes = array.reshape(-1).view(np.uint8)
        self.end = address + self.bytes.size
        self.total = {"load": 0, "store": 0}
        self.seen = {kind: np.zeros(self.bytes.size, np.bool_) for kind in self.total}

    def access(self, kind: str, addresses: Array, size: int) -> tuple[Array, Array]:
        """Count accesses; return the buffer as words that begin at multiples of `size`, and each address's index."""
        skipped = -self.address % size  # bytes before the first word
        index = (addresses - np.uint64(self.address + skipped)) // size
        count = (self.bytes.size - skipped) // size
        words, seen = (each[skipped:][: count * size].view(f"V{size}") for each in (self.bytes, self.seen[kind]))
        seen[index] = np.ones(size, np.bool_).view(f"V{size}")
        self.total[kind] += index.size * size
        return words, index


class Memory:
    """An address space; the buffers that it places itself have gaps between them."""

    def __init__(self) -> None:
        self._next = FIRST_ADDRESS
        self._buffers: list[Buffer] = []
        self._insert(Buffer(0, np.empty(0, np.uint8), readonly=True))  # so that every address has a buffer before it

    def add(self, array: Array, address: int | None = None, readonly: bool = False) -> int:
        """Let kernels see an array, at a free address or at the one given, and return the address."""
        if not array.flags.c_contiguous:
            raise ValueError("a buffer has to be contiguous")
        buffer = Buffer(self._next if address is None else address, array, readonly)
        for other in self._buffers:
            if buffer.address < other.end and other.address < buffer.end:
                raise ValueError(f"a buffer at {buffer.address:#x} overlaps the one at {other.address:#x}")
        self._insert(buffer)
        if address is None:
            self._next = -(-(buffer.end + GUARD) // ALIGNMENT) * ALIGNMENT
        return buffer.address

    def touched(self, address: int) -> Touched:
        """Return how much of the buffer that begins at an address has been loaded and stored."""
        buffer = {each.address: each for each in self._buffers}[address]
        load, store = (int(np.count_nonzero(buffer.seen[kind])) for kind in ("load", "store"))
        return Touched(buffer.total["load"], load, buffer.total["store"], store)

    def load(self, addresses: Array, size: int) -> Array:
        """Return the word of `size` bytes at each address."""
        loaded = np.empty(addresses.size, f"V{size}")
        for buffer, here in self._find("load", addresses, size):
            words, index = buffer.access("load", addresses[here], size)
            loaded[here] = words[index]
        return loaded

    def store(self, addresses: Array, words: Array) -> None:
        """Put a word at each address."""
        for buffer, here in self._find("store", addresses, words.itemsize):
            old, index = buffer.access("store", addresses[here], words.itemsize)
            old[index] = words[here]

    def _insert(self, buffer: Buffer) -> None:
        self._buffers = sorted([*self._buffers, buffer], key=lambda each: (each.address, each.end))
        self._starts = np.array([each.address for each in self._buffers], np.uint64)
        self._sizes = np.array([each.bytes.size for each in self._buffers], np.uint64)
        self._readonly = np.array([each.readonly for each in self._buffers])

    def _find(self, kind: str, addresses: Array, size: int) -> Iterator[tuple[Buffer, Where]]:
        """Check accesses; yield each buffer that they touch, and which of them touch it."""
        number = np.searchsorted(self._starts, addresses, "right") - 1
        offset = addresses - self._starts[number]
        room = np.maximum(self._sizes[number], offset) - offset
        wrongs = {"misaligned": addresses % size != 0, "not inside a buffer": room < size}
        if kind == "store":
            wrongs["in a read-only buffer"] = self._readonly[number]
        for what, wrong in wrongs.items():
            if wrong.any():
                raise AccessError(f"{kind} of {size} bytes at {int(addresses[wrong][0]):#x} is {what}")
        first, last = int(number.min()), int(number.max())
        for n in range(first, last + 1):
            here: Where = slice(None) if first == last else np.flatnonzero(number == n)
            yield self._buffers[n], here
