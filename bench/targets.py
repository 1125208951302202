"""What a measurement should reach, and whether it does."""

from collections.abc import Iterable
from typing import NamedTuple

from rich.table import Table

from bench.tables import grid


class Target(NamedTuple):
    """One target."""

    what: str
    found: str
    met: bool | None  # None: not all of it was measured, and what was measured meets it


def table(targets: Iterable[Target]) -> Table:
    """Return the targets as a table."""
    words = {True: "met", False: "MISSED", None: "open"}
    return grid("targets", ["", "", "found, at worst"], [(words[t.met], t.what, t.found) for t in targets], texts=3)
