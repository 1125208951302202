"""Kernels: all threads of some blocks run together, each instruction as a few NumPy operations.

Threads that part at a branch go on in groups, each with the number of its next instruction. The group with the
lowest runs, and groups that meet become one. So threads are together again where their paths join, and warp
instructions find them so.

Integers, moves, conversions, and add, sub, mul, fma, div.rn, sqrt.rn and rcp.rn are exact to the bit; what the
hardware approximates is not. Instructions run as the PTX has them: ptxas may still make one fma of a mul and an add.
"""

import math
import operator
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ptx.formats import NUMBERS, RAW, Array, Where, width
from ptx.memory import Memory
from ptx.parse import Program
from ptx.statistics import WARP, Statistics
from ptx.steps import Launch, Step, step
from ptx.warps import Shape, Warps

MOST_BLOCKS: Final = (2**31 - 1, 2**16 - 1, 2**16 - 1)
MOST_THREADS: Final = (1024, 1024, 64)  # of a block, which has no more than 1024 in all
AT_ONCE: Final = 1 << 14  # threads: few enough for their registers to stay in the CPU's cache


class Kernel:
    """The kernel of that name, or the first, of a PTX module, to be called like a function."""

    def __init__(self, ptx: str, entry: str | None = None) -> None:
        program = Program(ptx, entry)
        self.name: Final = program.name
        self.params: Final = program.parameters
        self._registers, self._instructions = program.registers, program.instructions
        self._end = len(self._instructions)
        self._jumps: dict[int, int] = {}  # number of an instruction -> number of the one that it leads to
        self._steps: dict[int, Step] = {}
        for number, instruction in enumerate(self._instructions):
            if instruction.opcode in ("bra", "bra.uni"):
                self._jumps[number] = program.labels[str(instruction.operands[0])]
            elif instruction.opcode in ("ret", "ret.uni", "exit"):
                self._jumps[number] = self._end
            else:
                self._steps[number] = step(instruction)

    def __call__(
        self,
        grid: int | tuple[int, ...],
        block: int | tuple[int, ...],
        args: Sequence[int | float],
        memory: Memory,
        blocks: Sequence[int] | None = None,
    ) -> Statistics:
        """Launch; where a grid is too large to be run, `blocks` are the ones that are, numbered along x first."""
        grid, block = shape(grid, MOST_BLOCKS), shape(block, MOST_THREADS)
        threads, total = math.prod(block), math.prod(grid)
        if threads > MOST_THREADS[0]:
            raise ValueError(f"no GPU runs blocks of {threads} threads")
        parameters = {each.name: pack(each.type, arg) for each, arg in zip(self.params, args, strict=True)}
        launch = Launch(memory, parameters, Statistics())
        chosen = range(total) if blocks is None else blocks
        many = AT_ONCE // (-(-threads // WARP) * WARP)
        with np.errstate(all="ignore"):
            for first in range(0, len(chosen), many):
                numbers = np.array(chosen[first : first + many], np.int64)
                if numbers.min() < 0 or numbers.max() >= total:
                    raise ValueError(f"a grid of {grid} has no blocks {numbers[(numbers < 0) | (numbers >= total)]}")
                self._run(launch, Warps(self._registers, numbers, grid, block))
        return launch.statistics

    def _run(self, launch: Launch, warps: Warps) -> None:
        groups = {0: np.flatnonzero(warps.running)}  # number of the next instruction -> threads, in order
        while groups:
            number = min(groups)
            for following, threads in self._execute(number, groups.pop(number), launch, warps):
                if following == self._end:
                    warps.running[threads] = False
                elif following in groups:
                    groups[following] = np.sort(np.concatenate([groups[following], threads]))
                elif threads.size:
                    groups[following] = threads

    def _execute(self, number: int, threads: Array, launch: Launch, warps: Warps) -> list[tuple[int, Array]]:
        """Return the numbers of the instructions that follow one, each with the threads that go there."""
        instruction = self._instructions[number]
        chosen, others = threads, threads[:0]
        if instruction.guard:
            holds = warps.registers[instruction.guard][where(threads)] != instruction.unless
            if not holds.all():
                chosen, others = threads[holds], threads[~holds]
        launch.statistics.opcodes[instruction.opcode] += chosen.size
        if number in self._jumps:
            return [(self._jumps[number], chosen), (number + 1, others)]
        if chosen.size:
            try:
                self._steps[number](launch, warps, where(chosen))
            except (RuntimeError, ArithmeticError) as error:
                raise type(error)(f"{error}, in `{instruction.text}`") from error
        return [(number + 1, threads)]


def where(threads: Array) -> Where:
    """Return threads as an index, and neighbours as a slice: NumPy reads it without a copy."""
    first, last = int(threads[0]), int(threads[-1])
    return slice(first, last + 1) if last - first + 1 == threads.size else threads


def shape(extent: int | tuple[int, ...], most: Shape) -> Shape:
    """Return the three sizes of a grid or block, none of which a GPU finds too large."""
    x, y, z, *_ = (*extent, 1, 1) if isinstance(extent, tuple) else (extent, 1, 1)
    if not all(1 <= size <= limit for size, limit in zip((x, y, z), most, strict=True)):
        raise ValueError(f"no GPU runs a grid or block of {extent}")
    return x, y, z


def pack(type: str, value: Any) -> Array:
    """Return the bytes of an argument for a parameter of a type."""
    if type.startswith("f"):
        return np.array([value], NUMBERS[type]).view(np.uint8)
    bits, value = width(type), operator.index(value)
    if not -(1 << bits - 1) <= value < 1 << bits:
        raise OverflowError(f"{value} does not fit in {type}")
    return np.array([value % (1 << bits)], RAW[bits]).view(np.uint8)
