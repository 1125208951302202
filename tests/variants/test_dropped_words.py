"""What embedding_dropout keeps for its backward, and its derivatives beside those of torch's operators with a mask."""

import functools
import gc

import pytest
import torch
from embeddings import DIM, OFFSET, SEED, WORDS, P, composed, indices, kept_words, numbers, saved_by
from oracle import FLOATS, assert_same_bits, scale
from torch import nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import embedding
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from fastdrop import EmbeddingDropout
from fastdrop._devices import threads as _threads
from fastdrop.functional import embedding_dropout

CALL = functools.partial(embedding_dropout, p=P, seed=SEED, offset=OFFSET)
COMPLEX = (torch.complex64, torch.complex128)
OPTIONS = [{}, {"sparse": True}, {"padding_idx": 3}, {"scale_grad_by_freq": True}, {"max_norm": 1.0}]
LAYOUTS = {"contiguous": lambda: indices(4, 9), "turned": lambda: indices(9, 4).t(), "int32": lambda: indices(40).int()}


class Watch(TorchDispatchMode):
    """A mode that follows operators and changes nothing."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


class Unshared(nn.Embedding):
    """An embedding that keeps a copy of its words for its own backward."""

    def forward(self, input):
        return super().forward(input.clone())


class Complex(nn.Embedding):
    """An embedding of complex numbers, which torch's own cannot learn."""

    def forward(self, input):
        return torch.view_as_complex(super().forward(input).unflatten(-1, (-1, 2)))


class Averaged(nn.Embedding):
    """An embedding whose rows are not one a word."""

    def forward(self, input):
        return super().forward(input).mean(0, keepdim=True)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)
    torch._dynamo.reset()


def leaf(*shape, dtype=torch.float32):
    return numbers(*shape, dtype=dtype).requires_grad_()


def places(tensors):
    """Return where tensors lie, and how much memory that is."""
    return {(x.untyped_storage().data_ptr(), x.untyped_storage().nbytes()) for x in tensors}


@pytest.mark.parametrize("key", [{"seed": SEED}, {}], ids=["keyed", "fresh"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("by_module", [False, True])
def test_only_the_words_are_kept_as_torch_keeps_them(by_module, options, layout, key):
    words, weight = LAYOUTS[layout](), leaf(WORDS, DIM)
    if by_module:
        layer = EmbeddingDropout(nn.Embedding(WORDS, DIM, _weight=weight.detach(), **options), P)
        (y, saved), (x, plain) = (
            saved_by(lambda f=f: f()) for f in (lambda: layer(words, **key), lambda: layer.wrapped(words))
        )
    else:
        y, saved = saved_by(lambda: embedding_dropout(words, weight, P, **options, **key))
        x, plain = saved_by(lambda: embedding(words, weight, **options))
    assert y.requires_grad and x.requires_grad and (y == 0).any()
    assert len(places(plain)) == len(places(saved)) == 1
    assert {size for _, size in places(saved)} == {size for _, size in places(plain)}
    if "max_norm" not in options:
        assert places(saved) == places(plain) == places([words])


@pytest.mark.parametrize("dtype", [*FLOATS, *COMPLEX])
def test_nothing_is_kept_in_any_dtype_nor_where_a_mode_watches(dtype):
    words = indices(4, 9)
    layer = EmbeddingDropout((Complex if dtype in COMPLEX else nn.Embedding)(WORDS, DIM), P).to(dtype.to_real())
    for mode in (torch.enable_grad, Watch):
        with mode():
            y, saved = saved_by(lambda: layer(words))
        assert y.requires_grad and places(saved) == places([words])


def test_no_tensor_lives_on_unsaved():
    def tensors():
        gc.collect()
        return {id(x): x for x in gc.get_objects() if type(x) in (torch.Tensor, nn.Parameter)}

    words, weight = indices(4, 9), leaf(WORDS, DIM)
    before = tensors()
    y = embedding_dropout(words, weight, P)
    assert tensors().keys() - before.keys() == {id(y)}


def test_nothing_is_kept_for_a_second_backward():
    words, weight = indices(4, 9), leaf(WORDS, DIM)
    y, grad_output = CALL(words, weight), torch.ones(4, 9, DIM, requires_grad=True)
    _, saved = saved_by(lambda: torch.autograd.grad(y, weight, grad_output, create_graph=True)[0])
    assert places(saved) == places([words])


@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3, 40)])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sparse", [False, True])
def test_gradients_have_the_bits_of_torchs_operators(sparse, dtype, shape):
    words, weight, kept = indices(*shape), leaf(WORDS, DIM, dtype=dtype), kept_words()
    y, wanted = (f(words, weight, sparse=sparse) for f in (CALL, functools.partial(composed, kept=kept)))
    assert torch.equal(y, wanted)
    grad_output = numbers(*y.shape, dtype=dtype)
    (grad,), (wanted_grad,) = (torch.autograd.grad(each, weight, grad_output) for each in (y, wanted))
    assert grad.is_sparse == wanted_grad.is_sparse == sparse
    if sparse:
        assert torch.equal(grad._indices(), wanted_grad._indices())
        grad, wanted_grad = grad._values(), wanted_grad._values()
    assert grad.dtype is wanted_grad.dtype is dtype
    assert torch.equal(grad, wanted_grad)


