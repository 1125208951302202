"""Which dropout calls go where, and why: a table of what ran."""

import contextlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from fastdrop._patch import calls, counting

__all__ = ["Explanation", "Row", "explain"]


class Row(NamedTuple):
    """The dropout calls of a function that had one fate.

    Attributes
    ----------
    function : str
        "torch.NAME", an operator of torch's, whoever called it; "fastdrop.NAME", a function or a module of fastdrop's;
        "fastdrop::NAME", an operator in compiled code.
    computed_by : str
        "CPU kernel", "CUDA kernel" or "graph operator": fastdrop's kernels; "torch, same mask": torch's operators, with
        a mask of fastdrop's; "torch": its own dropout; "none": the input was returned.
    reason : str
        Why; empty where a kernel computed a plain tensor.
    calls, elements : int
        How many calls there were, and elements of their inputs.
    bytes_not_kept : int
        What torch's operators would have kept for the backward, where there is to be one and fastdrop kept nothing.
    """

    function: str
    computed_by: str
    reason: str
    calls: int
    elements: int
    bytes_not_kept: int


HEAD: Final = ("function", "computed by", "reason", "calls", "elements", "bytes not kept")


class Explanation:
    """The dropout calls of a block of code; `print` shows a table.

    Attributes
    ----------
    rows : list of Row
        What has run up to now, the most elements first.
    """

    def __init__(self) -> None:
        self._totals: calls.Totals = {}

    @property
    def rows(self) -> list[Row]:
        """What has run up to now, the most elements first."""
        with calls.lock:
            rows = [Row(*key, *totals) for key, totals in self._totals.items()]
        return sorted(rows, key=lambda row: (-row.elements, row))

    def __str__(self) -> str:
        rows = self.rows
        if not rows:
            return "no dropout was called"
        total = ("total", "", "", *(sum(column) for column in list(zip(*rows, strict=True))[3:]))
        lines = [HEAD, *([*row[:3], *(f"{number:,}" for number in row[3:])] for row in (*rows, total))]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                word.ljust(width) if index < 3 else word.rjust(width)
                for index, (word, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        )


@contextlib.contextmanager
def explain() -> Iterator[Explanation]:
    """Count the dropout calls of a block, in all threads: which were fastdrop's, which torch's, and why.

    It works with and without `install`, and around a model, a training step or a program. Blocks can be nested, and
    overlap in threads: each has its own counts. Outside of blocks nothing is counted.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.Dropout(0.0))
    >>> with fastdrop.accelerated(), fastdrop.explain() as report:
    ...     y = model(torch.ones(64, 512, requires_grad=True))
    >>> print(report)
    function       computed by  reason  calls  elements  bytes not kept
    torch.dropout  CPU kernel               1    32,768         131,072
    torch.dropout  none         p = 0       1    32,768               0
    total                                   2    65,536         131,072
    >>> report.rows[0].bytes_not_kept
    131072

    Notes
    -----
    A call is a forward: backwards are not counted, the recomputation by a checkpoint is. In compiled code fastdrop's
    operator is counted when it runs; torch's dropout there is part of other code, and not seen, nor what is in torch's
    fused attention and cuDNN's recurrent layers. Torch's operators are seen on the CPU and on CUDA devices, and go
    the way that `uninstall` describes from the first block on.
    """
    report = Explanation()
    try:
        counting.begin(report._totals)
        yield report
    finally:
        counting.end(report._totals)
