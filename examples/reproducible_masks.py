"""One key, one mask: the same elements drop on any number of threads, in eager and compiled code, in parts, on a GPU.

Each way of calling is compared with the whole mask, element by element. Torch's own dropout goes the same ways beside
it, with torch.manual_seed in place of a key.
"""

from collections.abc import Callable

import common
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

import fastdrop
import fastdrop.functional as F

P = 0.5
SEED, STEP = 2026, 17  # fastdrop's key. A training step can be the offset: then no generator's state has to be saved
SHOWN = 40  # the picture shows this many rows and columns of the masks, from where the second part begins

Dropout = Callable[[torch.Tensor], torch.Tensor]


def ours(x: torch.Tensor) -> torch.Tensor:
    """Drop what the key says; no generator is asked."""
    return F.dropout(x, P, seed=SEED, offset=STEP)


def torchs(x: torch.Tensor) -> torch.Tensor:
    """Drop what comes next from torch's generator, which `kept` has seeded."""
    return torch.nn.functional.dropout(x, P)


def our_part(x: torch.Tensor, first: int, rows: int) -> torch.Tensor:
    """Return which elements of some rows are kept, from the index in x of their first element; x is not needed."""
    return fastdrop.dropout_mask((rows, x.shape[1]), P, seed=SEED, offset=STEP, start=first * x.shape[1])


def torchs_part(x: torch.Tensor, first: int, rows: int) -> torch.Tensor:
    """Do it as another machine with the same seed would: torch has no way to say which part of a mask is wanted."""
    torch.manual_seed(SEED)
    return torchs(x[first : first + rows]) != 0


def kept(dropout: Dropout, x: torch.Tensor, threads: int = 1) -> torch.Tensor:
    """Return which elements of x, which are all ones, a dropout keeps."""
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    return dropout(x).cpu() != 0


def gradient(dropout: Dropout) -> Dropout:
    """Return what gives a dropout's gradient: it is 0 where the backward dropped."""

    def run(x: torch.Tensor) -> torch.Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(dropout(x).sum(), x)[0]

    return run


def go_all_ways(
    dropout: Dropout,
    part: Callable[[torch.Tensor, int, int], torch.Tensor],
    x: torch.Tensor,
    threads: int,
    backend: str,
) -> dict[str, torch.Tensor]:
    """Return the mask of x that each way of calling gives."""
    half = len(x) // 2
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "1 thread": lambda: kept(dropout, x),
        f"{threads} threads": lambda: kept(dropout, x, threads),
        "backward": lambda: kept(gradient(dropout), x),
        "compiled": lambda: kept(torch.compile(dropout, backend=backend), x),
        "bfloat16": lambda: kept(dropout, x.bfloat16()),
        "in two parts": lambda: torch.cat([part(x, 0, half), part(x, half, half)]),
    }
    if torch.cuda.is_available():
        ways["on the GPU"] = lambda: kept(dropout, x.cuda())
    return {name: ways[name]() for name in common.bar(ways, "going all ways")}


def draw(masks: dict[str, dict[str, torch.Tensor]]) -> Figure:
    """Return the picture: a cut of each mask, blue where kept; what differs from the first one is orange."""
    ways = list(masks["fastdrop"])
    figure = Figure(figsize=(1.5 * len(ways), 3.9))
    panels = figure.subplots(len(masks), len(ways), squeeze=False)
    for row, (who, found) in zip(panels, masks.items(), strict=True):
        for axes, (way, mask) in zip(row, found.items(), strict=True):
            differs = mask != found["1 thread"]
            middle = len(mask) // 2
            cut = (mask + 2 * differs)[middle - SHOWN // 2 : middle + SHOWN // 2, :SHOWN]
            axes.imshow(cut, cmap=ListedColormap(["white", common.BLUE, "#FFD9B8", common.ORANGE]), vmin=0, vmax=3)
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            axes.spines[:].set_visible(True)
            axes.set_title(way)
            share = differs.float().mean().item()
            text = f"{100 * share:.0f} % differ" if share else "the same"
            axes.set_xlabel(text, color=common.ORANGE if share else "black")
        row[0].set_ylabel(who, fontsize=11)
    return figure


def main() -> None:
    """Go all ways, print the table, save the picture."""
    given = common.parse(common.options(__doc__))
    threads = max(2, given.threads)
    # Inductor needs a C++ compiler and some seconds; the other backend traces the code, but generates none.
    backend = "aot_eager" if given.quick else "inductor"
    x = torch.ones(256 if given.quick else 4096, 1024)
    masks = {
        "fastdrop": go_all_ways(ours, our_part, x, threads, backend),
        "torch": go_all_ways(torchs, torchs_part, x, threads, backend),
    }
    rows = []
    for way in masks["fastdrop"]:
        row = [way]
        for found in masks.values():
            row += [(found[way] != found["1 thread"]).sum().item(), f"{100 * found[way].double().mean().item():.2f}"]
        rows.append(row)
    title = f"how many of {x.numel()} elements differ from the mask of one thread, and how many are kept"
    columns = ["way", *[f"{who}: {what}" for who in masks for what in ("differ", "kept (%)")]]
    common.report(given.out, "reproducible_masks", title, columns, rows)
    common.save(draw(masks), given.out, "reproducible_masks")


if __name__ == "__main__":
    main()
