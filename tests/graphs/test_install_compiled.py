"""install() and torch.compile: code from before and after, and what torch keeps of it on disk."""

import pytest
import torch
from processes import run_python

import fastdrop

pytestmark = pytest.mark.usefixtures("uninstalled")

COMPILED = """
import torch
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch.nn import functional as F

graphs = []

def keep(graph, example_inputs):
    graphs.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
    return graph

FUNCTIONS = {
    "F.dropout": lambda x: F.dropout(x, 0.3) + F.dropout(x, 0.3),
    "in place": lambda x: F.dropout(x * 1, 0.3, inplace=True),
    "alpha": lambda x: F.alpha_dropout(x, 0.3, True),
    "2d": lambda x: F.dropout2d(x, 0.3),
    "native": lambda x: torch.native_dropout(x, 0.3, True)[0],
}

def compiled():
    torch._dynamo.reset()
    del graphs[:]
    backend = aot_autograd(fw_compiler=keep)
    functions = {name: torch.compile(f, backend=backend, fullgraph=True) for name, f in FUNCTIONS.items()}
    results = {name: run(functions, name) for name in FUNCTIONS}
    return functions, results, dict(zip(FUNCTIONS, map(list, graphs), strict=True))

def run(functions, name):
    torch.manual_seed(0)
    return functions[name](torch.ones(3, 4, 5, 6))

def same(results, others, names=FUNCTIONS):
    return all(torch.equal(results[name], others[name]) for name in names)

functions, native, graphs_of_native = compiled()
import fastdrop
fastdrop.install()
results = {name: run(functions, name) for name in FUNCTIONS}
assert len(graphs) == len(FUNCTIONS), "code from before is compiled again"
# These graphs call native_dropout, an operator that is ours now; a compiler that generates code would not call it.
calling = {name for name in FUNCTIONS if "aten.native_dropout.default" in graphs_of_native[name]}
assert calling == {"F.dropout", "native"}
assert same(results, native, FUNCTIONS.keys() - calling), "code from before the installation changed"
functions, ours, graphs_of_ours = compiled()
eager = {name: run(FUNCTIONS, name) for name in FUNCTIONS}
assert graphs_of_ours["F.dropout"].count("fastdrop.dropout.default") == 2
assert graphs_of_ours["in place"].count("fastdrop.dropout.default") == 1
assert same(ours, eager, ["F.dropout", "in place"])  # so the two masks of one graph differ too
assert not torch.equal(functions["F.dropout"](torch.ones(3, 4, 5, 6)), ours["F.dropout"])
fastdrop.uninstall()
assert same({name: run(functions, name) for name in ["in place"]}, ours, ["in place"]), "compiled code stays"
_, again, graphs_again = compiled()
assert graphs_again == graphs_of_native
assert same(again, native)
print("ok")
"""


def test_compiled_code():
    # In a process of its own, which begins as one that never had anything installed.
    assert run_python(COMPILED) == "ok"


CACHED = """
import torch
from torch._dynamo.utils import counters

def compiled():
    torch._dynamo.reset()
    counters.clear()
    # Random numbers left to torch spare a C++ compiler's time.
    function = torch.compile(lambda x: torch.nn.functional.dropout(x, 0.5), options={"fallback_random": True})
    y = function(torch.full((64,), float("inf")))
    assert bool((y == 0).any()) != bool(y.isnan().any())
    return "ours" if (y == 0).any() else "native", "cached" if counters["aot_autograd"]["autograd_cache_hit"] else "new"

"""


def test_compiled_code_that_torch_keeps_on_disk(tmp_path):
    def run(*code: str) -> str:
        return run_python(CACHED + "\n".join(code), TORCHINDUCTOR_CACHE_DIR=str(tmp_path))

    assert run("print(*compiled())") == "native new"
    install, uninstall = "import fastdrop; fastdrop.install()", "fastdrop.uninstall()"
    line = "print(*compiled())"
    answers = run(install, line, line, uninstall, line).split("\n")
    assert answers == ["ours new", "ours cached", "native cached"]


@pytest.mark.parametrize("tag", ["", "mine"])
def test_tag_of_torchs_cache_is_given_back(tag):
    config = torch.compiler.config
    with config.patch(cache_key_tag=tag):
        for _ in range(2):
            with fastdrop.accelerated():
                fastdrop.install()
                assert config.cache_key_tag.startswith(tag) and config.cache_key_tag != tag
            fastdrop.uninstall()
            assert config.cache_key_tag == tag
