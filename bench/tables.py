"""How all commands show their results: tables, numbers of elements, dtypes, and a console that is wide enough."""

from collections.abc import Iterable, Sequence
from typing import Final

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDTH: Final = 100  # columns, where there is no terminal to ask


def console() -> Console:
    """Return the console on stdout."""
    made = Console(highlight=False)
    if not made.is_terminal:
        made.width = WIDTH
    return made


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


def short(size: int) -> str:
    """Return a number of elements in binary thousands where it is whole: 64M, 1K, 100003."""
    for unit, letter in ((1 << 20, "M"), (1 << 10, "K")):
        if size and size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype's name without its package."""
    return str(dtype).removeprefix("torch.")