@pytest.mark.parametrize("dtype", COMPLEX)
def test_gradients_of_complex_numbers(dtype):
    layer, words = EmbeddingDropout(Complex(WORDS, DIM), P).to(dtype.to_real()), indices(4, 9)
    y, kept = layer(words, seed=SEED, offset=OFFSET), kept_words()[words][..., None].to(dtype.to_real())
    wanted = layer.wrapped(words) * (kept * scale(P, kept.dtype))
    assert y.dtype is dtype and torch.equal(y, wanted)
    grad_output = numbers(*y.shape, dtype=dtype)
    (grad,), (wanted_grad,) = (torch.autograd.grad(each, layer.weight, grad_output) for each in (y, wanted))
    assert torch.equal(grad, wanted_grad)
    assert torch.autograd.gradcheck(
        lambda weight: torch.func.functional_call(layer, {"weight": weight}, (words,), {"seed": SEED}),
        layer.weight.detach().double().requires_grad_(),
        fast_mode=True,
        check_forward_ad=True,
    )


@pytest.mark.parametrize("dim", [1, 2, 33, 1000, 3000])  # a block has 1024 elements
@pytest.mark.parametrize("threads", ["serial", "openmp", "python threads"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_of_all_lengths_on_all_threads(dtype, threads, dim, monkeypatch):
    count = 2 * _threads.POOL_GRAIN // dim + 7
    words, weight, kept = indices(count), leaf(WORDS, dim, dtype=dtype), kept_words()
    with torch.no_grad():
        weight[~kept] = torch.nan
    wanted, before = composed(words, weight.detach(), kept), torch.get_num_threads()
    if threads == "python threads":
        monkeypatch.setattr(_threads, "torch_openmp", lambda: None)
    torch.set_num_threads(1 if threads == "serial" else 2)
    try:
        assert _threads.backend() == threads
        assert_same_bits(CALL(words, weight), wanted)
    finally:
        torch.set_num_threads(before)


def test_derivatives_are_the_differences():
    words, weight = indices(3, 4), leaf(WORDS, 1, dtype=torch.float64)
    call = functools.partial(CALL, words)
    assert torch.autograd.gradcheck(call, weight, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda w: call(w) ** 3, weight, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda w: call(w) ** 3, weight, check_fwd_over_rev=True)


def test_one_fresh_mask_for_all_derivatives():
    words, weight = torch.arange(WORDS), leaf(WORDS, DIM, dtype=torch.float64)
    y = embedding_dropout(words, weight, P)
    kept = y[:, :1] != 0
    factors = kept.double() / (1 - P)
    (first,) = torch.autograd.grad((y**3).sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), weight, create_graph=True)
    (third,) = torch.autograd.grad(second.sum(), weight)
    torch.testing.assert_close(first, 3 * factors**3 * weight**2)
    torch.testing.assert_close(second, 6 * factors**3 * weight)
    torch.testing.assert_close(third, (6 * factors**3).expand(WORDS, DIM))
    with forward_ad.dual_level():
        tangent = torch.ones_like(weight)
        y, pushed = forward_ad.unpack_dual(embedding_dropout(words, forward_ad.make_dual(weight, tangent), P))
        assert torch.equal(pushed != 0, (y != 0))
        assert_same_bits(pushed, torch.where(y != 0, tangent / (1 - P), 0))


def test_batches_of_gradients_and_tangents():
    words, weight, kept = indices(3, 4), leaf(WORDS, 2, dtype=torch.float64), kept_words()
    calls = CALL, functools.partial(composed, kept=kept)
    (y, wanted), grads = (f(words, weight) for f in calls), numbers(5, 3, 4, 2, dtype=torch.float64)
    for pull in (
        lambda z: torch.autograd.grad(z, weight, grads, retain_graph=True, is_grads_batched=True)[0],
        lambda z: torch.vmap(lambda g: torch.autograd.grad(z, weight, g, retain_graph=True)[0])(grads),
        lambda z: make_fx(lambda g: torch.autograd.grad(z, weight, g, retain_graph=True)[0])(grads[0])(grads[1]),
    ):
        assert torch.equal(pull(y), pull(wanted))
    forward = [
        torch.autograd.functional.jacobian(lambda w, f=f: f(words, w), weight, vectorize=True, strategy="forward-mode")
        for f in calls
    ]
    assert torch.equal(*forward)


def test_gradients_that_torch_func_differentiates_again():
    words, weight, kept = indices(3, 4), leaf(WORDS, 2, dtype=torch.float64), kept_words()
    for pull in (
        lambda z, g: torch.autograd.grad(z, weight, g, create_graph=True, is_grads_batched=True)[0],
        lambda z, g: torch.vmap(lambda one: torch.autograd.grad(z, weight, one, create_graph=True)[0])(g),
    ):
        grads = leaf(5, 3, 4, 2, dtype=torch.float64)
        second, wanted = (
            torch.autograd.grad((pull(z, grads) ** 2).sum(), grads)[0]
            for z in (CALL(words, weight), composed(words, weight, kept))
        )
        assert torch.equal(second, wanted)
    second, wanted = (
        torch.func.grad(lambda g, z=z: (torch.autograd.grad(z, weight, g, create_graph=True)[0] ** 2).sum())(grads[0])
        for z in (CALL(words, weight), composed(words, weight, kept))
    )
    assert torch.equal(second, wanted)


def test_compiled_backward_of_what_was_recorded_eagerly():
    words, weight, kept = indices(3, 4), leaf(WORDS, DIM), kept_words()
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="aot_eager")):
        (CALL(words, weight) * 3).sum().backward()
    (wanted,) = torch.autograd.grad((composed(words, weight, kept) * 3).sum(), weight)
    assert_same_bits(weight.grad, wanted)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("watch", ["first", "second", "neither"])
