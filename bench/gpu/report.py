"""Tables for people, in the manner of `fastdrop bench`, and the document for programs."""

import datetime
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from fastdrop.bench.contenders import P

FORMAT: Final = 1  # of the document, for those who read it
RESULTS: Final = pathlib.Path(__file__).parents[1] / "results"
WIDTH: Final = 100  # columns, where there is no terminal to ask


def grid(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1, caption: str = ""
) -> Table:
    """Return a table: what a row is about in the first columns, as many as `texts`, then figures."""
    shown = Table(
        title=f"\n{title}",
        caption=caption or None,
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    for number, heading in enumerate(headings):
        shown.add_column(heading, justify="left" if number < texts else "right", overflow="fold")
    for row in rows:
        shown.add_row(*(escape(cell) for cell in row))
    return shown


def failures(found: Iterable[tuple[str, str, str]]) -> list[Table]:
    """Return a table of what failed and why, if anything did, from (where, what, why); a reason is told once."""
    places: dict[tuple[str, str], list[str]] = {}
    for where, what, why in found:
        places.setdefault((what, why), []).append(where)
    rows = [
        (what, f"{first} and {len(others)} more" if others else first, why)
        for (what, why), (first, *others) in places.items()
    ]
    return [grid("could not run", ["", "where", "why"], rows, texts=3)] if rows else []


def document(system: Mapping[str, str], quick: bool) -> dict[str, Any]:
    """Return a document that nothing was measured for yet; times in it are seconds per call."""
    return {
        "format": FORMAT,
        "system": dict(system),
        "p": P,
        "quick": quick,
        "sections": {},
        "left_out": [],
        "targets": [],
    }


def default_path(gpu: str, suffix: str) -> pathlib.Path:
    """Return where results go: named for the GPU and the day."""
    slug = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    return RESULTS / f"gpu-{slug}-{datetime.date.today():%Y-%m-%d}{suffix}"
