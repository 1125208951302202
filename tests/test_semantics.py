"""Side by side with torch's own dropout: what is accepted, what comes back, which error with which text."""

import copy
import io
import pickle
import threading
import warnings

import numpy as np
import oracle
import pytest
import torch
from oracle import FLOATS, assert_same_bits, error_of
from processes import run_python
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import fastdrop
from fastdrop.functional import dropout

native = torch.nn.functional.dropout
BOTH = pytest.mark.parametrize("training", [True, False])
NAN, INF = float("nan"), float("inf")


# p


BAD_P = [-0.1, 1.1, 2, NAN, -INF, "a", None, [0.5], 1j, torch.tensor([0.1, 0.2]), torch.tensor(1.5), torch.tensor(NAN)]


@BOTH
@pytest.mark.parametrize("p", BAD_P, ids=str)
def test_bad_p(p, training):
    wanted = error_of(lambda: native(torch.ones(4), p, training))
    assert wanted is not None
    assert error_of(lambda: dropout(torch.ones(4), p, training)) == wanted
    assert error_of(lambda: dropout(torch.ones(0), p, training)) == wanted
    assert error_of(lambda: dropout(torch.ones(4), p, training, inplace=True, seed=0)) == wanted


@pytest.mark.parametrize("p", [*BAD_P, 0, 1, True, False, 0.5, torch.tensor(0.5)], ids=str)
def test_module_checks_p_when_it_is_made(p):
    wanted = error_of(lambda: torch.nn.Dropout(p))
    assert error_of(lambda: fastdrop.Dropout(p)) == wanted
    if wanted is None:
        assert fastdrop.Dropout(p).p is p
        wanted = error_of(lambda: torch.nn.Dropout(p)(torch.ones(4)))
        assert error_of(lambda: fastdrop.Dropout(p)(torch.ones(4))) == wanted
        wanted = error_of(lambda: torch.nn.Dropout(p).eval()(torch.ones(4)))
        assert error_of(lambda: fastdrop.Dropout(p).eval()(torch.ones(4))) == wanted


@BOTH
@pytest.mark.parametrize("p", [True, False, 0, 1, -0.0, torch.tensor(0.0), torch.tensor(1)], ids=repr)
def test_p_of_0_and_1_in_any_type(p, training):
    x = torch.tensor([1.0, 2.0, 3.0])
    y, wanted = dropout(x, p, training), native(x, p, training)
    assert (y is x) == (wanted is x)
    assert_same_bits(y, wanted)


@pytest.mark.parametrize("p", [torch.tensor(0.5), torch.tensor(0.5, dtype=torch.float64), np.float32(0.5)], ids=repr)
def test_other_types_of_p(p):
    x = torch.ones(2000)
    assert set(native(x, p).tolist()) == {0.0, 2.0}  # accepted there
    assert_same_bits(dropout(x, p, seed=4), oracle.dropout(x, 0.5, 4))


# The same object, and p = 1


def call_functional(x, p, training, inplace):
    return dropout(x, p, training, inplace)


def call_module(x, p, training, inplace):
    return fastdrop.Dropout(p, inplace).train(training)(x)


CALLS = pytest.mark.parametrize("call", [call_functional, call_module])


@CALLS
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize(
    ("shape", "p", "training"),
    [
        ((5,), 0.5, False),
        ((5,), 1.0, False),
        ((5,), 0.0, True),
        ((), 0.0, True),
        ((0,), 0.5, True),
        ((3, 0), 1.0, True),
    ],
)
def test_same_object(shape, p, training, dtype, inplace, call):
    x = torch.ones(shape, dtype=dtype)
    assert native(x, p, training, inplace) is x
    assert call(x, p, training, inplace) is x
    assert x._version == 0
    assert torch.equal(x, torch.ones(shape, dtype=dtype))


