"""Does a network know what it does not know? Monte Carlo dropout on a curve with a gap, and on digits and other things.

Dropout stays on at prediction; where the samples contradict each other, the network has learned little. For a
classifier the measure of that is the mutual information between the class and the masks. Beside it stand two simpler
ones: the entropy of the mean prediction, and the entropy that the network has with dropout off, from a single pass.
"""

from typing import NamedTuple

import common
import torch
from digits_overfitting import network as classifier
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn

import fastdrop

ANGLES = tuple(range(0, 181, 15))
SCORES = {"mutual information": common.BLUE, "entropy of the mean": common.GREEN, "entropy, dropout off": common.ORANGE}


class Curve(NamedTuple):
    """The regression: where it was asked, what it said, and what it had learned from."""

    where: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor


def truth(x: torch.Tensor) -> torch.Tensor:
    """Return what the regression is to find, without noise."""
    return torch.sin(2 * x) + 0.3 * x


def regress(seed: int, steps: int, samples: int) -> Curve:
    """Fit 100 noisy points, none of which is between -1 and 1 or beyond 3."""
    torch.manual_seed(seed)
    side = torch.where(torch.rand(100, 1) < 0.5, -1.0, 1.0)
    x = side * (1 + 2 * torch.rand(100, 1))
    y = truth(x) + 0.1 * torch.randn_like(x)
    model = nn.Sequential(
        nn.Linear(1, 128),
        nn.ReLU(),
        fastdrop.Dropout(0.1),
        nn.Linear(128, 128),
        nn.ReLU(),
        fastdrop.Dropout(0.1),
        nn.Linear(128, 1),
    )
    for _ in common.training(model, x, y, steps, criterion=nn.functional.mse_loss):
        pass
    where = torch.linspace(-5, 5, 201)[:, None]
    prediction = fastdrop.mc_predict(model, where, samples=samples, batch_samples=25, seed=seed)
    return Curve(where, prediction.mean, prediction.std, x, y)


