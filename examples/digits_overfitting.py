"""What dropout does to a network that has seen too little: two CNNs on handwritten digits, without and with dropout.

Both have the same weights at the start, learn from the same few images for the same number of steps, and are looked at
side by side. Everything is repeated with other seeds (other images, other weights), because one run proves nothing.
"""

import gzip
import pathlib

import common
import torch
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from torch import nn

import fastdrop

KINDS = {"without dropout": 0.0, "with dropout": 0.5}
COLOURS = {"without dropout": common.ORANGE, "with dropout": common.BLUE}
EVERY = 20  # steps between two looks at the losses


def network(p: float) -> nn.Module:
    """Return a CNN; p is the rate before the classifier, where most weights are. Whole channels are dropped less."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        fastdrop.Dropout2d(p / 2),  # neighbouring pixels say the same: dropping single ones would hide little
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        fastdrop.Dropout2d(p / 2),
        nn.AdaptiveMaxPool2d(4),  # images of any size become 4 x 4
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 256),
        nn.ReLU(),
        fastdrop.Dropout(p),
        nn.Linear(256, 10),
    )


def read_mnist(folder: pathlib.Path, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images and labels from MNIST's own files, packed or not; kind is "train" or "t10k"."""
    found = []
    for name, header in ((f"{kind}-images-idx3-ubyte", 16), (f"{kind}-labels-idx1-ubyte", 8)):
        path = folder / name
        content = path.read_bytes() if path.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())
        found.append(torch.frombuffer(bytearray(content[header:]), dtype=torch.uint8))
    return found[0].view(-1, 1, 28, 28) / 255, found[1].long()


def load(mnist: pathlib.Path | None, train: int, seed: int) -> common.Digits:
    """Return the digits, of which `train` are to learn from."""
    if mnist is None:
        return common.digits(train, 300, seed)
    parts = common.split(*read_mnist(mnist, "train"), train, 2000, seed)
    return parts._replace(test=read_mnist(mnist, "t10k"))


def run(p: float, data: common.Digits, steps: int, seed: int) -> tuple[nn.Module, list[list[float]]]:
    """Train one network; return it, and its losses and accuracies on the way."""
    torch.manual_seed(seed)  # the weights, the batches and the masks
    model = network(p)
    curve = []
    for step in common.training(model, *data.train, steps, learning_rate=2e-3):
        if step % EVERY == 0:
            curve.append([*common.evaluate(model, *data.train), *common.evaluate(model, *data.valid)])
    return model, curve


def draw(
    curves: dict[str, list[list[list[float]]]], models: dict[str, nn.Module], data: common.Digits, train: int
) -> Figure:
    """Return the picture: losses, accuracies, and what the last two networks say of some digits."""
    figure = Figure(figsize=(9, 6.4))
    grid = figure.add_gridspec(2, 2, height_ratios=(1.25, 1))
    for column, (quantity, unit) in enumerate({"loss": "nats", "accuracy": "%"}.items()):
        axes = figure.add_subplot(grid[0, column])
        for kind, runs in curves.items():
            values = torch.tensor(runs) * (100 if column else 1)
            steps = [EVERY * (i + 1) for i in range(values.shape[1])]
            common.band(axes, steps, values[:, :, column], COLOURS[kind], f"training, {kind}", "--")
            common.band(axes, steps, values[:, :, 2 + column], COLOURS[kind], f"validation, {kind}")
        axes.set(xlabel="training step", ylabel=f"{quantity} ({unit})")
        axes.set_title(f"{quantity.capitalize()}, {train} training images")
        axes.set_ylim((0, 0.8) if quantity == "loss" else (80, 100.5))
        axes.legend(fontsize=8)
    samples(figure, grid[1, :], models, data)
    return figure


def samples(figure: Figure, place: SubplotSpec, models: dict[str, nn.Module], data: common.Digits) -> None:
    """Draw test digits: the first row is what comes, the second what at least one of the networks gets wrong."""
    images, labels = data.test
    with torch.no_grad():
        sure = {kind: model.eval()(images).softmax(1).max(1) for kind, model in models.items()}
    wrong = torch.stack([said.indices != labels for said in sure.values()]).any(0).nonzero().flatten()
    shown = [*range(10), *wrong[:10].tolist()]
    grid = place.subgridspec(2, 10)
    for i, index in enumerate(shown):
        axes = figure.add_subplot(grid[i // 10, i % 10])
        axes.imshow(images[index, 0], cmap="gray_r")
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"a {labels[index]}", fontsize=8, pad=3)
        axes.grid(False)
        for line, (kind, (confidence, said)) in enumerate(sure.items()):
            right = said[index] == labels[index]
            text = f"{said[index]} ({100 * confidence[index]:.0f} %)" + ("" if right else " ✗")
            below = {"transform": axes.transAxes, "ha": "center", "fontsize": 8}
            axes.text(0.5, -0.16 - 0.2 * line, text, color=COLOURS[kind], **below)
        if i % 10 == 0:
            axes.set_ylabel("as they come" if i == 0 else "one errs", fontsize=8)


def main() -> None:
    """Run all, print the table, save the picture."""
    parser = common.options(__doc__, seeds=8)
    parser.add_argument("--mnist", type=pathlib.Path, metavar="DIR", help="folder with the four files of MNIST")
    parser.add_argument("--train", type=int, default=200, help="images to learn from (default: %(default)s)")
    given = common.parse(parser)
    steps = 40 if given.quick else 800

    curves: dict[str, list[list[list[float]]]] = {kind: [] for kind in KINDS}
    tests: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    models = {}
    for seed in common.bar(range(given.seeds), "training pairs of networks"):
        data = load(given.mnist, given.train, seed)
        for kind, p in KINDS.items():
            models[kind], curve = run(p, data, steps, seed)
            curves[kind].append(curve)
            tests[kind].append(common.evaluate(models[kind], *data.test))

    rows = []
    for kind in KINDS:
        last = torch.tensor(curves[kind])[:, -1].T.tolist()
        loss, accuracy = zip(*tests[kind], strict=True)
        losses = [common.spread(values) for values in (last[0], last[2], loss)]
        rows.append([kind, *losses, common.spread([100 * a for a in accuracy], 2)])
    pairs = zip(*tests.values(), strict=True)
    gains = [100 * (dropped[1] - plain[1]) for plain, dropped in pairs]
    rows.append(["difference, seed by seed", "", "", "", common.spread(gains, 2)])
    common.report(
        given.out,
        "digits_overfitting",
        f"{given.train} training images, {given.seeds} seeds: mean ± standard deviation at the end",
        ["network", "training loss", "validation loss", "test loss", "test accuracy (%)"],
        rows,
    )
    print(f"dropout made the test accuracy better in {sum(gain > 0 for gain in gains)} of {given.seeds} pairs")
    common.save(draw(curves, models, data, given.train), given.out, "digits_overfitting")


if __name__ == "__main__":
    main()
