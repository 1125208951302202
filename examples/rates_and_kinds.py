"""Which dropout, at which rate? Nine kinds, each in the network it is made for, on few and on more handwritten digits.

A panel is one network, so heights do not compare kinds of dropout with each other: what counts is how far a curve rises
above its own value at rate 0, how wide its hill is, and where it falls.
"""

from collections.abc import Callable

import common
import torch
from matplotlib.figure import Figure
from torch import nn

import fastdrop

RATES = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8)
SIZES = {100: common.ORANGE, 1000: common.BLUE}  # images to learn from


def dense(drop: Callable[[], nn.Module], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return a network of two wide dense layers, with a dropout after each."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 256),
        activation(),
        drop(),
        nn.Linear(256, 256),
        activation(),
        drop(),
        nn.Linear(256, 10),
    )


def convolutional(drop: Callable[[], nn.Module], norm: Callable[[int], nn.Module] = nn.Identity) -> nn.Module:
    """Return a CNN of two layers, with a dropout after each; a norm, if there is one, sees what is dropped."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        drop(),
        norm(16),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        drop(),
        norm(32),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )


def selu(p: float) -> nn.Module:
    """Return a self-normalizing network: SELU and alpha dropout keep mean 0 and variance 1, if weights start so."""
    model = dense(lambda: fastdrop.AlphaDropout(p), nn.SELU)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.zeros_(layer.bias)
    return model


def drop_connect(p: float) -> nn.Module:
    """Return the dense network with dropped weights in place of dropped activations."""
    model = dense(nn.Identity)
    for i in (1, 4):
        model[i] = fastdrop.DropConnect(model[i], p)
    return model


class Residual(nn.Module):
    """A path around which the input goes too: without the path, a layer less."""

    def __init__(self, channels: int, p: float) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )
        self.drop = fastdrop.DropPath(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the path, or for some images of the batch nothing."""
        return x + self.drop(self.path(x))


def residual(p: float) -> nn.Module:
    """Return a CNN of two residual blocks."""
    blocks = [Residual(16, p) for _ in range(2)]
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), *blocks, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10)
    )


class Recurrent(nn.Module):
    """A GRU of two layers that reads an image two rows at a time; all steps of a sequence have one mask."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.first, self.second = nn.GRU(16, 48, batch_first=True), nn.GRU(48, 48, batch_first=True)
        self.drop = fastdrop.VariationalDropout(p, batch_first=True)
        self.classify = nn.Linear(48, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits after the last step."""
        hidden = self.drop(self.first(images.reshape(-1, 4, 16))[0])
        hidden = self.drop(self.second(hidden)[0])
        return self.classify(hidden[:, -1])


KINDS: dict[str, Callable[[float], nn.Module]] = {
    "Dropout, dense": lambda p: dense(lambda: fastdrop.Dropout(p)),
    "GaussianDropout, dense": lambda p: dense(lambda: fastdrop.GaussianDropout(p)),
    "DropConnect, dense": drop_connect,
    "AlphaDropout, dense with SELU": selu,
    "VariationalDropout, GRU": Recurrent,
    "DropPath, residual CNN": residual,
    "Dropout2d (spatial), CNN": lambda p: convolutional(lambda: fastdrop.Dropout2d(p)),
    "DropBlock2d (3 x 3), CNN": lambda p: convolutional(lambda: fastdrop.DropBlock2d(p, 3)),
    "Dropout before batch norm, CNN": lambda p: convolutional(lambda: fastdrop.Dropout(p), nn.BatchNorm2d),
}


def accuracy(kind: str, rate: float, size: int, seed: int, steps: int) -> float:
    """Train one network; return its validation accuracy in percent."""
    data = common.digits(size, 600, seed)  # all kinds and rates see the same images
    torch.manual_seed(seed)
    model = KINDS[kind](rate)
    for _ in common.training(model, *data.train, steps, learning_rate=3e-3):
        pass
    return 100 * common.evaluate(model, *data.valid)[1]


def draw(found: dict[tuple[str, int], torch.Tensor], rates: tuple[float, ...]) -> Figure:
    """Return the picture: a panel for each kind, a curve for each number of images."""
    figure = Figure(figsize=(9, 7.5))
    panels = figure.subplots(3, 3, sharex=True, sharey="row").flat
    for axes, kind in zip(panels, KINDS, strict=True):
        for size, colour in SIZES.items():
            runs = found[kind, size]
            common.band(axes, rates, runs, colour, f"{size} training images", "o-")
            axes.axhline(runs[:, 0].mean(), color=colour, linestyle=":", linewidth=1)
        axes.set_title(kind, fontsize=9)
    for axes in figure.axes[6:]:
        axes.set_xlabel("rate p")
    for axes in figure.axes[::3]:
        axes.set_ylabel("validation accuracy (%)")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def main() -> None:
    """Run all, print the table, save the picture."""
    parser = common.options(__doc__, seeds=3)
    given = common.parse(parser)
    rates, steps = ((0.0, 0.5), 10) if given.quick else (RATES, 300)

    found = {(kind, size): torch.zeros(given.seeds, len(rates)) for kind in KINDS for size in SIZES}
    plan = [(kind, size, i, seed) for kind, size in found for i in range(len(rates)) for seed in range(given.seeds)]
    for kind, size, i, seed in common.bar(plan, "training networks"):
        found[kind, size][seed, i] = accuracy(kind, rates[i], size, seed, steps)

    rows = []
    for (kind, size), runs in found.items():
        mean, deviation = runs.mean(0), runs.std(0, correction=min(1, given.seeds - 1))
        best = int(mean.argmax())
        gain = runs[:, best] - runs[:, 0]  # seed by seed: the same images and weights
        rows.append(
            [kind, size, *[f"{m:.1f} ± {d:.1f}" for m, d in zip(mean, deviation, strict=True)]]
            + [rates[best], f"{gain.mean():+.1f} ± {gain.std(correction=min(1, given.seeds - 1)):.1f}"]
        )
    columns = ["kind and network", "images", *[f"p = {rate:g}" for rate in rates], "best p", "gain"]
    common.report(given.out, "rates_and_kinds", f"validation accuracy in %, {given.seeds} seeds", columns, rows)
    common.save(draw(found, rates), given.out, "rates_and_kinds")


if __name__ == "__main__":
    main()
