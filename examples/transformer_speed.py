"""Train a small transformer on Python's own manual: with torch's dropout, with fastdrop installed, and with no dropout.

The model is torch.nn.TransformerEncoder and knows nothing of fastdrop. Three things are compared: whether it learns as
well, how long a training step takes, and how much memory it needs. p = 0 is the floor: what a step costs without any
dropout. Times are of interleaved steps, so that what else the machine does falls on all three alike.
"""

import contextlib
import multiprocessing
import pydoc_data.topics
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import common
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

import fastdrop


class Way(NamedTuple):
    """A way to train: the rate of dropout, and whose it is."""

    p: float
    context: Callable[[], contextlib.AbstractContextManager[None]]
    colour: str


WAYS = {
    "native": Way(0.1, contextlib.nullcontext, common.ORANGE),
    "install()": Way(0.1, fastdrop.accelerated, common.BLUE),  # install(), for a block
    "p = 0": Way(0.0, contextlib.nullcontext, common.GREY),
}


class Size(NamedTuple):
    """How large model and batch are."""

    width: int = 128
    layers: int = 2
    context: int = 128
    batch: int = 8


class Transformer(nn.Module):
    """Says, for each character of a text, which one will follow."""

    def __init__(self, vocabulary: int, size: Size, p: float) -> None:
        super().__init__()
        self.characters = nn.Embedding(vocabulary, size.width)
        self.positions = nn.Parameter(0.02 * torch.randn(size.context, size.width))
        layer = nn.TransformerEncoderLayer(size.width, 4, 4 * size.width, p, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, size.layers, enable_nested_tensor=False)
        self.to_logits = nn.Linear(size.width, vocabulary)
        self.register_buffer("past", nn.Transformer.generate_square_subsequent_mask(size.context), persistent=False)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (batch, context, vocabulary)."""
        hidden = self.characters(text) + self.positions
        return self.to_logits(self.layers(hidden, self.past, is_causal=True))


class Text(NamedTuple):
    """Texts of one length, as numbers of characters, and the same texts a character later."""

    vocabulary: int
    train: tuple[torch.Tensor, torch.Tensor]
    valid: tuple[torch.Tensor, torch.Tensor]


def read(context: int) -> Text:
    """Return what `help()` says of Python's language: half a million characters. The last tenth is kept to judge by."""
    text = "\n".join(pydoc_data.topics.topics.values())
    alphabet = {character: number for number, character in enumerate(sorted(set(text)))}
    numbers = torch.tensor([alphabet[character] for character in text])
    windows = numbers.unfold(0, context + 1, context // 2)
    pairs = windows[:, :-1].contiguous(), windows[:, 1:].contiguous()
    cut = len(windows) * 9 // 10
    return Text(len(alphabet), (pairs[0][:cut], pairs[1][:cut]), (pairs[0][cut + 1 :], pairs[1][cut + 1 :]))


def criterion(logits: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy of all characters, in nats."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten())


def steps_of(way: Way, text: Text, size: Size, steps: int, seed: int = 0) -> tuple[Transformer, Iterator[int]]:
    """Return a model and what trains it a step at a time."""
    torch.manual_seed(seed)
    model = Transformer(text.vocabulary, size, way.p)
    return model, common.training(model, *text.train, steps, size.batch, criterion=criterion)


def learn(way: Way, text: Text, size: Size, steps: int, seed: int) -> list[float]:
    """Train one model; return its loss on texts that it has not seen, ten times on the way."""
    model, stepping = steps_of(way, text, size, steps, seed)
    losses = []
    with way.context():
        for step in stepping:
            if step % (steps // 10) == 0:
                with torch.no_grad():
                    losses.append(criterion(model.eval()(text.valid[0][::8]), text.valid[1][::8]).item())
    return losses


def time_steps(text: Text, size: Size, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each step, by way; one step of each way is a round."""
    warm = 3
    models = {name: steps_of(way, text, size, warm + rounds)[1] for name, way in WAYS.items()}
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in common.bar(range(warm + rounds), "timing steps"):
        for name, way in WAYS.items():
            with way.context():
                start = time.perf_counter()
                next(models[name])
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: found[warm:] for name, found in times.items()}  # the first ones load kernels


def peak_memory(name: str, text: Text, size: Size) -> float:
    """Return by how many MiB training makes a process grow: a fork each, as memory once taken serves again."""
    if sys.platform == "win32":
        return float("nan")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_growth, (name, text, size))


def _growth(name: str, text: Text, size: Size) -> float:
    import resource  # not on Windows

    unit = 2**20 if sys.platform == "darwin" else 2**10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with WAYS[name].context():
        for _ in steps_of(WAYS[name], text, size, 2)[1]:
            pass
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / unit


def draw(losses: dict[str, list[list[float]]], steps: int, times: dict[str, float], memory: dict[str, float]) -> Figure:
    """Return the picture: the losses, and bars of time and memory."""
    figure = Figure(figsize=(9, 3.4))
    left, middle, right = figure.subplots(1, 3, width_ratios=(2, 1, 1))
    for name, runs in losses.items():
        style = {"native": "-", "install()": "--", "p = 0": ":"}[name]  # the first two lie on each other
        common.band(left, [steps * (i + 1) / 10 for i in range(len(runs[0]))], runs, WAYS[name].colour, name, style)
    left.set(title="Loss on unseen text", xlabel="training step", ylabel="nats a character")
    left.legend()
    bars(middle, "Time of a step", "ms", times)
    bars(right, "Peak memory of a step", "MiB", memory)
    return figure


def bars(axes: Axes, title: str, unit: str, values: dict[str, float]) -> None:
    """Draw a bar a way, with its value."""
    drawn = axes.bar(list(values), list(values.values()), color=[WAYS[name].colour for name in values])
    axes.bar_label(drawn, fmt="%.0f")
    axes.set(title=title, ylabel=unit)
    axes.grid(axis="x")
    axes.tick_params(axis="x", length=0)


def main() -> None:
    """Measure, train, print the table, save the picture."""
    given = common.parse(common.options(__doc__, seeds=3))
    size = Size(64, 1, 64, 8) if given.quick else Size()
    steps, rounds = (10, 3) if given.quick else (200, 40)
    text = read(size.context)

    # Memory first: only a process that has run nothing on several threads yet can be forked. It loads its kernels here.
    with fastdrop.accelerated():
        nn.functional.dropout(torch.ones(8), 0.1)
    memory = {name: peak_memory(name, text, size) for name in WAYS}
    measured = time_steps(text, size, rounds)
    times = {name: torch.tensor(found).median().item() for name, found in measured.items()}
    losses: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    for seed in common.bar(range(given.seeds), "learning"):
        for name, way in WAYS.items():
            losses[name].append(learn(way, text, size, steps, seed))

    rows = []
    for name in WAYS:
        ratio = torch.tensor(measured[name]) / torch.tensor(measured["p = 0"])  # round by round
        rows.append(
            [name, f"{times[name]:.1f}", f"{ratio.median():.2f}", f"{memory[name]:.0f}"]
            + [common.spread([run[-1] for run in losses[name]])]
        )
    title = f"{size}\nthreads: {given.threads}; {rounds} rounds: medians; {steps} steps: losses, {given.seeds} seeds"
    columns = ["dropout", "step (ms)", "time / p = 0", "peak memory (MiB)", "loss on unseen text"]
    common.report(given.out, "transformer_speed", title, columns, rows)
    common.save(draw(losses, steps, times, memory), given.out, "transformer_speed")


if __name__ == "__main__":
    main()
