"""Dropout of whole words, side by side with a dense mask times the matrix, then torch's embedding."""

import functools
import tracemalloc

import oracle
import pytest
import torch
from embeddings import DIM, OFFSET, SEED, WORDS, P, indices, kept_words, numbers
from oracle import FLOATS, assert_same_bits, error_of
from torch import nn
from torch.nn.functional import embedding
from torch.utils._python_dispatch import TorchDispatchMode

from fastdrop import EmbeddingDropout
from fastdrop.functional import dropout, dropout_mask, embedding_dropout

CALL = functools.partial(embedding_dropout, p=P, seed=SEED, offset=OFFSET)
compiled = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)
    torch._dynamo.reset()


def masked(weight: torch.Tensor) -> torch.Tensor:
    """Return the whole matrix without the dropped words, as AWD-LSTM makes it, by torch's operators."""
    kept, scale = kept_words()[:, None], oracle.scale(P, weight.dtype)
    return torch.where(kept, (weight.to(oracle.COMPUTE[weight.dtype]) * scale).to(weight.dtype), 0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("index", [torch.int64, torch.int32])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (4, 9), (2, 3, 40)])
def test_result_and_gradient(shape, index, dtype):
    words, weight = indices(*shape).to(index), numbers(WORDS, DIM, dtype=dtype).requires_grad_()
    y, wanted = CALL(words, weight), embedding(words, masked(weight))
    assert_same_bits(y, wanted)
    grad_output = torch.randint(-3, 4, y.shape).to(dtype)  # whole numbers: their sums do not depend on the order
    kept = oracle.apply(grad_output, kept_words()[words.long()][..., None].expand(y.shape), P)
    plain = weight.detach().requires_grad_()
    (wanted_grad,) = torch.autograd.grad(embedding(words, plain), plain, kept)
    (grad,) = torch.autograd.grad(y, weight, grad_output)
    assert_same_bits(grad, wanted_grad)
    assert torch.equal(grad[~kept_words()], torch.zeros_like(grad[~kept_words()]))


def test_all_occurrences_share_a_words_fate():
    words = indices(1000)
    kept = embedding_dropout(words, torch.ones(WORDS, 1), P)[:, 0] != 0
    fates = [set(kept[words == word].tolist()) for word in words.unique()]
    assert all(len(fate) == 1 for fate in fates)
    assert {True} in fates and {False} in fates


