"""`python -m bench.plot`, from a checkout: the README's picture, drawn from files in bench/results.

A point is the ratio of two medians of one interleaved run, with one thread.
"""

import io
import json
import pathlib
from typing import Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image  # which matplotlib depends on

from bench.tables import short

RESULTS: Final = pathlib.Path(__file__).parent / "results"
PICTURE: Final = pathlib.Path(__file__).parents[1] / "docs" / "images" / "speed.png"
RATIO: Final = "native / fastdrop"
INK, GREY = "#222222", "#666666"


class Machine(NamedTuple):
    """A machine's name, its results, and how its lines are drawn."""

    name: str
    file: str
    style: dict[str, float | str]


MACHINES: Final = (
    Machine("AVX-512 (Zen 4)", "cpu-epyc-zen4-2-cores-float32.json", {"linestyle": "-", "linewidth": 2.2}),
    Machine("AVX2 (Zen 3)", "cpu-epyc-zen3-2-cores-float32.json", {"linestyle": "--", "linewidth": 1.5}),
)
PASSES: Final = {  # Okabe and Ito's colours, which colour-blind readers can tell apart
    "forward": ("forward", "#0072B2"),
    "forward_backward": ("forward + backward", "#D55E00"),
}


def ratios(file: str, passes: str) -> tuple[list[int], list[float]]:
    """Return numbers of elements, and how many times faster than native fastdrop is there."""
    results = [result for result in json.loads((RESULTS / file).read_text())["results"] if result["threads"] == 1]
    return [result["size"] for result in results], [result[passes]["ratios"][RATIO] for result in results]


def draw(axes: Axes) -> None:
    """Draw a line for each machine and pass, and what is slower than native on a ground of its own."""
    axes.axhspan(0.5, 1, color="#F6E3DA", linewidth=0)
    axes.axhline(1, color=INK, linewidth=1)
    axes.text(2.4e7, 0.69, "slower than native", ha="right", va="center", color=GREY)
    for passes, (name, colour) in PASSES.items():
        for machine in MACHINES:
            sizes, faster = ratios(machine.file, passes)
            axes.plot(sizes, faster, color=colour, marker="o", markersize=4, label=f"{name}, {machine.name}",
                      **machine.style)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set(xlim=(48, 2.6e7), ylim=(0.5, 90), xlabel="elements of a float32 tensor")
    axes.set_xticks(sizes, labels=[short(size) for size in sizes])
    axes.set_yticks((0.5, 1, 2, 5, 10, 20, 50), labels=("0.5 x", "1 x", "2 x", "5 x", "10 x", "20 x", "50 x"))
    axes.minorticks_off()
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("Times faster than PyTorch's own dropout, on one CPU thread", loc="left", color=INK, fontsize=11)
    axes.legend(frameon=False, loc="upper left", labelspacing=0.35)


def main() -> None:
    """Draw the picture and name its file."""
    figure = Figure(figsize=(7.2, 3.8), layout="constrained", facecolor="white")  # which a dark page shows too
    draw(figure.subplots())
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=160)
    Image.open(buffer).convert("RGB").quantize(64).save(PICTURE, optimize=True)  # a third of the size
    print(PICTURE)


if __name__ == "__main__":
    main()
