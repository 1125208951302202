"""Which room may import which: data goes one way, and no two files import each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastdrop
import fastdrop_kernels

PACKAGES = (Path(fastdrop.__file__).parent, Path(fastdrop_kernels.__file__).parent)
BELOW = {  # room -> the rooms that it may import
    "fastdrop.cli": "fastdrop fastdrop.bench fastdrop._ops fastdrop._devices "
    "fastdrop_kernels fastdrop_kernels.cpu fastdrop_kernels.cuda",
    "fastdrop.bench": "fastdrop fastdrop.functional fastdrop._devices",
    "fastdrop": "fastdrop.cli fastdrop.functional fastdrop.modules fastdrop._patch fastdrop._monte_carlo "
    "fastdrop._ops fastdrop._keys fastdrop._devices",
    "fastdrop._monte_carlo": "fastdrop._patch fastdrop._keys",
    "fastdrop._patch": "fastdrop fastdrop.modules fastdrop._ops fastdrop._keys fastdrop._devices fastdrop_kernels",
    "fastdrop.modules": "fastdrop.functional fastdrop._ops fastdrop._keys",
    "fastdrop.functional": "fastdrop._ops fastdrop._keys",
    "fastdrop._ops": "fastdrop._devices fastdrop._keys fastdrop_kernels fastdrop_kernels.cpu fastdrop_kernels.formulas",
    "fastdrop._devices": "fastdrop._keys fastdrop_kernels fastdrop_kernels.cpu fastdrop_kernels.cuda",
    "fastdrop._keys": "fastdrop_kernels",
    "fastdrop_kernels.cpu": "fastdrop_kernels fastdrop_kernels.formulas",
    "fastdrop_kernels.cuda": "fastdrop_kernels fastdrop_kernels.formulas",
    "fastdrop_kernels.formulas": "fastdrop_kernels",
    "fastdrop_kernels": "fastdrop_kernels.formulas",
}
OF_THE_PACKAGE = {"fastdrop._version", "fastdrop._warmup", "fastdrop.warmup"}  # files in fastdrop/ itself


def files() -> Iterator[tuple[str, Path]]:
    """Yield each module's name and file."""
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            name = ".".join([package.name, *path.relative_to(package).with_suffix("").parts])
            yield name.removesuffix(".__init__"), path


MODULES = dict(files())


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found.update(submodules or {str(node.module)})
    return found


def room_of(module: str) -> str:
    """Return the folder that a module is in, a folder in that one counted with it."""
    first, *rest = module.split(".")
    room = ".".join([first, *rest[:1]])
    return room if room in BELOW and module not in OF_THE_PACKAGE else first


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_those_below_it(module):
    room, allowed = room_of(module), {room_of(module), *BELOW[room_of(module)].split()}
    ours = {each for each in imported(MODULES[module]) if each.split(".")[0] in ("fastdrop", "fastdrop_kernels")}
    assert {each for each in ours if room_of(each) not in allowed} == set(), room


def test_no_files_import_each_other():
    imports = {module: imported(path) & set(MODULES) - {module} for module, path in MODULES.items()}
    left = dict(imports)
    while free := [module for module, needs in left.items() if not needs & set(left)]:
        for module in free:
            del left[module]
    assert left == {}


def test_kernels_import_no_torch():
    kernels = [path for module, path in MODULES.items() if module.startswith("fastdrop_kernels")]
    assert [path for path in kernels if {each.split(".")[0] for each in imported(path)} & {"torch", "fastdrop"}] == []


def test_the_package_itself_holds_little():
    assert len([path for path in PACKAGES[0].iterdir() if path.name != "__pycache__"]) <= 14


QUESTIONS = {  # by which torch is asked who watches, traces, transforms or exports
    "_are_functorch_transforms_active",
    "_current_level",
    "_disable_current_modes",
    "_dispatch_tls_is_dispatch_key_included",
    "_get_dispatch_mode",
    "_get_tracing_state",
    "_is_functional_tensor",
    "_is_zerotensor",
    "_len_torch_dispatch_stack",
    "is_compiling",
    "is_dynamo_compiling",
    "is_exporting",
    "is_legacy_batchedtensor",
    "is_tracing",
}


def test_one_file_asks_torch_about_modes():
    def asks(path: Path) -> bool:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("torch"):
                if QUESTIONS & {alias.name for alias in node.names}:
                    return True
            elif isinstance(node, ast.Attribute) and node.attr in QUESTIONS and ast.unparse(node.value) != "modes":
                return True
        return False

    assert {module for module, path in MODULES.items() if asks(path)} == {"fastdrop._ops.modes"}


def test_no_test_imports_another():
    tests = {path.stem: imported(path) for path in Path(__file__).parents[1].rglob("test_*.py")}
    assert {name: found & set(tests) for name, found in tests.items() if found & set(tests)} == {}
