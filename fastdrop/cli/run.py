"""`fastdrop run`: a program as Python runs it, with its dropout computed by fastdrop."""

import argparse
import atexit
import builtins
import importlib.machinery
import io
import os
import pkgutil
import runpy
import sys
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, Final

import fastdrop

USAGE: Final = "fastdrop run [-h] [--summary] (SCRIPT | -m MODULE) [ARGS ...]"
DESCRIPTION: Final = """\
Run a program as `python SCRIPT ARGS` or `python -m MODULE ARGS` does, after fastdrop.install().

  -h, --help  show this help message and exit
  --summary   when the program ends, even with an exception, print to stderr a table of its
              dropout calls: what computed them, and why

SCRIPT is a file, or a folder or zip file with a __main__.py. All arguments after SCRIPT or
MODULE are passed to the program. New Python processes that it starts ("spawn", subprocess) run
without fastdrop. docs/run.md explains the table and lists the limits."""


def add_to(commands: Any) -> None:
    """Add the command to the others."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run",
        help="run a program with its dropout computed by fastdrop",
        usage=USAGE,
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        prefix_chars="\0",  # no word is an option to argparse, which would take some of the program's
    )
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(run=lambda arguments: run(arguments.words, parser))


def run(words: list[str], parser: argparse.ArgumentParser) -> int:
    """Run the program that the words name; its exit code and its exception are this call's."""
    summary = False
    while words and words[0].startswith("-") and words[0] not in ("-m", "--"):
        option, *words = words
        if option in ("-h", "--help"):
            parser.print_help()
            return 0
        if option != "--summary":
            parser.error(f"expected --summary, -m or a script, but got {option}")
        summary = True
    if words[:1] == ["--"]:
        del words[0]
    is_module = words[:1] == ["-m"]
    if not words[is_module:]:
        parser.error("expected a module's name after -m" if is_module else "expected a script, or -m and a module")
    name, *arguments = words[is_module:]
    program = _module(name) if is_module else _script(name, parser)
    sys.argv[:] = ["-m" if is_module else name, *arguments]  # until it is found, a module has no file to stand there
    if summary:
        _print_at_exit(name)
    fastdrop.install()
    return _run_as_python(program)


def _run_as_python(program: Callable[[], object]) -> int:
    """Run a program; a traceback that Python prints in the end begins in the program."""
    try:
        program()
    except SystemExit:
        raise
    except BaseException as error:
        hook, traceback = sys.excepthook, _of_program(error.__traceback__)
        sys.excepthook = lambda kind, value, _: hook(kind, value.with_traceback(traceback), traceback)
        raise
    return 0


def _of_program(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback without this file's frames, in which it begins."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    return traceback


def _module(name: str) -> Callable[[], object]:
    """Return what runs a module."""
    _put_first_on_path(os.getcwd())
    return lambda: _run_module_as_main(name)


def _script(name: str, parser: argparse.ArgumentParser) -> Callable[[], object]:
    """Return what runs a file, or what a folder or a zip file has as `__main__`."""
    path = os.path.join(os.getcwd(), name)
    if pkgutil.get_importer(path) is not None:
        _put_first_on_path(path, always=True)
        return lambda: _run_module_as_main("__main__", False)
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as fault:
        parser.exit(2, f"{parser.prog}: can't open file {path!r}: {fault.strerror}\n")
    _put_first_on_path(os.path.dirname(os.path.realpath(path)))
    return lambda: _run_source(source, path)


def _put_first_on_path(folder: str, always: bool = False) -> None:
    """Put a folder where Python puts the program's: in place of that of the `fastdrop` command."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = folder
    elif always:
        sys.path.insert(0, folder)


def _run_module_as_main(name: str, alter_argv: bool = True) -> None:
    sys.modules["__main__"] = ModuleType("__main__")
    as_python_does: Any = runpy
    as_python_does._run_module_as_main(name, alter_argv)  # what `python -m` itself calls


def _run_source(source: bytes, path: str) -> None:
    code = compile(source, path, "exec", dont_inherit=True)
    sys.modules["__main__"] = module = ModuleType("__main__")
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    vars(module).update(__file__=path, __cached__=None, __loader__=loader, __builtins__=builtins)
    exec(code, vars(module))


def _print_at_exit(name: str) -> None:
    """Have all dropout calls counted from now on, and a table printed when Python ends."""
    block, process = fastdrop.explain(), os.getpid()
    report = block.__enter__()

    def show() -> None:
        block.__exit__(None, None, None)
        if os.getpid() == process:  # a child that the program forked has this to do too
            rank = os.environ.get("RANK")  # torchrun's
            print(f"\nfastdrop: dropout calls of {name}" + (f", rank {rank}" if rank else ""), file=sys.stderr)
            print(report, file=sys.stderr)

    atexit.register(show)
