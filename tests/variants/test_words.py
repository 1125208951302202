"""Dropout of words by their indices, side by side with NumPy."""

import functools

import numpy as np
import pytest
import torch
from mask_reference import keep_mask
from oracle import error_of
from torch._subclasses.fake_tensor import FakeTensorMode

from fastdrop import WordDropout, mc_dropout
from fastdrop.functional import dropout, dropout_mask, word_dropout

P, SEED, OFFSET, UNKNOWN = 0.3, 2**63 + 11, 5, 1
OLD = pytest.mark.skipif(torch.__version__ < (2, 13), reason="older torch.where takes no uint16")
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, pytest.param(torch.uint16, marks=OLD)]
compiled = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)
    torch._dynamo.reset()


def wanted_of(words: torch.Tensor, seed: int = SEED, offset: int = OFFSET, p: float = P) -> torch.Tensor:
    kept = keep_mask(np.arange(words.numel()), p, seed, offset).reshape(words.shape)
    return torch.from_numpy(np.where(kept, words.numpy(), np.array(UNKNOWN, words.numpy().dtype)))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (7,), (4, 9), (2, 3, 1000)])
def test_result(shape, dtype):
    words = torch.randint(2, 100, shape).to(dtype)
    before = words.clone()
    y = word_dropout(words, P, UNKNOWN, seed=SEED, offset=OFFSET)
    assert y.dtype is dtype and torch.equal(y, wanted_of(words))
    assert torch.equal(words, before)
    assert torch.equal(WordDropout(P, UNKNOWN)(words, seed=SEED, offset=OFFSET), y)


def test_any_strides_are_counted_row_by_row():
    words = torch.randint(2, 100, (8, 6))
    for view in (words.t(), words[::2, 1:], words[0].expand(5, 6)):
        y = word_dropout(view, P, UNKNOWN, seed=SEED, offset=OFFSET)
        assert torch.equal(y, wanted_of(view.contiguous()))
        assert torch.equal(y == UNKNOWN, ~dropout_mask(view.shape, P, seed=SEED, offset=OFFSET))


def test_identity_and_certainty():
    words = torch.randint(2, 100, (4, 9))
    assert word_dropout(words, P, UNKNOWN, False) is words
    assert word_dropout(words, 0, UNKNOWN) is words
    assert WordDropout(P, UNKNOWN).eval()(words) is words
    assert torch.equal(word_dropout(words, 1, UNKNOWN), torch.full_like(words, UNKNOWN))


def test_keys():
    words, layer = torch.full((300,), 9), WordDropout(0.5, -7)
    torch.manual_seed(4)
    first, second = layer(words), layer(words)
    assert set(first.tolist()) == {9, -7}
    assert not torch.equal(first, second)
    torch.manual_seed(4)
    assert torch.equal(word_dropout(words, 0.5, -7), first)
    layer.generator = torch.Generator().manual_seed(4)
    assert torch.equal(layer(words), first)
    assert torch.equal(word_dropout(words, 0.5, -7, generator=torch.Generator().manual_seed(4)), first)
    assert torch.equal(layer(words, seed=torch.tensor(3), offset=1), layer(words, seed=3, offset=1))
    assert not torch.equal(layer(words, seed=3, offset=1), layer(words, seed=3))


@pytest.mark.parametrize("p", [0.01, 0.3, 0.9])
def test_masks_are_fair(p):
    words, calls = torch.full((50,), 9), 4000
    dropped = torch.stack([word_dropout(words, p, 0) == 0 for _ in range(calls)]).double()
    deviation = (p * (1 - p)) ** 0.5
    assert abs(dropped.mean() - p) < 5 * deviation / (calls * 50) ** 0.5
    assert ((dropped.mean(0) - p).abs() < 5 * deviation / calls**0.5).all()


