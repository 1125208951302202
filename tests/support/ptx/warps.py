"""The threads of some blocks, in whole warps: their registers, and what they know of each other."""

from typing import Final, TypeAlias

import numpy as np

from ptx.formats import RAW, Array, Where, constant, to_numbers, to_raw, width
from ptx.parse import NOTHING, Operand, Several
from ptx.statistics import WARP

Shape: TypeAlias = tuple[int, int, int]
POISON: Final = 0xA5A5_A5A5_A5A5_A5A5  # what registers hold before they are written; a GPU's hold anything


class Registers(dict[str, Array]):
    """Registers by name, with a number for each thread, made when they are first used."""

    def __init__(self, types: dict[str, str], threads: int) -> None:
        self._types, self._threads = types, threads

    def __missing__(self, name: str) -> Array:
        bits = width(self._types[name])
        self[name] = np.full(self._threads, POISON & (1 << bits) - 1, RAW[bits])
        return self[name]


class Warps:
    """Threads; 32 neighbours are a warp, and the last ones of a block's last warp may not exist."""

    def __init__(self, types: dict[str, str], blocks: Array, grid: Shape, block: Shape) -> None:
        threads = block[0] * block[1] * block[2]
        padded = -(-threads // WARP) * WARP
        thread = np.tile(np.arange(padded), blocks.size)
        self.number = np.arange(thread.size)
        self.warp = self.number // WARP
        self.running = thread < threads
        self.registers = Registers(types, thread.size)
        for name, numbers, shape in (("tid", thread, block), ("ctaid", np.repeat(blocks, padded), grid)):
            for axis, size in zip("xyz", shape, strict=True):
                self.registers[f"%{name}.{axis}"] = (numbers % size).astype(np.uint32)
                self.registers[f"%n{name}.{axis}"] = np.full(thread.size, size, np.uint32)
                numbers = numbers // size
        self.lane = self.registers["%laneid"] = (thread % WARP).astype(np.uint32)

    def read(self, operand: Operand, type: str, where: Where) -> Array:
        """Return an operand's number in each of these threads, or only one if it is an immediate."""
        if isinstance(operand, str):
            return to_numbers(self.registers[operand][where], type)
        if isinstance(operand, int):
            return constant(operand, type)
        if isinstance(operand, Several):  # the first has the lowest bits
            bits, whole = width(type) // len(operand.parts), RAW[width(type)]
            parts = [self.read(part, f"b{bits}", where).astype(whole) for part in operand.parts]
            return to_numbers(np.bitwise_or.reduce([part << n * bits for n, part in enumerate(parts)]), type)
        raise TypeError(f"{operand} is no number")

    def write(self, operand: Operand, numbers: Array, type: str, where: Where) -> None:
        """Put a number into an operand of each of these threads, extended to the width that it has."""
        if isinstance(operand, Several):
            bits = width(type) // len(operand.parts)
            for n, part in enumerate(operand.parts):
                self.write(part, (numbers >> n * bits).astype(RAW[bits]), f"b{bits}", where)
        elif operand != NOTHING:
            self.registers[str(operand)][where] = to_raw(numbers, type)

    def ballot(self, where: Where, votes: Array | bool = True) -> Array:
        """Return, for each of these threads, which lanes of its warp are among them and vote for it, as a mask."""
        lanes = np.zeros(self.number.size, np.bool_)
        lanes[where] = votes
        return np.packbits(lanes, bitorder="little").view("<u4")[self.warp[where]]

    def meet(self, members: Array, where: Where) -> None:
        """Raise unless the running members of each thread's mask are all here, itself among them."""
        if not (members >> self.lane[where] & 1).all():
            raise RuntimeError("a thread is not in its own member mask")
        running = self.ballot(slice(None), self.running)[where]
        if (members & running & ~self.ballot(where)).any():
            raise RuntimeError("the member mask names lanes that are elsewhere")