@CALLS
def test_same_object_for_a_leaf_in_place(call):
    leaf = torch.ones(5, requires_grad=True)
    for p, training in [(0.5, False), (0.0, True)]:
        assert call(leaf, p, training, True) is leaf


@CALLS
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", FLOATS)
def test_p_of_1_gives_positive_zeros(dtype, inplace, call):
    x = torch.tensor([NAN, INF, -INF, -0.0, -1.0, 1.0, torch.finfo(dtype).tiny], dtype=dtype).repeat(300)
    y = call(x, 1.0, True, inplace)
    assert (y is x) == inplace
    assert y.shape == (2100,) and y.dtype is dtype
    assert not y.any() and not y.signbit().any()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [NAN, INF, -INF, -1.0, -0.0], ids=str)
def test_special_values(value, dtype):
    x = torch.full((3000,), value, dtype=dtype)
    assert_same_bits(dropout(x, 0.4, seed=8), oracle.dropout(x, 0.4, 8))


def test_gradient_at_p_of_1_is_positive_zero():
    x = torch.ones(9, requires_grad=True)
    dropout(x, 1.0).backward(torch.tensor([NAN, INF, -1.0] * 3))
    assert_same_bits(x.grad, torch.zeros(9))


# Other dtypes


OTHER_DTYPES = [
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32),
    *(torch.complex64, torch.complex128, torch.float8_e4m3fn),
]


@pytest.mark.parametrize("inplace", [False, True])
@BOTH
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dtype", OTHER_DTYPES)
def test_other_dtypes_as_native(dtype, p, training, inplace):
    ours, theirs = torch.ones(5).to(dtype), torch.ones(5).to(dtype)
    wanted = error_of(lambda: native(theirs, p, training, inplace))
    assert error_of(lambda: dropout(ours, p, training, inplace)) == wanted
    if wanted is None:
        y, wanted = dropout(ours, p, training, inplace), native(theirs, p, training, inplace)
        assert (y is ours) == (wanted is theirs)
        assert y.dtype is wanted.dtype
        assert y.tolist() == wanted.tolist()


@pytest.mark.parametrize("kind", ["Long", "Int", "Short", "Char", "Byte", "Bool"])
def test_integers_fail_with_a_seed_too(kind):
    x = torch.ones(5).type(f"torch.{kind}Tensor")
    text = f"result type Float can't be cast to the desired output type {kind}"
    for key in ({"seed": 1}, {"generator": torch.Generator()}):
        assert error_of(lambda key=key: dropout(x, 0.5, **key)) == ("RuntimeError", text)


@pytest.mark.parametrize("p", [0.4, 0.9999])
@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.t()], ids=["contiguous", "transposed"])
@pytest.mark.parametrize(("dtype", "real"), [(torch.complex64, torch.float32), (torch.complex128, torch.float64)])
def test_complex_with_a_seed_takes_the_streams_mask(dtype, real, make, p):
    x = make(torch.complex(*torch.tensor([1, -2], dtype=real)).expand(200, 300).contiguous())
    y = dropout(x, p, seed=6)
    assert y.dtype is dtype
    wanted = oracle.dropout(torch.ones_like(x, dtype=real), p, 6)
    assert_same_bits(y.real, wanted)
    assert_same_bits(y.imag.abs(), 2 * wanted)
    assert wanted.any()


# Other kinds of tensors


class Subclass(torch.Tensor):
    """A subclass that does nothing."""


class Uninterested(torch.Tensor):
    """A subclass whose operators return plain tensors."""

    __torch_function__ = torch._C._disabled_torch_function_impl


class Wrapper(torch.Tensor):
    """A subclass without memory, around a tensor that has some."""

    @staticmethod
    def __new__(cls, inner):
        """Make the outer tensor."""
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        """Do it to the inner tensors."""
        args, kwargs = torch.utils._pytree.tree_map_only(cls, lambda x: x.inner, (args, kwargs or {}))
        return torch.utils._pytree.tree_map_only(torch.Tensor, cls, func(*args, **kwargs))


