"""Machine code (SASS) as nvdisasm prints it: instructions, how wide they access memory, and the loop that matters."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

LABEL: Final = re.compile(r"(\.L_\w+):")
INSTRUCTION: Final = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?([A-Z][\w.]*)\s*([^;]*?)\s*;")
TARGET: Final = re.compile(r"`\((\.L_\w+)\)")
WIDTH: Final = re.compile(r"[US]?(\d+)")  # the modifier of a memory access that gives its bits
BYTES: Final = 16  # of an instruction, on every GPU from sm_70 on

DIRECTIONS: Final = {"LDG": "load", "LD": "load", "STG": "store", "ST": "store"}  # LD, ST: wherever the address leads
LOCAL: Final = ("LDL", "STL")
# Modifiers that make another operation; the others give types, conditions and rounding.
DISTINCT: Final = ("WIDE", "HI", "MOV", "SHL", "IADD", "64", "128")


class Instruction(NamedTuple):
    """One instruction."""

    line: int  # in the text
    predicated: bool
    opcode: str  # with its modifiers: "LDG.E.128"
    operands: str

    @property
    def base(self) -> str:
        """Return the opcode without modifiers."""
        return self.opcode.partition(".")[0]

    @property
    def operation(self) -> str:
        """Return the opcode with those modifiers only that make another operation: "IMAD.WIDE", "LDG.128"."""
        return ".".join([self.base, *(part for part in self.opcode.split(".")[1:] if part in DISTINCT)])


class Access(NamedTuple):
    """An access to device memory by one thread."""

    direction: str  # "load" or "store"
    bits: int


class Code(NamedTuple):
    """The machine code of a kernel."""

    text: str
    instructions: list[Instruction]
    loops: list[range]  # indices of instructions, from a label to a branch back to it

    @property
    def size(self) -> int:
        """Return how many bytes the instructions take."""
        return len(self.instructions) * BYTES

    @property
    def loop(self) -> range:
        """Return the main loop: the one that writes most in an iteration, and the shortest of those."""
        loop = max(self.loops, key=lambda loop: (self._written(loop), -len(loop)), default=range(0))
        if self._written(loop) == 0:
            raise ValueError("expected a loop that writes to device memory, but found none")
        return loop

    def _written(self, loop: range) -> int:
        counted = accesses(self.instructions[i] for i in loop)
        return sum(access.bits * count for access, count in counted.items() if access.direction == "store")

    @property
    def main(self) -> list[Instruction]:
        """Return the instructions of the main loop."""
        return [self.instructions[i] for i in self.loop]

    @property
    def rest(self) -> list[Instruction]:
        """Return the instructions outside the main loop."""
        loop = self.loop
        return self.instructions[: loop.start] + self.instructions[loop.stop :]


def parse(text: str) -> Code:
    """Read what ``nvdisasm -c`` prints."""
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    for number, line in enumerate(text.splitlines()):
        if label := LABEL.match(line):
            labels[label[1]] = len(instructions)
        elif found := INSTRUCTION.match(line):
            instructions.append(Instruction(number, found[1] is not None, found[2], found[3]))
    return Code(text, instructions, _loops(instructions, labels))


def _loops(instructions: list[Instruction], labels: dict[str, int]) -> list[range]:
    found = []
    for i, instruction in enumerate(instructions):
        target = TARGET.search(instruction.operands) if instruction.base == "BRA" else None
        if target and labels[target[1]] <= i:
            body = range(labels[target[1]], i + 1)
            # Cold code is placed after the kernel's end and jumps back into a loop from there: it is no loop itself.
            if not any(instructions[j].base == "EXIT" and not instructions[j].predicated for j in body):
                found.append(body)
    return found


def accesses(instructions: Iterable[Instruction]) -> Counter[Access]:
    """Count accesses to device memory."""
    counted: Counter[Access] = Counter()
    for instruction in instructions:
        if direction := DIRECTIONS.get(instruction.base):
            widths = [width[1] for part in instruction.opcode.split(".") if (width := WIDTH.fullmatch(part))]
            counted[Access(direction, int(widths[0]) if widths else 32)] += 1
    return counted


def local_accesses(instructions: Iterable[Instruction]) -> int:
    """Count accesses to local memory: what does not fit into registers."""
    return sum(instruction.base in LOCAL for instruction in instructions)


def called(instructions: Iterable[Instruction]) -> list[str]:
    """Return the operands of all calls."""
    return [instruction.operands for instruction in instructions if instruction.base == "CALL"]


def histogram(instructions: Iterable[Instruction]) -> Counter[str]:
    """Count operations."""
    return Counter(instruction.operation for instruction in instructions)
