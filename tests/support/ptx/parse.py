"""The text of a PTX module, taken apart: one kernel's parameters, registers and instructions."""

import re
from typing import Final, NamedTuple, TypeAlias

SPECIAL: Final = {f"%{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"} | {"%laneid"}
NOTHING: Final = "_"  # a result that nobody wants

COMMENT: Final = re.compile(r"/\*.*?\*/|//[^\n]*|^\s*\.loc\s[^\n]*", re.DOTALL | re.MULTILINE)
PARAMETER: Final = re.compile(r"\s*\.param\s+\.(\w+)(?:\s+\.ptr\b[\s\w.]*)?\s+([\w$]+)\s*")
STATEMENT: Final = re.compile(r"\s*(?:([{}])|([\w$]+):|([^;]+);)")
INSTRUCTION: Final = re.compile(r"(?:@(!?)(\S+)\s+)?([\w.:]+)\s*(.*)", re.DOTALL)
OPERAND: Final = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,{\[\s][^,{\[]*")
ADDRESS: Final = re.compile(r"\[\s*([\w$%.]+)\s*(?:\+\s*(-?(?:0[xX])?[0-9a-fA-F]+))?\s*\]")
FLOAT: Final = re.compile(r"0[fF]([0-9a-fA-F]{8})|0[dD]([0-9a-fA-F]{16})")
INTEGER: Final = re.compile(r"(-?(?:0[xX][0-9a-fA-F]+|\d+))U?")


class Parameter(NamedTuple):
    """A parameter of a kernel."""

    type: str  # u64, f32 and so on
    name: str


class Address(NamedTuple):
    """[base + offset], with a register or a parameter as its base."""

    base: str
    offset: int


class Several(NamedTuple):
    """{a, b, ...}, a vector, or a|b, two results."""

    parts: tuple[str | int, ...]


Operand: TypeAlias = str | int | Address | Several
"""A register or a label by name, or an immediate number (its bits, if it is a floating point one), or a compound."""


class Instruction(NamedTuple):
    """An instruction."""

    text: str
    guard: str | None  # the predicate that says which threads execute it
    unless: bool  # those where the predicate is false
    opcode: str
    operands: tuple[Operand, ...]


class Program:
    """A kernel: of that name, or the first of a module."""

    def __init__(self, ptx: str, entry: str | None = None) -> None:
        text = COMMENT.sub("", ptx)
        name = r"[\w$]+" if entry is None else re.escape(entry)
        head = re.search(rf"\.entry\s+({name})\s*(?:\(([^)]*)\))?[^{{;]*{{", text)
        if head is None:
            raise ValueError(f"the PTX has no kernel{f' {entry}' if entry else ''}")
        self.name = head[1]
        self.parameters = [_parameter(each) for each in (head[2] or "").split(",") if each.strip()]
        self.registers: dict[str, str] = {}  # name -> type
        self.instructions: list[Instruction] = []
        self.labels: dict[str, int] = {}  # name -> number of the instruction after it
        self._scopes = [{name: name for name in [*SPECIAL, NOTHING, *(each.name for each in self.parameters)]}, {}]
        position = head.end()
        while len(self._scopes) > 1:  # until the brace that closes the body
            statement = STATEMENT.match(text, position)
            if statement is None:
                raise ValueError(f"cannot read {text[position : position + 80]!r}")
            self._add(*statement.groups())
            position = statement.end()

    def _add(self, brace: str | None, label: str | None, statement: str | None) -> None:
        if brace == "{":
            self._scopes.append({})
        elif brace == "}":
            self._scopes.pop()
        elif label:
            self.labels[label] = len(self.instructions)
        elif statement and statement.startswith(".reg"):
            self._declare(statement)
        elif statement and not statement.startswith(".pragma"):
            self.instructions.append(self._instruction(" ".join(statement.split())))

    def _declare(self, statement: str) -> None:
        """Note the registers of a declaration; what an inner scope declares again is another register."""
        _, type, names = statement.split(None, 2)
        for name in names.split(","):
            prefix, _, count = name.strip(" \t\n>").partition("<")
            for declared in [f"{prefix}{i}" for i in range(int(count))] if count else [prefix]:
                unique = f"{declared}@{len(self.registers)}" if declared in self.registers else declared
                self._scopes[-1][declared] = unique
                self.registers[unique] = type.removeprefix(".")

    def _instruction(self, text: str) -> Instruction:
        match = INSTRUCTION.fullmatch(text)
        if match is None:
            raise NotImplementedError(text)
        unless, guard, opcode, operands = match.groups()
        try:
            return Instruction(
                text,
                self._find(guard) if guard else None,
                bool(unless),
                opcode,
                (operands,) if opcode.startswith("bra") else tuple(map(self._operand, OPERAND.findall(operands))),
            )
        except LookupError as error:
            raise NotImplementedError(f"{error} in `{text}`") from None

    def _operand(self, text: str) -> Operand:
        if text.startswith("["):
            match = ADDRESS.fullmatch(text)
            if match is None:
                raise LookupError(f"no such address as {text}")
            return Address(self._find(match[1]), int(match[2] or "0", 0))
        if text.startswith("{") or "|" in text:
            return Several(tuple(map(self._simple, re.split(r"[,|]", text.strip("{}")))))
        return self._simple(text)

    def _simple(self, text: str) -> str | int:
        text = text.strip()
        if match := FLOAT.fullmatch(text):
            return int(match[1] or match[2], 16)
        if match := INTEGER.fullmatch(text):
            return int(match[1], 0)
        return self._find(text)

    def _find(self, name: str) -> str:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        raise LookupError(f"no such name as {name}")


def _parameter(text: str) -> Parameter:
    match = PARAMETER.fullmatch(text)
    if match is None:
        raise NotImplementedError(f"the parameter {text.strip()}")
    return Parameter(match[1], match[2])