def nested(layout):
    return torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=layout)


def ones():
    return torch.ones(3, 40)


EXOTIC = {
    "coo": lambda: torch.eye(4).to_sparse(),
    "csr": lambda: torch.eye(4).to_sparse_csr(),
    "nested": lambda: nested(torch.strided),
    "jagged": lambda: nested(torch.jagged),
    "meta": lambda: ones().to("meta"),
    "subclass": lambda: ones().as_subclass(Subclass),
    "uninterested subclass": lambda: ones().as_subclass(Uninterested),
    "wrapper": lambda: Wrapper(ones()),
    "fake": lambda: FakeTensorMode(allow_non_fake_inputs=True).from_tensor(ones()),
    "quantized": lambda: torch.quantize_per_tensor(ones(), 0.1, 0, torch.quint8),
    "mkldnn": lambda: ones().to_mkldnn(),
    "parameter": lambda: torch.nn.Parameter(ones()),
    "leaf": lambda: ones().requires_grad_(),
    "view of a leaf": lambda: ones().requires_grad_()[1:],
    "multi-view": lambda: (ones().requires_grad_() * 1).unbind(0)[1],
    "inference": torch.inference_mode()(ones),
    "view made in no_grad": torch.no_grad()(lambda: ones().requires_grad_()[1:]),
}


def kind(x):
    """All of a tensor but its elements."""
    shape = [tuple(part.shape) for part in x.unbind()] if x.is_nested else tuple(x.shape)
    return type(x), shape, x.dtype, x.layout, x.device, x.requires_grad, x.is_inference()


def elements(x):
    """Those that there are, in a list."""
    if isinstance(x, Wrapper):
        return elements(x.inner)
    if x.is_nested:
        return [value for part in x.unbind() for value in elements(part)]
    if x.is_meta or isinstance(x, FakeTensor):
        return None
    x = x.dequantize() if x.is_quantized else x
    return x.detach().to_dense().flatten().tolist()


@pytest.mark.filterwarnings("ignore:.*(Sparse CSR|nested tensors|is deprecated|quantize):UserWarning")  # of the makers
@pytest.mark.filterwarnings("ignore:.*quantiz:DeprecationWarning")
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    ("p", "training"), [(0.5, True), (0.0, True), (1.0, True), (0.5, False)], ids=["random", "0", "1", "eval"]
)
@pytest.mark.parametrize("make", EXOTIC.values(), ids=EXOTIC)
def test_exotic_tensors_as_native(make, p, training, inplace):
    ours, theirs = make(), make()
    wanted = error_of(lambda: native(theirs, p, training, inplace))
    assert error_of(lambda: dropout(ours, p, training, inplace)) == wanted
    if wanted is not None:
        return
    ours, theirs = make(), make()
    torch.manual_seed(2)
    wanted = native(theirs, p, training, inplace)
    torch.manual_seed(2)
    y = dropout(ours, p, training, inplace)
    assert kind(y) == kind(wanted)
    if not ours.is_nested:  # of which native makes a new one in eval mode
        assert (y is ours) == (wanted is theirs)
    if wanted.is_sparse and p == 1.0:
        return  # native's elements are what was in memory before
    if (p, training) == (0.5, True) and type(ours) in (torch.Tensor, torch.nn.Parameter) and y.layout is torch.strided:
        if not (y.is_nested or y.is_meta):  # a kernel's: its mask is another
            assert set(elements(y)) == set(elements(wanted)) == {0.0, 2.0}
            return
    assert elements(y) == elements(wanted)


@pytest.mark.parametrize("name", ["meta", "subclass", "uninterested subclass", "fake", "leaf", "inference"])
@pytest.mark.parametrize("key", ["seed", "generator"])
def test_exotic_tensors_with_a_key(name, key):
    dropout(torch.ones(4), 0.5, generator=torch.Generator())  # else a crash, which the test of fake tensors below sees
    y = dropout(EXOTIC[name](), 0.5, **{key: 3 if key == "seed" else torch.Generator().manual_seed(1)})
    assert kind(y) == kind(native(EXOTIC[name](), 0.5))
    if key == "seed" and elements(y) is not None:
        assert elements(y) == oracle.dropout(ones(), 0.5, 3).flatten().tolist()


