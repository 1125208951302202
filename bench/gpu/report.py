"""What could not be measured, as a table, and the document for programs."""

import datetime
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.table import Table

from bench.command import FORMAT
from bench.tables import grid
from fastdrop.bench.providers import P

RESULTS: Final = pathlib.Path(__file__).parents[1] / "results"


def failures(found: Iterable[tuple[str, str, str]]) -> list[Table]:
    """Return a table of what failed and why, if anything did, from (where, what, why); a reason is listed once."""
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