def test_checkpoints_make_the_same_mask_again(watch, use_reentrant):
    words, weight = torch.arange(WORDS), leaf(WORDS, DIM)
    with Watch() if watch == "first" else torch.enable_grad():
        y = checkpoint(lambda w: embedding_dropout(words, w, P) ** 2, weight, use_reentrant=use_reentrant)
    with Watch() if watch == "second" else torch.enable_grad():
        y.sum().backward()
    assert 0 < (y == 0).sum() < y.numel()
    torch.testing.assert_close(weight.grad * weight / 2, y)


def test_checkpoints_that_save_results_of_operators():
    words, weight = torch.arange(WORDS), leaf(WORDS, DIM)
    save = functools.partial(create_selective_checkpoint_contexts, lambda *_, **__: CheckpointPolicy.MUST_SAVE)
    first = checkpoint(lambda w: embedding_dropout(words, w, P) ** 2, weight, use_reentrant=False, context_fn=save)
    first.sum().backward()
    torch.testing.assert_close(weight.grad * weight / 2, first)


@pytest.mark.parametrize("kind", [nn.Embedding, Unshared])
def test_words_that_are_overwritten_before_the_backward_raise_torchs_error(kind):
    layer, words = EmbeddingDropout(kind(WORDS, DIM), P), indices(4, 9)
    y = layer(words)
    words.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_saved_words_may_be_moved():
    words, weight = indices(4, 9), leaf(WORDS, DIM)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x.tolist(), torch.tensor):
        y = CALL(words, weight)
    (grad,), (wanted,) = (torch.autograd.grad(z.sum(), weight) for z in (y, composed(words, weight, kept_words())))
    assert_same_bits(grad, wanted)


def test_rows_that_are_not_one_a_word_are_repeated():
    layer, words = EmbeddingDropout(Averaged(WORDS, DIM), P), indices(9)
    y = layer(words, seed=SEED, offset=OFFSET)
    scaled = layer.wrapped(words) / (1 - P)
    assert_same_bits(y, torch.where(kept_words()[words][:, None], scaled, 0))
    (grad,), (wanted,) = (
        torch.autograd.grad(z.sum(), layer.weight)
        for z in (y, layer.wrapped(words) * kept_words()[words].sum() / (1 - P))
    )
    torch.testing.assert_close(grad, wanted)


def test_words_beyond_the_vocabulary_are_not_read():
    class Hashed(nn.Embedding):
        def forward(self, input):
            return super().forward(input % WORDS)

    with pytest.raises(IndexError, match="out of range"):
        EmbeddingDropout(Hashed(WORDS, DIM), P)(torch.tensor([WORDS]))