FAKE = """
import threading, torch
from fastdrop.functional import dropout
from torch._subclasses.fake_tensor import FakeTensorMode

def first_call_of_a_thread(**key):
    with FakeTensorMode():
        y = dropout(torch.ones(3, 4), 0.5, **key)
    x = torch.ones(300)
    real = dropout(x, 0.5, generator=torch.Generator()), dropout(x, 0.5)
    print(type(y).__name__, tuple(y.shape), y.dtype, *(x.unique().tolist() for x in real))

for key in {"generator": torch.Generator()}, {"seed": 3}, {"seed": torch.tensor(3)}:
    thread = threading.Thread(target=first_call_of_a_thread, kwargs=key)
    thread.start()
    thread.join()
"""


def test_fake_tensor_mode_with_a_key():
    # In a process of its own, for it once crashed.
    assert run_python(FAKE).split("\n") == ["FakeTensor (3, 4) torch.float32 [0.0, 2.0] [0.0, 2.0]"] * 3


@BOTH
@pytest.mark.parametrize("x", [3, None, "x", [1.0], np.ones(3)], ids=repr)
def test_what_is_no_tensor(x, training):
    wanted = error_of(lambda: native(x, 0.5, training))
    assert wanted is not None
    assert error_of(lambda: dropout(x, 0.5, training)) == wanted


# Those who watch operators


class Watch(TorchDispatchMode):
    """Keep what each operator returns."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Keep it."""
        self.seen.append(func(*args, **(kwargs or {})))
        return self.seen[-1]


@pytest.mark.parametrize("p", [0.5, 1.0])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("key", [{}, {"seed": 3}, {"generator": torch.Generator()}], ids=["drawn", "seed", "generator"])
def test_dispatch_mode_sees_where_the_result_comes_from(key, inplace, p):
    for call in (native, lambda *args: dropout(*args, **key)):
        x = ones()
        with Watch() as watch:
            y = call(x, p, True, inplace)
        assert torch.equal(watch.seen[-1], y)
        assert watch.seen[-1].data_ptr() == y.data_ptr()
        assert (y is x) == inplace
        assert set(y.unique().tolist()) == ({0.0, 2.0} if p == 0.5 else {0.0})


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("p", [0.3, 0.5, 0.9999, 1.0])
@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.t(), lambda x: x[:, ::2]], ids=["plain", "t", "sliced"])
def test_dispatch_mode_does_not_change_a_seeds_mask(make, p, dtype):
    x = make(torch.randn(200, 300, generator=torch.Generator().manual_seed(3)).to(dtype))
    with Watch():
        y = dropout(x, p, seed=5, offset=6)
    assert_same_bits(y, oracle.dropout(x, p, 5, 6))
    assert y.any() == (p < 1)
    assert y.stride() == native(x, p).stride()


def test_function_mode_sees_dropout():
    seen = []

    class Record(TorchFunctionMode):
        """Write down each function."""

        def __torch_function__(self, func, types, args=(), kwargs=None):
            """Write it down."""
            seen.append((func, args, kwargs))
            return func(*args, **(kwargs or {}))

    x = ones()
    with Record():
        y = dropout(x, 0.5, seed=7, offset=8)
    (call,) = [call for call in seen if call[0] is dropout]
    assert call[1][0] is x
    assert_same_bits(y, oracle.dropout(x, 0.5, 7, 8))


