"""The speed section as a picture: bandwidth over size, a panel for each dtype and pass."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bench.gpu.speed import COLUMNS
from bench.tables import short
from fastdrop.bench.report import PASSES

STYLES: Final = {  # colour, marker, line: told apart in grey too
    "native": ("tab:red", "o", "-"),
    "compiled": ("tab:orange", "s", "-"),
    "triton": ("tab:green", "^", "-"),
    "fastdrop": ("tab:blue", "D", "-"),
    "fastdrop_into": ("tab:blue", "D", ":"),
    "clone": ("tab:gray", "v", ":"),
    "copy": ("black", "x", "--"),
}
LABELS: Final = {
    "native": "torch F.dropout",
    "compiled": "torch.compile",
    "triton": "Triton, low-memory",
    "fastdrop": "fastdrop",
    "fastdrop_into": "fastdrop kernel into y",
    "clone": "x.clone()",
    "copy": "y.copy_(x)",
}


def _panel(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    for name in COLUMNS:
        points = [(row["size"], row["providers"][name]["gb_per_second"]) for row in rows if name in row["providers"]]
        if points:
            colour, marker, line = STYLES[name]
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, linestyle=line, label=LABELS[name])
    sizes = [row["size"] for row in rows]
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [short(size) for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


def write(document: Mapping[str, Any], path: pathlib.Path) -> None:
    """Write the picture of a document whose speed section has rows."""
    from matplotlib.figure import Figure  # here: all else works without it

    rows = document["sections"]["speed"]["rows"]
    dtypes = list(dict.fromkeys(row["dtype"] for row in rows))
    figure = Figure(figsize=(6 * len(PASSES), 1.2 + 4 * len(dtypes)), layout="constrained")
    panels = figure.subplots(len(dtypes), len(PASSES), squeeze=False)
    for line, dtype in zip(panels, dtypes, strict=True):
        for axes, (part, title) in zip(line, PASSES.items(), strict=True):
            _panel(axes, [row for row in rows if (row["dtype"], row["part"]) == (dtype, part)])
            axes.set(title=f"{dtype}, {title}", xlabel="elements", ylabel="GB/s of input, output and gradients")
    system = document["system"]
    figure.suptitle(f"dropout on {system['GPU']}, p = {document['p']} (torch {system['torch']}): higher is better")
    handles = {
        label: handle for axes in panels.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=150, format="png")
