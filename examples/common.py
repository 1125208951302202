"""What all examples share: options, digits, the training loop, tables and pictures. Nothing of fastdrop is in here."""

import argparse
import csv
import functools
import io
import pathlib
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

matplotlib.rcParams.update(
    {
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "savefig.facecolor": "white",  # a card that can be read on a dark page too
    }
)

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"

Item = TypeVar("Item")


def options(text: str | None, seeds: int = 0) -> argparse.ArgumentParser:
    """Return a parser of the options that all examples have; `text` is the docstring, 0 is for those without seeds."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds: all steps, but too short to learn from")
    if seeds:
        parser.add_argument("--seeds", type=int, default=seeds, help="independent repetitions (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads that torch may use (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path(__file__).parent / "results",
        help="folder for the picture and the table (default: %(default)s)",
    )
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options given, and prepare what they ask for."""
    given = parser.parse_args()
    if given.quick and "seeds" in given:
        given.seeds = min(given.seeds, 2)
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(given.threads)
    return given


def bar(items: Iterable[Item], text: str) -> Iterable[Item]:
    """Show a progress bar on stderr while the items are gone through."""
    return track(list(items), text, console=Console(stderr=True))


class Digits(NamedTuple):
    """Images (N, 1, height, width) between 0 and 1 with their labels: to learn from, to choose by, to judge by."""

    train: tuple[torch.Tensor, torch.Tensor]
    valid: tuple[torch.Tensor, torch.Tensor]
    test: tuple[torch.Tensor, torch.Tensor]


def digits(train: int, valid: int, seed: int) -> Digits:
    """Return scikit-learn's 1797 handwritten digits of 8 x 8 pixels, split at random."""
    return split(*_all_digits(), train, valid, seed)


@functools.cache
def _all_digits() -> tuple[torch.Tensor, torch.Tensor]:
    from sklearn.datasets import load_digits  # here: an example without digits does without scikit-learn

    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


def split(images: torch.Tensor, labels: torch.Tensor, train: int, valid: int, seed: int) -> Digits:
    """Return three disjoint parts, of which the third is what the first two leave."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    parts = order[:train], order[train : train + valid], order[train + valid :]
    return Digits(*[(images[part], labels[part]) for part in parts])


def training(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    steps: int,
    batch: int = 32,
    learning_rate: float = 1e-3,
    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.nn.functional.cross_entropy,
) -> Iterator[int]:
    """Train, and after each step yield its number: who iterates can look at the model meanwhile."""
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    for step in range(1, steps + 1):
        model.train()  # dropout is on
        chosen = torch.randperm(len(x))[:batch]
        loss = criterion(model(x[chosen]), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield step


@torch.no_grad()
def evaluate(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Return loss and accuracy of a classifier with its dropout off."""
    model.eval()
    logits = model(images)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    return loss.item(), (logits.argmax(1) == labels).float().mean().item()


def spread(values: Sequence[float], places: int = 3) -> str:
    """Return mean ± standard deviation, for a table."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.{places}f} ± {deviation:.{places}f}"


def band(axes: Axes, x: Sequence[float], runs: Any, colour: str, label: str, style: str = "-") -> None:
    """Draw the mean of several runs (runs, points), and one standard deviation to both sides."""
    runs = torch.as_tensor(runs, dtype=torch.float64)
    mean, deviation = runs.mean(0), runs.std(0, correction=min(1, len(runs) - 1))
    axes.plot(x, mean, style, color=colour, label=label)
    axes.fill_between(x, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)


def report(folder: pathlib.Path, name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table, and save it as NAME.csv."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*map(str, row))
    Console().print(table)
    path = folder / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    print(f"table:  {path}")


def save(figure: Figure, folder: pathlib.Path, name: str) -> None:
    """Save a picture as NAME.png, in 256 colours: a third of the bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120)
    path = folder / f"{name}.png"
    image = Image.open(buffer).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
    print(f"figure: {path}")