def jit_trace(layer):
    """Return a layer's trace, and what torch warns of (but not that traces are old)."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        traced = torch.jit.trace(layer, torch.ones(80), check_trace=False)
    return traced, [str(one.message) for one in seen if one.category is not DeprecationWarning]


@pytest.mark.parametrize("layer", [lambda x: dropout(x, 0.5), fastdrop.Dropout(0.5)], ids=["functional", "module"])
def test_jit_trace_stays_random(layer):
    traced, _ = jit_trace(layer)
    torch.manual_seed(0)
    first, second = traced(torch.ones(300)), traced(torch.ones(300))
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(first, native(torch.ones(300), 0.5))
    x = torch.ones(300, requires_grad=True)
    y = traced(x)
    y.sum().backward()
    assert torch.equal(x.grad, y)


def test_jit_trace_warns_of_no_more_than_native():
    assert jit_trace(fastdrop.Dropout(0.5))[1] == jit_trace(torch.nn.Dropout(0.5))[1]


@pytest.mark.parametrize("key", [{"seed": 3}, {"seed": torch.tensor(3)}], ids=["int", "tensor"])
def test_jit_trace_with_a_seed(key):
    x = torch.randn(80)
    traced, _ = jit_trace(lambda x: dropout(x, 0.5, **key))
    assert_same_bits(traced(x), oracle.dropout(x, 0.5, 3))


def test_jit_trace_of_a_module_with_a_generator():
    traced, _ = jit_trace(fastdrop.Dropout(0.5, generator=torch.Generator()))
    assert set(traced(torch.ones(80)).tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("tracing_mode", ["real", "fake"])
def test_make_fx_stays_random(tracing_mode):
    graph = torch.fx.experimental.proxy_tensor.make_fx(lambda x: dropout(x, 0.5), tracing_mode=tracing_mode)(ones())
    torch.manual_seed(0)
    y = graph(ones())
    assert not torch.equal(y, graph(ones()))
    torch.manual_seed(0)
    seed = int(torch.randint(2**63 - 1, ()))
    assert_same_bits(y, oracle.dropout(ones(), 0.5, seed))


@pytest.mark.parametrize("tracing_mode", ["real", "fake"])
def test_make_fx_with_a_seed(tracing_mode):
    make_fx = torch.fx.experimental.proxy_tensor.make_fx
    graph = make_fx(lambda x: dropout(x, 0.5, seed=3), tracing_mode=tracing_mode)(ones())
    x = torch.randn(3, 40)
    assert_same_bits(graph(x), oracle.dropout(x, 0.5, 3))


# The module as an object


@pytest.mark.parametrize(("p", "inplace"), [(0.5, False), (0.1, True), (0, False)])
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_module_is_natives_twin(p, inplace, again):
    ours, theirs = again(fastdrop.Dropout(p, inplace)), torch.nn.Dropout(p, inplace)
    assert type(ours) is fastdrop.Dropout and isinstance(ours, torch.nn.Dropout)
    assert repr(ours) == repr(theirs)
    assert ours.extra_repr() == theirs.extra_repr()
    assert ours.state_dict() == theirs.state_dict() == {}
    assert ours.load_state_dict(theirs.state_dict()) == theirs.load_state_dict(ours.state_dict())
    assert (ours.p, ours.inplace, ours.training) == (theirs.p, theirs.inplace, True)
    assert list(ours.parameters()) == list(ours.buffers()) == []
    assert not again(ours.eval()).training


def test_module_without_arguments():
    assert repr(fastdrop.Dropout()) == repr(torch.nn.Dropout())
    assert not fastdrop.Dropout().inplace


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copied_module_has_a_generator_of_its_own(again):
    ours = fastdrop.Dropout(generator=torch.Generator().manual_seed(6))
    ours(torch.ones(5))
    copied = again(ours)
    first = ours(torch.ones(100))
    assert torch.equal(copied(torch.ones(100)), first)  # from the same state, and advancing only its own
    assert torch.equal(copied(torch.ones(100)), ours(torch.ones(100)))


def test_module_is_saved_with_its_model():
    file = io.BytesIO()
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2), fastdrop.Dropout(0.3)), file)
    file.seek(0)
    assert repr(torch.load(file, weights_only=False)[1]) == "Dropout(p=0.3, inplace=False)"


# Where and how torch runs


def in_a_new_thread(call):
    """Return what a call returns in a thread that has drawn no seed yet."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    assert results, "the thread failed"
    return results[0]


