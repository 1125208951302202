"""How the PTX interpreter reads a module, and that it names what it does not know."""

import pytest
from ptx import Kernel
from ptx.snippets import module, run, words


def test_the_text_of_a_module():
    """Comments, directives, scopes that declare a name again, labels before code, and the choice of a kernel."""
    inner = "{ .reg .u32 r4; mov.u32 r4, 5; { .reg .u32 r4; mov.u32 r4, 6; } add.u32 r7, r4, 1; }"
    text = f"""
        // mov.u32 r4, 1;
        .pragma "nounroll";
        .loc 1 23 4
        mov.u32 r4, /* not
        2 */ 3; {inner} {inner}
        bra L; add.u32 r4, r4, 100;
    L:  $M_1: add.u32 r4, r4, r7;
    """
    assert words(text) == [9] * 32
    two = module("ret;", head=".maxntid 32, 1, 1 .minnctapersm 2") + module("trap;", ".u64 x").replace(
        "kernel(", "other$1("
    )
    assert Kernel(two).name == Kernel(two, "kernel").name == "kernel"
    with pytest.raises(NotImplementedError, match="trap"):
        Kernel(two, "other$1")
    with pytest.raises(ValueError, match="no kernel third"):
        Kernel(two, "third")
    with pytest.raises(ValueError, match="cannot read"):
        Kernel(two[: two.index("ret;")])


UNKNOWN = """
bar.sync 0
atom.global.add.u32 r1, [w0], 1
ld.shared.u32 r1, [w0]
ld.volatile.global.u32 r1, [w0]
ld.u32 r1, [w0]
ld.global.u32 r1, [w0+w1]
st.local.u32 [w0], r1
add.sat.s32 r1, r2, r3
add.cc.u32 r1, r2, r3
add.rz.f32 r1, r2, r3
add.f16x2 r1, r2, r3
mul.f32x2 w1, w2, w3
fma.rn.bf16 h1, h2, h3, h0
mad.hi.sat.s32 r1, r2, r3, r4
mul24.lo.u32 r1, r2, r3
min.NaN.f32 r1, r2, r3
div.approx.f64 w1, w2, w3
cvt.sat.u8.s32 h1, r1
cvt.rz.f32.f64 r1, w1
cvt.rn.relu.f16x2.f32 r1, r2, r3
prmt.b32.f4e r1, r2, r3, r4
lop3.or.b32 r1|p, r2, r3, r4, 1, q
shfl.bfly.b32 r1, r2, 1, 31
setp.eq.and.f16x2 p|q, r1, r2, t
selp.b32 r1, r2, r3, !p
mov.u64 w1, %clock64
mov.u64 w1, symbol
mov.f32 r1, 1.5
brx.idx r1, L
call.uni foo, (r1)
@!nothing ret
.shared .align 4 .b8 s[4]
.param .b64 x
trap
"""


@pytest.mark.parametrize("code", UNKNOWN.strip().splitlines())
def test_what_is_unknown_is_named(code):
    with pytest.raises(NotImplementedError) as caught:
        run(f"{code};")
    assert code in str(caught.value)


@pytest.mark.parametrize("parameters", [[".align 8 .b8 x[16]"], [".u64 x", ".b8 y[4]"], ["u32 x"]])
def test_parameters_that_are_unknown(parameters):
    with pytest.raises(NotImplementedError, match=parameters[-1].replace("[", r"\[")):
        Kernel(module("", *parameters))
