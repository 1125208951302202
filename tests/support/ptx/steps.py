"""What an instruction does to the threads that execute it together, found by its opcode."""

import functools
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from ptx import choices, conversions, floats, integers
from ptx.formats import RAW, Array, Where, plain, to_numbers, width
from ptx.memory import Memory
from ptx.operation import Operation
from ptx.parse import Instruction, Operand, Several
from ptx.statistics import Statistics
from ptx.warps import Warps


class Launch(NamedTuple):
    """What all threads of a launch share."""

    memory: Memory
    parameters: dict[str, Array]  # their bytes
    statistics: Statistics


Step: TypeAlias = Callable[[Launch, Warps, Where], None]


def step(instruction: Instruction) -> Step:
    """Return what an instruction does."""
    for pattern, operation in OPERATIONS.items():
        if match := re.fullmatch(pattern, instruction.opcode):
            return functools.partial(compute, instruction.operands, operation(*match.groups()))
    for pattern, function in OTHERS.items():
        if match := re.fullmatch(pattern, instruction.opcode):
            return functools.partial(function, instruction.operands, *match.groups())
    raise NotImplementedError(instruction.text)


def parts(operand: Operand) -> tuple[Operand, ...]:
    """Return the registers of an operand that may be several."""
    return operand.parts if isinstance(operand, Several) else (operand,)


def compute(operands: Any, operation: Operation, launch: Launch, warps: Warps, where: Where) -> None:
    """Read an operation's operands, compute, and write as many of its results as are wanted."""
    to, *sources = operands
    numbers = [warps.read(*source, where) for source in zip(sources, operation.sources, strict=True)]
    if len(operation.results) == 1:
        warps.write(to, operation.compute(*numbers), operation.results[0], where)
    else:
        for result in zip(parts(to), operation.compute(*numbers), operation.results, strict=False):
            warps.write(*result, where)


def load_parameter(operands: Any, type: str, launch: Launch, warps: Warps, where: Where) -> None:
    """Read a parameter, or a part of it."""
    to, (name, offset) = operands
    type = plain(type)
    raw = launch.parameters[name][offset : offset + width(type) // 8].view(RAW[width(type)])
    warps.write(to, to_numbers(raw, type), type, where)


def load(operands: Any, type: str, launch: Launch, warps: Warps, where: Where) -> None:
    """Read consecutive words of memory."""
    to, (base, offset) = operands
    registers, type = parts(to), plain(type)
    addresses = warps.read(base, "u64", where) + np.uint64(offset % 2**64)
    size = len(registers) * width(type) // 8
    launch.statistics.load.add(addresses, warps.warp[where], size)
    words = launch.memory.load(addresses, size).view(RAW[width(type)]).reshape(-1, len(registers))
    for register, word in zip(registers, words.T, strict=True):
        warps.write(register, to_numbers(word, type), type, where)


def store(operands: Any, type: str, launch: Launch, warps: Warps, where: Where) -> None:
    """Write consecutive words of memory."""
    (base, offset), source = operands
    type = plain(type)
    addresses = warps.read(base, "u64", where) + np.uint64(offset % 2**64)
    words = np.empty((addresses.size, len(parts(source))), RAW[width(type)])
    for word, register in zip(words.T, parts(source), strict=True):
        word[:] = warps.read(register, type, where)
    size = words.shape[1] * words.itemsize
    launch.statistics.store.add(addresses, warps.warp[where], size)
    launch.memory.store(addresses, words.view(f"V{size}").reshape(-1))


def shuffle(operands: Any, mode: str, launch: Launch, warps: Warps, where: Where) -> None:
    """Take a register of another lane, or the thread's own if the other lane is beyond the end of its segment."""
    to, *sources = operands
    value, b, c, members = (warps.read(source, "b32", where) for source in sources)
    warps.meet(members, where)
    lane = warps.lane[where].astype(np.int64)
    offset, clamp, segment = b & 31, c & 31, c >> 8 & 31
    first = lane & segment
    last = first | clamp & ~segment
    other = {"up": lane - offset, "down": lane + offset, "bfly": lane ^ offset, "idx": first | offset & ~segment}[mode]
    inside = other >= last if mode == "up" else other <= last
    other = np.where(inside, other, lane)
    if not (warps.ballot(where) >> other & 1).all():
        raise RuntimeError("a thread reads the register of a lane that is not active")
    values = np.empty(warps.number.size, np.uint32)
    values[where] = value
    result = values[warps.number[where] - lane + other]
    for written in zip(parts(to), (result, inside), ("b32", "pred"), strict=False):
        warps.write(*written, where)


def vote(operands: Any, kind: str, launch: Launch, warps: Warps, where: Where) -> None:
    """Tell each thread which members of its mask have a predicate set, or whether any or all have."""
    to, source, mask = operands
    members = warps.read(mask, "b32", where)
    warps.meet(members, where)
    present, ayes = warps.ballot(where), warps.ballot(where, warps.read(source, "pred", where)) & members
    results = {"ballot.b32": ayes, "any.pred": ayes != 0, "all.pred": ayes == present & members}
    warps.write(to, results[kind], kind.partition(".")[2], where)


def active_mask(operands: Any, type: str, launch: Launch, warps: Warps, where: Where) -> None:
    """Tell each thread which lanes of its warp execute the instruction with it."""
    warps.write(operands[0], warps.ballot(where), type, where)


TYPE: Final = "([bsu]8|[bsuf](?:16|32|64))"
HINTS: Final = r"(?:\.L1::\w+|\.L2::\d+B)*"

OPERATIONS: Final = integers.OPERATIONS | floats.OPERATIONS | conversions.OPERATIONS | choices.OPERATIONS
OTHERS: Final[dict[str, Callable[..., None]]] = {
    rf"ld\.param\.{TYPE}": load_parameter,
    rf"ld(?:\.weak)?\.global(?:\.nc)?(?:\.(?:ca|cg|cs|lu))?{HINTS}(?:\.v[248])?\.{TYPE}": load,
    rf"st(?:\.weak)?\.global(?:\.(?:wb|cg|cs|wt))?{HINTS}(?:\.v[248])?\.{TYPE}": store,
    r"shfl\.sync\.(up|down|bfly|idx)\.b32": shuffle,
    r"vote\.sync\.(ballot\.b32|any\.pred|all\.pred)": vote,
    r"activemask\.(b32)": active_mask,
}
