"""What the site needs beyond plugins: links to files of the repository and to the API reference, and types.

Pages link to sources by relative paths (`../kernels/...`), as code hosts and editors follow them. The site has no code
host's address to lead to, so it carries these files itself, as text.
"""

import pathlib
import re
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = [f"{folder}/**/*.py" for folder in ("bench", "examples", "fastdrop", "kernels", "tests")]
SOURCES += ["bench/results/*.json", "tests/support/*.json"]
PAGES = ("CONTRIBUTING.md", "SECURITY.md")  # pages of the site too
# In code, the public names: `fastdrop.install()`, `functional.dropout`.
NAME = re.compile(r"<code>((?:fastdrop\.)?(functional\.\w+)|fastdrop\.(\w+))(\(\))?</code>")


def on_files(files: Files, config: Any) -> Files:
    """Add files of the repository under the paths that pages know them by."""
    sources = {path.relative_to(ROOT) for pattern in SOURCES for path in ROOT.glob(pattern)}
    for path in sources:
        add(files, config, path, f"source/{path}.txt", abs_src_path=str(ROOT / path))  # a .py, browsers offer to save
    folders = {folder for path in sources for folder in path.parents[:-1]}
    for folder in folders:
        inside = [f"{path.name}/" for path in sorted(folders) if path.parent == folder]
        inside += [f"{path.name}.txt" for path in sorted(sources) if path.parent == folder]
        links = [f'<a href="{name}">{name.removesuffix(".txt")}</a>' for name in inside]
        add(files, config, folder, f"source/{folder}/index.html", content="<br>\n".join(links))
    for name in PAGES:
        add(files, config, name, f"{name.removesuffix('.md').lower()}/index.html", abs_src_path=str(ROOT / name))
    return files


def add(files: Files, config: Any, name: str | pathlib.PurePath, dest_uri: str, **content: Any) -> None:
    """Add a file of the repository, to be at an address of the site."""
    file = File.generated(config, f"../{name}", **content)
    file.dest_uri = dest_uri
    files.append(file)


def on_page_content(html: str, **_: Any) -> str:
    """Make names in code links to the reference, where they are in it."""
    return NAME.sub(r'<autoref identifier="fastdrop.\2\3" optional>\g<0></autoref>', html)


class AsInPython(griffe.Extension):
    """What griffe sees otherwise than Python does.

    Parameters that share a description (`seed, offset`) get their own types, where griffe gives all the first one's. A
    function that a package imports from a module of the same name hides the module, where griffe lets the module win.
    """

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Go through all that has a docstring."""
        todo: list[Any] = [pkg]
        while todo:
            thing = todo.pop()
            todo += [member for member in thing.members.values() if not member.is_alias]
            for name in thing.imports if thing.is_module else ():
                module = thing.members.get(name)
                if module is not None and not module.is_alias and module.is_module and name in module.members:
                    thing.members[name] = griffe.Alias(name, module.members[name], parent=thing)
            if (thing.is_function or thing.is_class) and thing.docstring:
                correct(thing)


def correct(thing: griffe.Function | griffe.Class) -> None:
    """Take types and defaults of parameters that share a description from the signature."""
    for section in thing.docstring.parsed if thing.docstring else ():
        if section.kind is griffe.DocstringSectionKind.parameters:
            descriptions = [parameter.description for parameter in section.value]
            for parameter in section.value:
                if descriptions.count(parameter.description) > 1 and parameter.name in thing.parameters:
                    own = thing.parameters[parameter.name]
                    parameter.annotation, parameter.value = own.annotation, own.default
