"""Inductor compiles all operators of ours also where it is to take none that it does not know."""

import pytest
import torch
from exact import SEED, P
from graphs import MARKS, NO_COMPILER, compiled, leaf, seeded
from oracle import assert_same_bits
from processes import run_python

from fastdrop.functional import drop_block2d, dropout, dropout_mask

pytestmark = [*MARKS, pytest.mark.skipif(NO_COMPILER, reason="Inductor needs a C++ compiler")]


@pytest.mark.usefixtures("installed")
def test_no_implicit_fallbacks():
    def run(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        blocks = drop_block2d(x, 0.3, 3, seed=SEED)
        installed = torch.nn.functional.dropout(x, P)
        return dropout(x, P) * blocks, installed, dropout_mask(x.shape, P, seed=SEED)

    x = leaf(torch.ones(2, 3, 6, 7))
    with torch._inductor.config.patch(implicit_fallbacks=False):
        results = seeded(compiled(run, "inductor"), x)
        got = torch.autograd.grad(results[0].sum() + results[1].sum(), x)
    for one, wanted in zip(results, seeded(run, x), strict=True):
        assert_same_bits(one.to(torch.float32), wanted.to(torch.float32))
    results = seeded(run, x)
    assert_same_bits(got[0], torch.autograd.grad(results[0].sum() + results[1].sum(), x)[0])


ALONE = """
import sys
import fastdrop
assert "torch._inductor.lowering" not in sys.modules, "imported for nothing"
import torch
from torch._inductor.lowering import fallback_handler, lowerings, register_lowering
operator = torch.ops.fastdrop.{name}.default
{before}
with torch._inductor.config.patch(implicit_fallbacks=False, fx_graph_cache=False):
    assert torch.compile(lambda x: {call}, fullgraph=True)(torch.ones(2, 3, 5, 5)).shape == (2, 3, 5, 5)
{after}
print("ok")
"""


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("dropout_mask", "fastdrop.dropout_mask(x.shape, 0.5, seed=3)"),
        ("drop_block_mask", "fastdrop.functional.drop_block2d(x, 0.5, 3, seed=3)"),
    ],
)
@pytest.mark.sampled(2)
def test_any_operator_may_be_the_first_and_inductor_is_imported_for_none(name, call):
    assert run_python(ALONE.format(name=name, call=call, before="", after="assert operator in lowerings")) == "ok"


def test_a_lowering_of_the_users_stays():
    mine = "register_lowering(operator, type_promotion_kind=None)(fallback_handler(operator))"
    code = ALONE.format(
        name="dropout",
        call="fastdrop.functional.dropout(x, 0.5)",
        before=f"{mine}\nregistered = lowerings[operator]",
        after="assert lowerings[operator] is registered",
    )
    assert run_python(code) == "ok"