@pytest.fixture
def default_meta():
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


LAYOUTS = {"contiguous": lambda x: x, "transposed": lambda x: x.t(), "sliced": lambda x: x[:, ::2].t()}


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")  # torch's own, in jvp
@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)
def test_default_device_does_not_matter(default_meta, make):
    with torch.device("cpu"):
        x = make(torch.randn(30, 70))
        wanted, mask = oracle.dropout(x, 0.3, 5), oracle.keep(torch.empty(9, 9), 0.3, 5)
    leaf = x.clone().requires_grad_()
    y, default = dropout(leaf, 0.3, seed=5), fastdrop.dropout_mask((9, 9), 0.3, seed=5)
    y.sum().backward()
    tangent = torch.func.jvp(lambda x: dropout(x, 0.3, seed=5), (x,), (x,))[1]
    rows = torch.vmap(lambda x: dropout(x, 0.5), randomness="different")(x)
    drawn = fastdrop.Dropout(0.5)(x)
    assert dropout(torch.ones(4), 0.5).is_meta
    with torch.device("cpu"):
        assert default.device.type == "cpu" and torch.equal(default, mask)
        assert_same_bits(dropout(x, 0.3, seed=5), wanted)
        assert_same_bits(y, oracle.dropout(leaf, 0.3, 5))
        assert_same_bits(leaf.grad, oracle.apply(torch.ones(x.shape), oracle.keep(leaf, 0.3, 5), 0.3))
        assert_same_bits(tangent, wanted)
        for result in (rows, drawn):
            assert ((result == 0) | (result == 2 * x)).all()


@pytest.mark.parametrize("mode", [lambda: torch.device("meta"), torch.inference_mode, torch.no_grad, Watch])
@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_first_draw_of_a_thread_in_a_mode_spoils_no_later_one(mode, generator):
    x = torch.ones(200)

    def call():
        with mode():
            first = dropout(x, 0.5, generator=generator)
        return first, dropout(x, 0.5, generator=generator), dropout(x, 0.5)

    results = in_a_new_thread(call)
    assert [set(y.tolist()) for y in results] == [{0.0, 2.0}] * 3
    assert len({tuple(y.tolist()) for y in results}) == 3


def test_inference_mode():
    x = torch.ones(100, requires_grad=True)
    with torch.inference_mode():
        y = dropout(x, 0.5, seed=1)
        assert y.is_inference() and not y.requires_grad
        assert_same_bits(y, oracle.dropout(x, 0.5, 1))
        assert dropout(y, 0.5, inplace=True, seed=2) is y
        assert dropout(x, 0.5, inplace=True, seed=3) is x
    assert_same_bits(y, oracle.dropout(oracle.dropout(torch.ones(100), 0.5, 1), 0.5, 2))
    assert_same_bits(x, oracle.dropout(torch.ones(100), 0.5, 3))


def test_no_grad():
    x = torch.ones(100, requires_grad=True)
    with torch.no_grad():
        y = dropout(x, 0.5, seed=1)
    assert not y.requires_grad and y.grad_fn is None
    assert_same_bits(y, oracle.dropout(x, 0.5, 1))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_autocast_leaves_every_dtype(low, dtype):
    x = torch.randn(100).to(dtype).requires_grad_()
    with torch.autocast("cpu", low):
        y = dropout(x, 0.5, seed=1)
        assert native(x, 0.5).dtype is dtype
    assert_same_bits(y, oracle.dropout(x, 0.5, 1))


# seed, offset, generator


