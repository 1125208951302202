"""Every figure in the tables of the documentation is that of a file in bench/results, and losing ones are in bold."""

import functools
import json
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGE, README = ROOT / "docs" / "figures.md", ROOT / "README.md"
SPEED = {"zen4": "cpu-epyc-zen4-2-cores-float32.json", "zen3": "cpu-epyc-zen3-2-cores-float32.json"}
STEPS = {
    "Transformer encoder, 2 layers": "encoder",
    "Transformer, 2 + 2 layers": "transformer",
    "GPT-2, 2 layers": "gpt2",
    "LSTM, 2 layers": "lstm",
    "CNN": "cnn",
}


@functools.cache
def results(name: str) -> list[dict]:
    return json.loads((ROOT / "bench" / "results" / name).read_text())["results"]


def tables(path: pathlib.Path) -> Iterator[list[list[str]]]:
    """Yield each table's rows of cells, headings first."""
    for table in re.findall(r"(?:^\|.*\n)+", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
        yield [rows[0], *rows[2:]]


def table(path: pathlib.Path, heading: str, number: int = 0) -> list[list[str]]:
    """Return the rows below a table's headings, of those tables that have this heading."""
    return [rows[1:] for rows in tables(path) if heading in rows[0]][number]


def assert_is(cell: str, value: float, losing: bool | None = None) -> None:
    """Check that a cell is a value, rounded to the digits that it has; and bold if that is losing."""
    text = cell.strip("*").removesuffix(" x")
    unit = 10.0 ** -len(text.partition(".")[2])
    assert abs(float(text) - value) <= 0.501 * unit, f"{cell} is {value:.4g}"
    if losing is not None:
        assert cell.startswith("**") == losing, f"{cell}: what is slower than native is in bold, nothing else"


@pytest.mark.parametrize("machine", SPEED)
def test_dropout(machine):
    rows = table(PAGE, "elements", list(SPEED).index(machine))
    measured = [result for result in results(SPEED[machine]) if result["threads"] == 1]
    assert [int(row[0].replace(",", "")) for row in rows] == [result["size"] for result in measured]
    for (_, forward, both, warm, fresh), result in zip(rows, measured, strict=True):
        for cell, passes in ((forward, "forward"), (both, "forward_backward")):
            faster = result[passes]["ratios"]["native / fastdrop"]
            assert_is(cell, faster, losing=faster < 1)
        assert_is(warm, result["forward"]["ratios"]["fastdrop_into / copy"])
        assert_is(fresh, result["forward"]["ratios"]["fastdrop / clone"])


def of_variants(name: str) -> list[float]:
    """Return how many times faster than its baseline a variant is at each size, and in the end than a clone."""
    timings = [
        {who: timing["seconds"] for who, timing in result["timings"].items()}
        for result in results("variants-epyc-zen4-2-cores.json")
        if result["name"] == name
    ]
    faster = [timing["baseline"] / timing["fastdrop"] for timing in timings]
    return [*faster, timings[-1]["clone"] / timings[-1]["fastdrop"]]


def test_variants():
    rows = table(PAGE, "variant")
    assert len(rows) == len({result["name"] for result in results("variants-epyc-zen4-2-cores.json")})
    for name, _, *cells in rows:
        *faster, than_clone = of_variants(name.replace("`", ""))
        for cell, value in zip(cells[:-1], faster, strict=True):
            assert_is(cell, value, losing=value < 0.995)
        assert_is(cells[-1], than_clone)


def test_steps():
    rows, model = table(PAGE, "model"), ""
    assert len(rows) == 2 * len(STEPS)
    for name, mode, *cells in rows:
        model = STEPS[name] if name else model
        (timings,) = (
            result["timings"]
            for result in results("steps-epyc-zen4-2-cores.json")
            if (result["name"], result["mode"]) == (model, mode)
        )
        native, installed, without = (timings[who]["seconds"] for who in ("native", "installed", "p = 0"))
        for cell, value in zip(cells[:3], (native, installed, without), strict=True):
            assert_is(cell, 1000 * value)
        assert_is(cells[3], native / installed, losing=native < 0.995 * installed)
        assert_is(cells[4], installed / without)


def test_the_readmes():
    headings, *rows = next(rows for rows in tables(README) if "64 elements" in rows[0])
    assert headings[1:] == ["64 elements", "4,096", "65,536", "1M", "16M"]
    (name, *dropout), *variants = rows
    assert name == "`dropout`, p = 0.5"
    measured = [result for result in results(SPEED["zen4"]) if result["threads"] == 1]
    for cell, result in zip(dropout, measured, strict=True):
        faster = result["forward_backward"]["ratios"]["native / fastdrop"]
        assert_is(cell, faster, losing=faster < 1)
    for label, none, *cells in variants:
        assert not none
        for cell, value in zip(cells, of_variants(label.split("`")[1])[:-1], strict=True):
            assert_is(cell, value, losing=value < 0.995)


def test_the_picture_is_drawn_from_the_same_files(monkeypatch, tmp_path):
    from PIL import Image  # of matplotlib

    from bench import plot

    monkeypatch.setattr(plot, "PICTURE", tmp_path / "speed.png")
    plot.main()
    assert {machine.file for machine in plot.MACHINES} == set(SPEED.values())
    for path in (plot.PICTURE, ROOT / "docs" / "images" / "speed.png"):
        assert path.stat().st_size < 60_000
        with Image.open(path) as image:
            assert image.width >= 1000
            assert image.convert("RGBA").getextrema()[3] == (255, 255), "black letters on a dark page"
