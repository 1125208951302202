"""What the documentation shows is what happens."""

import doctest
import inspect
import operator
import pathlib
import re

import pytest
import torch

import fastdrop
from fastdrop import functional, modules

ROOT = pathlib.Path(__file__).parents[2]
PUBLIC = sorted(
    {
        thing
        for place in (fastdrop, functional, modules)
        for name in place.__all__
        if callable(thing := getattr(place, name))
    },
    key=lambda thing: (thing.__module__, thing.__name__),
)
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if ">>> " in page.read_text()]
REFERENCE = re.compile(r"Parameters (?:and errors )?(?:as in|as of) `([\w.]+)`")
RAISE_NOTHING = [fastdrop.accelerated, fastdrop.explain, fastdrop.install, fastdrop.is_installed, fastdrop.uninstall]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


pytestmark = pytest.mark.usefixtures("uninstalled")  # whatever an example installs is not to be there in the next test


def names() -> dict[str, object]:
    return {"fastdrop": fastdrop, "torch": torch, "nn": torch.nn, "x": torch.ones(2, 4), "step": 3}


def run(test: doctest.DocTest) -> doctest.TestResults:
    return doctest.DocTestRunner(optionflags=OPTIONS).run(test)


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_examples_in_docstrings(thing):
    (test,) = doctest.DocTestFinder(recurse=False).find(thing, thing.__name__, globs=names())
    assert test.examples, f"{thing.__name__} has no example"
    assert run(test).failed == 0


def documentation(thing: object) -> str:
    """Return a docstring, and the one that it refers to for its parameters."""
    text = thing.__doc__ or ""
    reference = REFERENCE.search(text)
    return text + documentation(operator.attrgetter(reference[1])(fastdrop)) if reference else text


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_docstrings_say_what_a_user_needs(thing):
    text = documentation(thing)
    sections = ["Parameters"] if inspect.signature(thing).parameters else []
    sections += [] if thing in RAISE_NOTHING else ["Raises"]
    for section in [*sections, "Examples"]:
        assert f"{section}\n" in text, section


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_in_pages(page):
    test = doctest.DocTestParser().get_doctest(page.read_text(encoding="utf-8"), names(), page.name, str(page), 0)
    assert test.examples
    assert run(test).failed == 0


def test_pages_with_examples_are_found():
    assert {"README.md", "quick-start.md", "reproducibility.md"} <= {page.name for page in PAGES}
