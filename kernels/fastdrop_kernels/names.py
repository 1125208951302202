"""The names of kernels: a formula's, after how a mask lies over elements: "dropout", "segments_dropout"."""

from typing import Final

from fastdrop_kernels.formulas import FORMULAS, Formula, NormalFormula

ELEMENTS: Final = ""  # every element has a draw of its own
SEGMENTS: Final = "segments_"  # a draw for each contiguous segment
REPEATED_ROWS: Final = "repeated_rows_"  # a row of draws, broadcast over a middle dimension
LAYOUTS: Final = (ELEMENTS, SEGMENTS, REPEATED_ROWS)

FLOATS: Final = ("float16", "bfloat16", "float32", "float64")


def layouts_of(formula: Formula | NormalFormula) -> tuple[str, ...]:
    """Return the layouts of masks that there are kernels for."""
    return (ELEMENTS,) if isinstance(formula, NormalFormula) or formula.inputs == 2 else LAYOUTS


KERNELS: Final = (  # name, dtype
    *(
        (layout + name, dtype)
        for name, formula in FORMULAS.items()
        if name != "mask"
        for layout in layouts_of(formula)
        for dtype in FLOATS
    ),
    ("mask", "bool"),
)


def split(name: str) -> tuple[str, Formula | NormalFormula]:
    """Return how a mask lies over the elements of a kernel, and the kernel's formula."""
    for layout in (SEGMENTS, REPEATED_ROWS):
        if name.startswith(layout):
            return layout, FORMULAS[name.removeprefix(layout)]
    return ELEMENTS, FORMULAS[name]
