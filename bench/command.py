"""What the commands share: their arguments, progress, and the JSON document that they write."""

import argparse
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.progress import track

from bench import targets
from bench.targets import Target
from fastdrop.bench import system
from fastdrop.bench.report import write
from fastdrop.bench.timing import Timing

FORMAT: Final = 2  # of the documents, for those who read them

T = TypeVar("T")


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of `python -m bench.NAME`, with the options that all commands have."""
    made = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=description)
    made.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the results there too")
    made.add_argument("--quick", action="store_true", help="a rough answer")
    return made


def show_system(console: Console) -> dict[str, str]:
    """Print and return the CPU, the threads and the versions that figures depend on."""
    about = system.describe()
    console.print("\n".join(f"{name}: {value}" for name, value in about.items()), markup=False)
    return about


def progress(items: Sequence[T], console: Console) -> Iterable[T]:
    """Yield what is to be measured, with a progress bar on a terminal."""
    # Its own refreshing would be a thread that runs beside what is measured.
    hidden = not console.is_terminal
    return track(items, "measuring", console=console, transient=True, auto_refresh=False, disable=hidden)


def plain(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Return named tuples that have `timings` as dicts."""
    return [{**row._asdict(), "timings": plain_timings(row.timings)} for row in rows]


def plain_timings(timings: Mapping[str, Timing]) -> dict[str, Any]:
    """Return timings as dicts."""
    return {name: timing._asdict() for name, timing in timings.items()}


def finish(
    console: Console,
    path: pathlib.Path | None,
    about: Mapping[str, str],
    settings: Mapping[str, Any],
    results: Any,
    found: Sequence[Target],
) -> None:
    """Print the targets, and write everything as JSON where a path is given; times in it are seconds."""
    console.print(targets.table(found))
    if path is not None:
        document = {"format": FORMAT, "system": about, **settings, "results": results}
        save({**document, "targets": [target._asdict() for target in found]}, path, console)


def save(document: Mapping[str, Any], path: pathlib.Path, console: Console) -> None:
    """Write a document as JSON, and say so."""
    write(document, path)
    console.print(f"written: {path}", markup=False, soft_wrap=True)
