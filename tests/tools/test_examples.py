"""The examples, each run as a reader runs it, as a process, but with --quick."""

import csv
import gzip
import importlib
import os
import pathlib
import subprocess
import sys

import mask_reference
import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def run(script: str, folder: pathlib.Path) -> dict[str, list[dict[str, str]]]:
    """Run a script; return its tables by name, after a look at its picture."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(EXAMPLES / f"{script}.py"), "--quick", "--out", str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert "100%" in done.stderr, "no progress bar came to its end"
    look_at(folder / f"{script}.png")
    tables = {}
    for path in folder.glob("*.csv"):
        assert f"table:  {path}" in done.stdout
        with path.open(newline="", encoding="utf-8") as file:
            tables[path.stem] = list(csv.DictReader(file))
    return tables


def look_at(path: pathlib.Path) -> None:
    from PIL import Image  # of matplotlib

    with Image.open(path) as image:
        image.load()  # all of it can be read
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        width, height = image.size
    assert 1000 <= width <= 1200 and 350 <= height <= 1000
    assert path.stat().st_size <= 100_000
    white = (pixels == 255).all(1).mean()
    assert 0.3 < white < 0.98, "as good as nothing is drawn, or the background is dark"
    saturated = (pixels.max(1) - pixels.min(1).astype(int) > 60).sum()
    assert saturated > 1000, "no curve, bar or mask in colour"


def mean(cell: str) -> float:
    return float(cell.split("±")[0])


def test_digits_overfitting(tmp_path):
    without, dropped, difference = run("digits_overfitting", tmp_path)["digits_overfitting"]
    assert (without["network"], dropped["network"]) == ("without dropout", "with dropout")
    for row in (without, dropped):
        assert 20 < mean(row["test accuracy (%)"]) <= 100  # chance is 10
        assert 0 < mean(row["training loss"]) < 2.3  # ln 10 is chance
    assert mean(without["training loss"]) < mean(dropped["training loss"])  # what has learned 40 steps with dropout
    accuracies = [mean(row["test accuracy (%)"]) for row in (dropped, without)]
    assert mean(difference["test accuracy (%)"]) == pytest.approx(accuracies[0] - accuracies[1], abs=0.02)


def test_rates_and_kinds(tmp_path):
    rows = run("rates_and_kinds", tmp_path)["rates_and_kinds"]
    assert len(rows) == 9 * 2
    found = {(row["kind and network"], row["images"]): row for row in rows}
    assert all(0 < mean(row[rate]) <= 100 for row in rows for rate in ("p = 0", "p = 0.5"))
    for images in ("100", "1000"):
        dense, gaussian, connect = (found[f"{k}, dense", images] for k in ("Dropout", "GaussianDropout", "DropConnect"))
        assert dense["p = 0"] == gaussian["p = 0"] == connect["p = 0"]  # nothing drops: they are one network
        spatial, block = found["Dropout2d (spatial), CNN", images], found["DropBlock2d (3 x 3), CNN", images]
        assert spatial["p = 0"] == block["p = 0"]
    assert any(row["p = 0"] != row["p = 0.5"] for row in rows)


def test_uncertainty(tmp_path):
    tables = run("uncertainty", tmp_path)
    data, gap, outside = tables["uncertainty_regression"]
    assert all(mean(row["mean std"]) > 0 for row in (data, gap, outside))
    assert mean(outside["mean error"]) > mean(data["mean error"])
    scores = {row.pop("score"): row for row in tables["uncertainty_digits"]}
    assert list(scores) == ["mutual information", "entropy of the mean", "entropy, dropout off"]
    areas = [mean(cell) for row in scores.values() for cell in row.values()]
    assert len(areas) == 3 * 4 and all(0 <= area <= 1 for area in areas)
    assert mean(scores["entropy of the mean"]["own errors"]) > 0.5  # better than chance, even after 20 steps


def test_transformer_speed(tmp_path):
    rows = run("transformer_speed", tmp_path)["transformer_speed"]
    assert [row["dropout"] for row in rows] == ["native", "install()", "p = 0"]
    losses = [mean(row["loss on unseen text"]) for row in rows]
    assert all(1 < loss < 4.5 for loss in losses)  # ln 103 = 4.63 is chance
    assert max(losses) - min(losses) < 0.3  # whoever drops, it learns
    assert rows[2]["time / p = 0"] == "1.00"
    assert all(float(row["step (ms)"]) > 0 for row in rows)
    if sys.platform != "win32":
        assert all(float(row["peak memory (MiB)"]) > 0 for row in rows)


def test_reproducible_masks(tmp_path):
    rows = run("reproducible_masks", tmp_path)["reproducible_masks"]
    ways = {row["way"]: row for row in rows}
    assert {"1 thread", "2 threads", "backward", "compiled", "bfloat16", "in two parts"} <= set(ways)
    assert {row["fastdrop: differ"] for row in rows} == {"0"}
    assert int(ways["in two parts"]["torch: differ"]) > 0  # else there would be nothing to show
    kept = mask_reference.keep_mask(np.arange(256 * 1024), 0.5, 2026, 17)
    assert {row["fastdrop: kept (%)"] for row in rows} == {f"{100 * kept.mean():.2f}"}


@pytest.fixture
def digits_overfitting(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module("digits_overfitting")
    for name in ("digits_overfitting", "common"):
        sys.modules.pop(name)


@pytest.mark.parametrize("packed", [False, True])
def test_mnists_files_are_read(digits_overfitting, packed, tmp_path):
    generator = np.random.default_rng(0)
    written = {}
    for kind, count in (("train", 2300), ("t10k", 50)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = generator.integers(0, 10, count, dtype=np.uint8)
        images[:, 0, 0] = labels
        written[kind] = images, labels
        header = [(8 << 8 | dims).to_bytes(4, "big") + count.to_bytes(4, "big") for dims in (3, 1)]
        files = {
            f"{kind}-images-idx3-ubyte": header[0] + (28).to_bytes(4, "big") * 2 + images.tobytes(),
            f"{kind}-labels-idx1-ubyte": header[1] + labels.tobytes(),
        }
        for name, content in files.items():
            path = tmp_path / (f"{name}.gz" if packed else name)
            path.write_bytes(gzip.compress(content, 1) if packed else content)
    data = digits_overfitting.load(tmp_path, 200, seed=0)
    images, labels = written["t10k"]
    assert (data.test[0][:, 0].numpy() * 255).round().tolist() == images.tolist()
    assert data.test[1].tolist() == labels.tolist()
    assert [len(part[0]) for part in data[:2]] == [200, 2000]
    assert (data.train[0][:, 0, 0, 0] * 255).round().tolist() == data.train[1].tolist()  # each image with its label
