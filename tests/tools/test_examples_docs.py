"""The pages on the examples: all examples are there with their pictures, and what is quoted is listed."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGE, WHICH = (ROOT / "docs" / name for name in ("examples.md", "which-dropout.md"))
SCRIPTS = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem != "common")


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_example_is_shown_with_its_picture(script):
    from PIL import Image  # of matplotlib

    text = PAGE.read_text(encoding="utf-8")
    assert f"`{script}.py`" in text
    assert re.search(rf"!\[.{{20,}}\]\(images/{script}\.png\)", text), "no picture, or no words for who cannot see it"
    path = ROOT / "docs" / "images" / f"{script}.png"
    assert path.stat().st_size <= 100_000
    with Image.open(path) as image:
        image.load()
        assert image.width >= 1000
        assert image.convert("RGBA").getextrema()[3] == (255, 255), "black letters on a dark page"


def test_no_picture_is_left_that_nothing_shows():
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    assert all(f"images/{path.name}" in pages for path in (ROOT / "docs" / "images").iterdir())


def test_sources_are_listed_and_quoted():
    text, sources = WHICH.read_text(encoding="utf-8").split("## Sources")
    listed = [int(number) for number in re.findall(r"^(\d+)\. ", sources, flags=re.MULTILINE)]
    assert listed == list(range(1, len(listed) + 1))
    assert {int(number) for number in re.findall(r"\[(\d+)\]", text)} == set(listed)
    entries = re.split(r"^\d+\. ", sources, flags=re.MULTILINE)[1:]
    assert all(re.search(r"\b(19|20)\d\d\b", entry) and "](https://" in entry for entry in entries)