@BOTH
@pytest.mark.parametrize("name", ["seed", "offset"])
@pytest.mark.parametrize("value", [-1, 2**64, -(2**63), 10**30])
def test_keys_out_of_range(name, value, training):
    text = f"{name} has to be between 0 and 2**64 - 1, but got {value}"
    key = {"seed": 0} | {name: value}
    for call in (
        lambda: dropout(torch.ones(4), 0.5, training, **key),
        lambda: fastdrop.Dropout().train(training)(torch.ones(4), **key),
        lambda: fastdrop.dropout_mask(4, 0.5, **key),
    ):
        assert error_of(call) == ("ValueError", text)


@BOTH
@pytest.mark.parametrize("name", ["seed", "offset"])
@pytest.mark.parametrize(("value", "kind"), [(1.5, "float"), ("a", "str"), ([1], "list"), (0.0, "float"), ("", "str")])
def test_keys_of_a_wrong_type(name, value, kind, training):
    wanted = "TypeError", f"{name} has to be an integer, but got {kind}: {value!r}"
    key = {"seed": 0} | {name: value}
    assert error_of(lambda: dropout(torch.ones(4), 0.5, training, **key)) == wanted
    assert error_of(lambda: fastdrop.dropout_mask(4, 0.5, **key)) == wanted


@BOTH
@pytest.mark.parametrize(
    ("seed", "kind"),
    [
        (torch.tensor([1, 2]), "torch.int64 of shape (2,)"),
        (torch.tensor([], dtype=torch.int64), "torch.int64 of shape (0,)"),
        (torch.tensor(1.0), "torch.float32 of shape ()"),
        (torch.tensor([3], dtype=torch.int32), "torch.int32 of shape (1,)"),
    ],
)
def test_seed_tensors_of_a_wrong_kind(seed, kind, training):
    wanted = "TypeError", f"seed has to be an int or an int64 tensor of one element, but got {kind}"
    assert error_of(lambda: dropout(torch.ones(4), 0.5, training, seed=seed)) == wanted
    assert error_of(lambda: fastdrop.dropout_mask(4, 0.5, seed=seed)) == wanted


@BOTH
def test_seed_and_generator_exclude_each_other(training):
    text = "seed and generator exclude each other: a mask comes from one of them, but got both"
    call = error_of(lambda: dropout(torch.ones(4), 0.5, training, seed=0, generator=torch.Generator()))
    assert call == ("ValueError", text)


@pytest.mark.parametrize("generator", [3, "cpu"])
def test_what_is_no_generator(generator):
    assert error_of(lambda: torch.rand(3, generator=generator))[0] == "TypeError"
    with pytest.raises(TypeError, match="generator"):
        dropout(torch.ones(4), 0.5, generator=generator)


def test_keys_are_keywords_only():
    for call in (
        lambda: dropout(torch.ones(4), 0.5, True, False, 3),
        lambda: fastdrop.Dropout(0.5, False, torch.Generator()),
        lambda: fastdrop.Dropout()(torch.ones(4), 3),
    ):
        assert error_of(call)[0] == "TypeError"


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("key", [{"seed": 3}, {"generator": torch.Generator()}], ids=["seed", "generator"])
def test_sparse_and_nested_with_a_key_are_refused(key):
    for x in (torch.eye(5).to_sparse(), torch.nested.nested_tensor([torch.ones(3), torch.ones(2)])):
        with pytest.raises(RuntimeError, match="needs a strided tensor, but got"):
            dropout(x, 0.5, **key)


def test_complex_gradients_meet_the_streams_mask():
    x = torch.randn(50, dtype=torch.complex64, requires_grad=True)
    grad_output = torch.randn(50, dtype=torch.complex64)
    (grad,) = torch.autograd.grad(dropout(x, 0.5, seed=3), x, grad_output)
    keep = oracle.keep(torch.empty(50), 0.5, 3)
    assert torch.equal(grad, torch.where(keep, 2 * grad_output, 0))
