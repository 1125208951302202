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
REFERENCE = re.compile(r"Parameters (?:and errors )?(?:as in|as of) `([\w.]+)`")
RAISE_NOTHING = [fastdrop.accelerated, fastdrop.explain, fastdrop.install, fastdrop.is_installed, fastdrop.uninstall]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


pytestmark = pytest.mark.usefixtures("uninstalled")  # whatever an example installs is not to be there in the next test


def names() -> dict[str, object]:
    return {"fastdrop": fastdrop, "torch": torch, "x": torch.ones(2, 4), "step": 3}


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


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/variants.md",
        "docs/mask-stream.md",
        "docs/monte-carlo.md",
        "docs/replacing-dropout.md",
        "docs/run.md",
    ],
)
def test_examples_in_pages(page):
    text = (ROOT / page).read_text()
    test = doctest.DocTestParser().get_doctest(text, names(), page, page, 0)
    assert test.examples, f"{page} has no example"
    assert run(test).failed == 0