def rotated(images: torch.Tensor, degrees: float) -> torch.Tensor:
    """Return images turned about their middle."""
    turn = torch.deg2rad(torch.tensor(degrees))
    matrix = torch.tensor([[turn.cos(), -turn.sin(), 0], [turn.sin(), turn.cos(), 0]]).expand(len(images), 2, 3)
    grid = nn.functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def photographs(count: int, seed: int) -> torch.Tensor:
    """Return patches of 8 x 8 pixels from scikit-learn's two photographs, in grey and with the digits' contrast."""
    generator = torch.Generator().manual_seed(seed)
    patches = []
    for photograph in load_sample_images().images:
        grey = torch.tensor(photograph, dtype=torch.float32).mean(2)[None]
        small = nn.functional.avg_pool2d(grey, 4)[0]  # so that a patch shows more than a smooth surface
        all_patches = small.unfold(0, 8, 8).unfold(1, 8, 8).reshape(-1, 1, 8, 8)
        patches.append(all_patches[torch.randperm(len(all_patches), generator=generator)[: count // 2]])
    found = torch.cat(patches)
    low, high = found.amin((2, 3), keepdim=True), found.amax((2, 3), keepdim=True)
    return (found - low) / (high - low).clamp(min=1e-6)


def scores(model: nn.Module, images: torch.Tensor, samples: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return each image's uncertainties by SCORES, and the class that the mean prediction says."""
    found = fastdrop.mc_predict(model, images, samples=samples, seed=0, class_dim=1)
    with torch.no_grad():
        once = torch.special.entr(model.eval()(images).softmax(1)).sum(1)
    return dict(zip(SCORES, (found.mutual_information, found.entropy, once), strict=True)), found.mean.argmax(1)


class Trial(NamedTuple):
    """What was found with one seed."""

    curve: Curve
    accuracy: float
    by_angle: list[tuple[float, float]]  # mean mutual information, accuracy in %
    information: dict[str, torch.Tensor]  # of digits, rotated digits, photographs
    areas: dict[str, dict[str, float]]  # area under the ROC curve, by score and task
    curves: dict[str, torch.Tensor]  # of the photographs: true positives at FALSE
    examples: tuple[torch.Tensor, torch.Tensor]  # images, and their mutual information


FALSE = torch.linspace(0, 1, 101)  # false positive rates at which ROC curves of several seeds are averaged


def run(seed: int, quick: bool) -> Trial:
    """Do everything with one seed."""
    steps, samples, count = (20, 5, 60) if quick else (500, 40, 200)
    curve = regress(seed, 50 if quick else 2000, 25 if quick else 200)

    data = common.digits(500, 200, seed)
    torch.manual_seed(seed)
    model = classifier(0.5)
    for _ in common.training(model, *data.train, steps, learning_rate=2e-3):
        pass
    images, labels = data.test[0][:count], data.test[1][:count]

    by_angle = []
    for angle in ANGLES:
        turned, said = scores(model, rotated(images, angle), samples)
        by_angle.append((turned["mutual information"].mean().item(), 100 * (said == labels).float().mean().item()))

    own, said = scores(model, images, samples)
    others = {f"rotated by {angle}°": rotated(images, angle) for angle in (45, 90)}
    others["photographs"] = photographs(count, seed)
    foreign = {name: scores(model, other, samples)[0] for name, other in others.items()}
    areas: dict[str, dict[str, float]] = {score: {} for score in SCORES}
    curves = {}
    for score in SCORES:
        for name, theirs in foreign.items():
            is_foreign = torch.cat([torch.zeros(count), torch.ones(len(theirs[score]))])
            both = torch.cat([own[score], theirs[score]])
            areas[score][name] = roc_auc_score(is_foreign, both)
            if name == "photographs":
                false, true, _ = roc_curve(is_foreign, both)
                curves[score] = interpolate(torch.tensor(false), torch.tensor(true))
        wrong = said != labels
        areas[score]["own errors"] = roc_auc_score(wrong, own[score]) if wrong.any() else float("nan")

    information = {"digits": own, **foreign}
    shown = [rotated(images[:1], angle) for angle in ANGLES[:7]] + [others["photographs"][i : i + 1] for i in range(3)]
    examples = torch.cat(shown)
    return Trial(
        curve,
        100 * common.evaluate(model, *data.test)[1],
        by_angle,
        {name: found["mutual information"] for name, found in information.items()},
        areas,
        curves,
        (examples, scores(model, examples, samples)[0]["mutual information"]),
    )


def interpolate(false: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Return the true positive rates at FALSE: of the last point of the curve that is not to the right."""
    return true[torch.searchsorted(false, FALSE.to(false.dtype), right=True) - 1]


def draw(trials: list[Trial]) -> Figure:
    """Return the picture; the regression, the histograms and the images are those of the first seed."""
    figure = Figure(figsize=(9, 8))
    grid = figure.add_gridspec(3, 2, height_ratios=(1, 1, 0.32))
    draw_curve(figure.add_subplot(grid[0, 0]), trials[0].curve)
    draw_rotation(figure.add_subplot(grid[0, 1]), trials)

    axes = figure.add_subplot(grid[1, 0])
    bins = torch.linspace(0, max(found.max().item() for found in trials[0].information.values()), 26).tolist()
    for name, colour in {"digits": common.GREY, "rotated by 45°": common.ORANGE, "photographs": common.BLUE}.items():
        found = trials[0].information[name].tolist()
        axes.hist(found, bins, color=colour, alpha=0.25)
        axes.hist(found, bins, color=colour, histtype="step", linewidth=1.5, label=name)
    axes.set(title="How sure: digits and other things", xlabel="mutual information (nats)", ylabel="images")
    axes.legend()

    axes = figure.add_subplot(grid[1, 1])
    for (score, colour), style in zip(
        SCORES.items(), ("-", "--", ":"), strict=True
    ):  # the curves may lie on each other
        common.band(axes, FALSE.tolist(), torch.stack([trial.curves[score] for trial in trials]), colour, score, style)
    axes.plot([0, 1], [0, 1], color=common.GREY, linewidth=0.8)
    axes.set(title="Telling photographs from digits (ROC)")
    axes.set(xlabel="digits taken for foreign (share)", ylabel="photographs found (share)")
    axes.legend(loc="lower right")

    strip = grid[2, :].subgridspec(1, len(trials[0].examples[0]))
    for i, (image, information) in enumerate(zip(*trials[0].examples, strict=True)):
        axes = figure.add_subplot(strip[i])
        axes.imshow(image[0], cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[], title=f"{ANGLES[i]}°" if i < 7 else "photo", xlabel=f"{information:.2f}")
        axes.grid(False)
    figure.axes[-10].set_ylabel("nats:", rotation=0, labelpad=14, y=-0.3)
    return figure


def draw_curve(axes: Axes, curve: Curve) -> None:
    """Draw the regression with its band."""
    where, mean, std = (value.flatten() for value in curve[:3])
    for width, alpha in ((2, 0.15), (1, 0.25)):
        low, high, label = mean - width * std, mean + width * std, f"± {width} std"
        axes.fill_between(where, low, high, color=common.BLUE, alpha=alpha, linewidth=0, label=label)
    axes.plot(where, mean, color=common.BLUE, label="mean")
    axes.plot(where, truth(where), "--", color=common.ORANGE, label="truth")
    axes.plot(curve.x, curve.y, ".", color="black", markersize=3, label="data")
    axes.set(title="Regression with a gap in its data", xlabel="x", ylabel="y", ylim=(-5, 5))
    axes.legend(ncols=2, fontsize=8)


def draw_rotation(axes: Axes, trials: list[Trial]) -> None:
    """Draw how sure and how right the networks are of turned digits."""
    values = torch.tensor([trial.by_angle for trial in trials])
    common.band(axes, ANGLES, values[:, :, 0], common.BLUE, "mutual information", "o-")
    axes.set(title="Turned digits: how sure, how right", xlabel="rotation (degrees)", xticks=ANGLES[::2])
    axes.set_ylabel("mutual information (nats)", color=common.BLUE)
    axes.set_ylim(bottom=0)
    right = axes.twinx()
    common.band(right, ANGLES, values[:, :, 1], common.ORANGE, "accuracy", "s--")
    right.set_ylabel("accuracy (%)", color=common.ORANGE)
    right.set_ylim(0, 100)
    right.grid(False)
    right.spines.right.set_visible(True)


def main() -> None:
    """Run all, print the tables, save the picture."""
    given = common.parse(common.options(__doc__, seeds=5))
    trials = [run(seed, given.quick) for seed in common.bar(range(given.seeds), "training and sampling")]

    rows = []
    where = trials[0].curve.where
    regions = {"data (1 < |x| < 3)": (where.abs() > 1) & (where.abs() < 3), "gap (|x| < 1)": where.abs() < 1}
    for name, region in {**regions, "outside (|x| > 3)": where.abs() > 3}.items():
        stds = [trial.curve.std[region].mean().item() for trial in trials]
        errors = [(trial.curve.mean - truth(where))[region].abs().mean().item() for trial in trials]
        rows.append([name, common.spread(stds), common.spread(errors)])
    title = f"regression, {given.seeds} seeds: what the band says, and what it should"
    common.report(given.out, "uncertainty_regression", title, ["where", "mean std", "mean error"], rows)

    tasks = list(trials[0].areas["mutual information"])
    rows = []
    for score in SCORES:
        rows.append([score, *[common.spread([trial.areas[score][task] for trial in trials]) for task in tasks]])
    accuracy = common.spread([trial.accuracy for trial in trials], 1)
    title = f"digits, {given.seeds} seeds, test accuracy {accuracy} %: area under the ROC curve, 0.5 is chance"
    common.report(given.out, "uncertainty_digits", title, ["score", *tasks], rows)
    common.save(draw(trials), given.out, "uncertainty")


if __name__ == "__main__":
    main()
