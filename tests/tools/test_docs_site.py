"""The documentation as a whole: links lead somewhere, all pages can be found, and the reference is complete."""

import operator
import pathlib
import re
import types

import pytest

import fastdrop
from fastdrop import functional, modules

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [*sorted(ROOT.glob("*.md")), *PAGES]
LINK = re.compile(r"\]\(([^)\s]+)\)")
README_LINES = 130


def shown(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: pathlib.Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(path: pathlib.Path) -> set[str]:
    """Return what links to a page's headings end in, as code hosts and the site make it."""
    headings = re.findall(r"^#+ (.+)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS, ids=shown)
def test_links_lead_to_files_and_headings(page):
    for link in LINK.findall(re.sub(r"`[^`]*`", "", prose(page))):  # code is full of brackets
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{link}: there is no such file"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_the_navigation_has_every_page_once():
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (navigation,) = re.findall(r"^nav:\n((?:[ -].*\n)+)", config, flags=re.MULTILINE)
    listed = [name for name in re.findall(r"[\w./-]+\.md", navigation) if not name.startswith("../")]
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def references() -> list[str]:
    """Return the names that pages of the reference describe."""
    return re.findall(r"^::: (\S+)$", "".join(page.read_text() for page in DOCS.glob("api/*.md")), re.MULTILINE)


def test_the_reference_has_every_public_name_once():
    described = [operator.attrgetter(path.removeprefix("fastdrop."))(fastdrop) for path in references()]
    public = {
        thing
        for place in (fastdrop, functional, modules)
        for name in place.__all__
        if callable(thing := getattr(place, name))
    }
    described.remove(fastdrop.LockedDropout)  # which VariationalDropout is called too: both names are there
    assert len(described) == len(set(described))
    assert set(described) == public


def test_the_reference_names_what_it_lists():
    index = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    for path in references():
        name = path.removeprefix("fastdrop.") if ".functional." in path else path
        assert f"`{name}`" in index, path


def test_what_is_no_function_or_class_is_named_too():
    index = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    others = [name for name in fastdrop.__all__ if not callable(getattr(fastdrop, name))]
    assert all(isinstance(getattr(fastdrop, name), str | types.ModuleType) for name in others)
    assert all(f"`fastdrop.{name}`" in index for name in others)
