"""What the site needs beyond plugins: links to files of the repository and to the API reference, and types.

Pages link to sources by relative paths (`../kernels/...`), as code hosts and editors follow them. The site has no address
of a code host to lead to, so it carries these files itself, as text.
"""

import pathlib
import re
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = ("bench/**/*.json", "bench/**/*.py", "examples/*.py", "fastdrop/**/*.py", "kernels/**/*.py", "tests/**/*.py")
SOURCES += ("tests/**/*.json",)
PAGES = ("CONTRIBUTING.md", "SECURITY.md")  # pages of the site too
# In code, the public names: `fastdrop.install()`, `functional.dropout`.
NAME = re.compile(r"<code>((?:fastdrop\.)?(functional\.\w+)|fastdrop\.(\w+))(\(\))?</code>")


def on_files(files: Files, config: Any) -> Files:
    """Add sources under the paths that pages know them by."""
    for path in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        add(files, config, name, f"source/{name}.txt")  # which browsers show; they offer to save a .py
    for name in PAGES:
        add(files, config, name, f"{name.removesuffix('.md').lower()}/index.html")
    return files


def add(files: Files, config: Any, name: str, dest_uri: str) -> None:
    """Add a file of the repository to the site."""
    file = File.generated(config, f"../{name}", abs_src_path=str(ROOT / name))
    file.dest_uri = dest_uri
    files.append(file)


def on_page_content(html: str, **_: Any) -> str:
    """Make names in code links to the reference, where they are in it."""
    return NAME.sub(r'<autoref identifier="fastdrop.\2\3" optional>\g<0></autoref>', html)


class OwnTypes(griffe.Extension):
    """Give each of several parameters on a line ("seed, offset, generator") its own type and default, not the first's."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Go through what is documented once all of it is known."""
        todo: list[Any] = [pkg]
        while todo:
            thing = todo.pop()
            todo += [member for member in thing.members.values() if not member.is_alias]
            if not thing.is_attribute and thing.docstring:
                correct(thing)


def correct(thing: griffe.Function | griffe.Class) -> None:
    """Take types and defaults of parameters that share a description from the signature."""
    for section in thing.docstring.parsed if thing.docstring else ():
        if section.kind is griffe.DocstringSectionKind.parameters:
            shared = [parameter.description for parameter in section.value]
            for parameter in section.value:
                if shared.count(parameter.description) > 1 and parameter.name in thing.parameters:
                    own = thing.parameters[parameter.name]
                    parameter.annotation, parameter.value = own.annotation, own.default