def test_compiles_in_one_graph():
    words, layer = torch.randint(2, 100, (4, 90)), WordDropout(P, UNKNOWN)
    assert torch.equal(compiled(layer)(words, seed=SEED, offset=OFFSET), wanted_of(words))
    run = compiled(lambda words: [layer(words) for _ in range(2)])
    torch.manual_seed(6)
    first, second = run(words)
    assert not torch.equal(first, second)
    torch.manual_seed(6)
    assert all(map(torch.equal, run(words), [first, second]))


def test_vmap():
    words = torch.full((3, 64), 9)
    keyed = torch.vmap(lambda row: word_dropout(row, P, UNKNOWN, seed=SEED, offset=OFFSET))(words)
    assert torch.equal(keyed, wanted_of(words[0]).expand(3, 64))
    seeds = torch.tensor([5, 0, -1])
    by_seed = torch.vmap(lambda seed: word_dropout(words[0], P, UNKNOWN, seed=seed, offset=OFFSET))(seeds)
    assert torch.equal(by_seed, torch.stack([wanted_of(words[0], seed % 2**64) for seed in seeds.tolist()]))
    for randomness, masks in (("same", 1), ("different", 3)):
        rows = torch.vmap(lambda row: word_dropout(row, 0.5, 0), randomness=randomness)(words)
        assert len(rows.unique(dim=0)) == masks
    with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
        torch.vmap(lambda row: word_dropout(row, 0.5, 0))(words)


def test_fake_and_meta_tensors():
    with FakeTensorMode() as mode:
        y = word_dropout(mode.from_tensor(torch.ones(3, 4, dtype=torch.int32)), P, 0)
        assert (y.shape, y.dtype) == ((3, 4), torch.int32)
    assert word_dropout(torch.ones(3, dtype=torch.int64, device="meta"), P, 0).is_meta


def test_monte_carlo_dropout_drops_words():
    layer, words = torch.nn.Sequential(WordDropout(0.5, 0)).eval(), torch.full((300,), 9)
    with mc_dropout(layer):
        assert not torch.equal(layer(words), layer(words))
    assert layer(words) is words


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "key", [{"p": -0.1}, {"p": "a"}, {"seed": -1}, {"seed": 1.5}, {"offset": 2**64}, {"generator": 1},
            {"seed": 1, "generator": torch.Generator()}], ids="-".join,
)  # fmt: skip
def test_errors_of_the_key_are_dropouts(key, training):
    wanted = error_of(lambda: dropout(torch.ones(4), training=training, **key))
    assert wanted is not None
    words = torch.ones(4, dtype=torch.int64)
    assert error_of(lambda: word_dropout(words, **{"p": P, **key}, value=0, training=training)) == wanted


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("words", "value", "error", "text"),
    [
        (torch.ones(3), 0, TypeError, "a tensor of integers, but got torch.float32"),
        (torch.ones(3, dtype=torch.bool), 0, TypeError, "a tensor of integers, but got torch.bool"),
        (torch.ones(3, dtype=torch.complex64), 0, TypeError, "a tensor of integers, but got torch.complex64"),
        ([1, 2], 0, TypeError, r"a tensor of integers, but got list: \[1, 2\]"),
        (torch.tensor([1, 2]), 0.5, TypeError, "value has to be an integer, but got float: 0.5"),
    ],
)
def test_errors(words, value, error, text, training):
    with pytest.raises(error, match=text):
        word_dropout(words, P, value, training)


def test_a_value_beyond_the_dtype_is_refused():
    with pytest.raises(RuntimeError, match="uint8_t without overflow"):
        word_dropout(torch.ones(3, dtype=torch.uint8), P, 300)


def test_module_checks_when_it_is_made():
    assert repr(WordDropout(0.25, 3)) == "WordDropout(p=0.25, value=3)"
    with pytest.raises(ValueError, match="between 0 and 1, but got 2"):
        WordDropout(2, 0)
    with pytest.raises(TypeError, match="value has to be an integer, but got str: 'unk'"):
        WordDropout(0.5, "unk")