@pytest.mark.parametrize(
    "options",
    [{"padding_idx": 3}, {"padding_idx": -1}, {"scale_grad_by_freq": True}, {"max_norm": 1.0, "norm_type": 1.0},
     {"sparse": True}, {"sparse": True, "padding_idx": 0}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("by_module", [False, True])
def test_options_are_the_embeddings_own(options, by_module):
    words, weight, plain = indices(4, 30), *(numbers(WORDS, DIM).double().requires_grad_() for _ in range(2))
    if by_module:
        layer = EmbeddingDropout(nn.Embedding(WORDS, DIM, **options), P)
        layer.weight = nn.Parameter(weight.detach())
        weight, y = layer.weight, layer(words, seed=SEED, offset=OFFSET)
    else:
        y = CALL(words, weight, **options)
    rows = embedding(words, plain, **options)
    factors = kept_words()[words][..., None].double() * oracle.scale(P, torch.float64)
    assert_same_bits(y + 0, rows * factors + 0)
    assert_same_bits(weight, plain)  # max_norm writes to it
    y.square().sum().backward()
    (rows * factors).square().sum().backward()
    assert weight.grad.is_sparse == plain.grad.is_sparse == options.get("sparse", False)
    torch.testing.assert_close(weight.grad.to_dense(), plain.grad.to_dense())


def test_nothing_leaks_from_dropped_words():
    weight = numbers(WORDS, DIM)
    weight[~kept_words()] = torch.nan
    words = torch.arange(WORDS)
    wanted = torch.zeros(WORDS, DIM)
    assert_same_bits(CALL(words, weight)[~kept_words()], wanted[~kept_words()])
    assert_same_bits(embedding_dropout(words, weight, 1), wanted)
    layer = EmbeddingDropout(nn.Embedding(WORDS, DIM), 1.0)
    layer(words).sum().backward()
    assert_same_bits(layer.weight.grad, wanted)


def test_eval_mode_and_p_0_are_the_embedding():
    layer, words = EmbeddingDropout(nn.Embedding(WORDS, DIM), P), indices(4, 9)
    wanted = layer.wrapped(words)
    for y in (embedding_dropout(words, layer.weight, P, False), embedding_dropout(words, layer.weight, 0)):
        assert_same_bits(y, wanted)
    assert_same_bits(layer.eval()(words), wanted)
    layer.training = True
    assert not layer.wrapped.training
    assert_same_bits(layer(words, seed=SEED, offset=OFFSET), CALL(words, layer.weight))
    layer.p = 0.0
    assert_same_bits(layer(words), wanted)


class Largest(TorchDispatchMode):
    """The most elements of a floating-point tensor that an operator returned."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("sparse", [False, True])
def test_no_copy_of_the_vocabulary_is_made(sparse):
    vocabulary, words = 20_000, torch.tensor([[1, 19_999, 7], [1, 1, 2]])
    weight = torch.ones(vocabulary, 64, requires_grad=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        y = embedding_dropout(words, weight, P, sparse=sparse)
    allocated = sum(max(event.self_cpu_memory_usage, 0) for event in profile.key_averages())
    assert y.nbytes <= allocated < 4 * y.nbytes < vocabulary  # less than the byte a word that NumPy has for the mask
    tracemalloc.start()
    embedding_dropout(words, weight, P, sparse=sparse)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert vocabulary <= peak < 2 * vocabulary
    with Largest() as watched:
        embedding_dropout(words, weight, P, sparse=sparse)
    assert watched.elements == y.numel()
    if sparse:
        y.sum().backward()
        assert weight.grad._values().shape == (6, 64)


def test_keys():
    words = torch.arange(WORDS)
    ones = torch.ones(WORDS, 1)

    def kept(call, **key):
        return (call(words, **key) != 0)[:, 0]

    layer = EmbeddingDropout(nn.Embedding.from_pretrained(ones), P)
    for call in (functools.partial(embedding_dropout, weight=ones, p=P), layer):
        assert torch.equal(kept(call, seed=8, offset=2), dropout_mask(WORDS, P, seed=8, offset=2))
        assert torch.equal(kept(call, seed=torch.tensor(8), offset=2), dropout_mask(WORDS, P, seed=8, offset=2))
        torch.manual_seed(4)
        first, second = kept(call), kept(call)
        assert not torch.equal(first, second)
        torch.manual_seed(4)
        assert torch.equal(kept(call), first)
    layer.generator = torch.Generator().manual_seed(4)
    assert torch.equal(kept(layer), first)
    by_generator = embedding_dropout(words, ones, P, generator=torch.Generator().manual_seed(4))
    assert torch.equal(by_generator[:, 0] != 0, first)


def test_masks_are_fair():
    words = torch.arange(WORDS)
    kept = torch.stack([embedding_dropout(words, torch.ones(WORDS, 1), P)[:, 0] for _ in range(4000)]) != 0
    deviation = (P * (1 - P)) ** 0.5
    assert abs(kept.double().mean() - (1 - P)) < 5 * deviation / (4000 * WORDS) ** 0.5
    assert ((kept.double().mean(0) - (1 - P)).abs() < 5 * deviation / 4000**0.5).all()
    assert (kept.T.double().corrcoef() - torch.eye(WORDS)).abs().max() < 5.5 / 4000**0.5


def test_derivatives_and_transforms():
    words, weight = indices(3, 4), numbers(WORDS, 2, dtype=torch.float64)
    call = functools.partial(CALL, words)
    kept = kept_words()[:, None].double() * oracle.scale(P, torch.float64)
    torch.testing.assert_close(torch.func.jvp(call, (weight,), (weight,))[1], embedding(words, weight * kept))
    hessian = torch.func.hessian(lambda row: (call(weight * row) ** 2).sum())(torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(hessian, torch.diag((2 * embedding(words, weight * kept) ** 2).sum((0, 1))))
    assert torch.autograd.gradgradcheck(lambda w: call(w) ** 3, weight[:, :1].clone().requires_grad_(), fast_mode=True)
    assert_same_bits(torch.vmap(lambda row: CALL(row, weight))(words), call(weight))
    assert_same_bits(torch.vmap(torch.vmap(lambda word: CALL(word, weight)))(words), call(weight))
    seeds = torch.tensor([5, 0, -1])
    by_seed = torch.vmap(lambda seed: embedding_dropout(words, weight, P, seed=seed))(seeds)
    assert_same_bits(
        by_seed, torch.stack([embedding_dropout(words, weight, P, seed=s % 2**64) for s in seeds.tolist()])
    )
    for randomness, masks in (("same", 1), ("different", 8)):
        drop = torch.vmap(lambda row: embedding_dropout(row, weight, 0.5), randomness=randomness)
        assert len(drop(torch.arange(WORDS).expand(8, WORDS)).unique(dim=0)) == masks


def test_compiles_in_one_graph():
    layer, words = EmbeddingDropout(nn.Embedding(WORDS, DIM), P), indices(4, 9)
    assert_same_bits(compiled(layer)(words, seed=SEED, offset=OFFSET), CALL(words, layer.weight))
    run = compiled(lambda words: [layer(words) for _ in range(2)])
    torch.manual_seed(6)
    first, second = run(words)
    assert not torch.equal(first, second)
    torch.manual_seed(6)
    assert all(map(torch.equal, run(words), [first, second]))
    (grad,) = torch.autograd.grad(first.sum(), layer.weight)
    assert torch.equal(
        grad.sum(1) != 0, torch.zeros(WORDS, dtype=torch.bool).index_fill(0, words[first[..., 0] != 0], True)
    )


@pytest.mark.parametrize("words", [torch.ones(3), torch.tensor([WORDS]), torch.tensor([-1])], ids=str)
def test_errors_of_indices_are_torchs(words):
    weight = numbers(WORDS, DIM)
    wanted = error_of(lambda: embedding(words, weight))
    assert wanted is not None
    assert error_of(lambda: CALL(words, weight)) == wanted


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "key", [{"p": -0.1}, {"p": "a"}, {"seed": -1}, {"seed": 1.5}, {"offset": 2**64}, {"generator": 1},
            {"seed": 1, "generator": torch.Generator()}], ids="-".join,
)  # fmt: skip
def test_errors_of_the_key_are_dropouts(key, training):
    wanted = error_of(lambda: dropout(torch.ones(4), training=training, **key))
    assert wanted is not None
    assert error_of(lambda: embedding_dropout(indices(3), numbers(WORDS, DIM), training=training, **key)) == wanted


def test_an_integer_weight_is_refused():
    with pytest.raises(TypeError, match="floating point or complex numbers, but got torch.int64"):
        embedding_dropout(indices(3), torch.ones(WORDS, 2, dtype=torch.int64), P)


def test_complex_weights():
    weight = torch.complex(numbers(WORDS, 2), numbers(WORDS, 2))
    wanted = torch.where(kept_words()[:, None], weight * oracle.scale(P, torch.float32), 0)
    assert torch.equal(CALL(torch.arange(WORDS), weight), wanted)
