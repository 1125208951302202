"""Dropout of weights that are computed: by hooks before a forward, parametrizations and pruning, early and late."""

import copy

import oracle
import pytest
import torch
from oracle import assert_same_bits
from torch import nn
from torch.nn.functional import linear
from torch.nn.utils import parametrizations, prune

from fastdrop import DropConnect
from fastdrop.functional import dropout

P, SEED, OFFSET = 0.3, 2**63 + 11, 5
NORMS = {
    "weight_norm": nn.utils.weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "parametrized weight_norm": parametrizations.weight_norm,
    "parametrized spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "pruning": lambda module, name="weight": prune.l1_unstructured(module, name, 0.25),
}
EACH = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def settled(norm) -> nn.Linear:
    """Return a linear layer with a norm whose power iteration, if it has one, has come to its end."""
    layer = norm(nn.Linear(6, 6))
    for _ in range(300):
        layer(torch.ones(6))
    return layer


def result_and_gradients(run, module: nn.Module) -> list[torch.Tensor]:
    y = run()
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [y, *torch.autograd.grad(y.square().sum(), parameters)]


@EACH
@pytest.mark.parametrize("first", ["norm", "DropConnect"])
def test_the_computed_weight_is_dropped(norm, first):
    if first == "norm":
        module = settled(norm)
        layer = DropConnect(module, P)
    else:
        module = nn.Linear(6, 6)
        layer = DropConnect(module, P)
        norm(layer.wrapped)
        for _ in range(300):
            module(torch.ones(6))
    assert layer.weights == ("weight",)
    assert list(layer.state_dict()) == list(module.state_dict())
    x = numbers(5, 6)

    def masked() -> torch.Tensor:
        module(x)  # a hook computes the weight
        weight = module.weight
        kept = oracle.keep(weight.detach(), P, SEED, OFFSET)
        return linear(x, torch.where(kept, weight / (1 - P), 0), module.bias)

    wanted = result_and_gradients(masked, module)
    found = result_and_gradients(lambda: layer(x, seed=SEED, offset=OFFSET), module)
    for one, other in zip(found, wanted, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert not torch.equal(layer(x), layer(x))
    torch.testing.assert_close(layer.eval()(x), module.eval()(x))


@EACH
def test_all_that_reads_the_weight_sees_the_same_in_a_call(norm):
    class Twice(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert (self.weight == 0).any()
            return super().forward(x) - linear(x, self.weight, self.bias)

    layer, seen = DropConnect(norm(Twice(32, 32)), 0.5), []
    layer.wrapped.register_forward_hook(lambda module, *_: seen.append(module.weight))
    assert layer(numbers(4, 32)).count_nonzero() == 0
    assert (seen[0] == 0).double().mean() > 0.3


@EACH
def test_of_a_recurrent_layer_and_of_a_child(norm):
    lstm = DropConnect(norm(nn.LSTM(4, 4), "weight_hh_l0"), 0.5)
    assert lstm.weights == ("weight_hh_l0",)
    x = numbers(5, 2, 4)
    assert not torch.equal(lstm(x)[0], lstm(x)[0])
    assert not torch.equal(lstm(x, seed=1)[0], lstm(x, seed=2)[0])
    block = DropConnect(nn.Sequential(nn.Linear(4, 4), norm(nn.Linear(4, 4, bias=False))), 1.0)
    assert block.weights == ("0.weight", "1.weight")
    assert block(x).count_nonzero() == 0


def test_a_recurrent_layers_result_is_that_of_the_masked_weight():
    plain = nn.LSTM(4, 4)
    layer, x = DropConnect(parametrizations.weight_norm(copy.deepcopy(plain), "weight_hh_l0"), P), numbers(5, 2, 4)
    with torch.no_grad():
        plain.weight_hh_l0.copy_(oracle.dropout(layer.wrapped.weight_hh_l0, P, SEED, OFFSET))
    torch.testing.assert_close(layer(x, seed=SEED, offset=OFFSET)[0], plain(x)[0])


def test_a_hook_of_the_users():
    class Scaled(nn.Linear):
        def __init__(self) -> None:
            super().__init__(8, 8, bias=False)
            self.raw = nn.Parameter(self.weight.detach())
            del self.weight
            self.weight = self.raw * 2
            self.register_forward_pre_hook(lambda module, _: setattr(module, "weight", module.raw * 2))

    layer = DropConnect(Scaled(), P, ["weight"])
    wanted = oracle.dropout(layer.raw * 2, P, SEED, OFFSET)
    assert_same_bits(layer(torch.eye(8), seed=SEED, offset=OFFSET).t().contiguous(), wanted)
    assert (layer.wrapped.weight != 0).all()


def test_a_part_of_a_weight_can_be_named():
    layer = DropConnect(nn.utils.weight_norm(nn.Linear(8, 8, bias=False)), P, ["weight_g"])
    g = oracle.dropout(layer.weight_g, P, SEED, OFFSET)
    wanted = g * layer.weight_v / layer.weight_v.norm(dim=1, keepdim=True)
    torch.testing.assert_close(layer(torch.eye(8), seed=SEED, offset=OFFSET).t(), wanted)


def test_pruning_of_the_wrapper_itself_and_its_end():
    layer = DropConnect(nn.Linear(8, 8, bias=False), 0.5)
    prune.l1_unstructured(layer, "weight", 0.25)
    assert sorted(layer.state_dict()) == ["weight_mask", "weight_orig"]
    assert (layer.weight == 0).sum() == 16
    assert (layer(torch.eye(8)) == 0).sum() > 20
    prune.remove(layer, "weight")
    assert list(layer.state_dict()) == ["weight"]
    assert layer.weight is layer.wrapped.weight
    assert (layer.weight == 0).sum() == 16
    with pytest.raises(TypeError, match="DropConnect wraps can be parametrized, not itself"):
        parametrizations.weight_norm(layer)


def test_copies_of_a_parametrized_one():
    layer = DropConnect(parametrizations.weight_norm(nn.Linear(8, 8)), P)
    layer(numbers(2, 8)).sum().backward()
    twin, x = copy.deepcopy(layer), numbers(2, 8)
    assert torch.equal(twin(x, seed=1), layer(x, seed=1))


@EACH
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of the compiler, for any break
@pytest.mark.sampled(2)
def test_compiled_code_leaves_it_to_python(norm):
    torch._dynamo.reset()
    layer, x = DropConnect(settled(norm), P), numbers(3, 6)
    compiled = torch.compile(layer, backend="eager")
    torch.testing.assert_close(compiled(x, seed=SEED), layer(x, seed=SEED))
    assert not torch.equal(compiled(x), compiled(x))
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="a weight that DropConnect drops is computed"):
        torch.compile(layer, backend="eager", fullgraph=True)(x)


def test_both_names_of_a_tied_weight_are_one():
    block = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    block[1].weight = block[0].weight
    layer, x = DropConnect(block, P, ["0.weight", "1.weight"]), numbers(3, 8)
    kept = dropout(block[0].weight, P, seed=SEED)
    wanted = linear(linear(x, kept), kept)
    assert_same_bits(layer(x, seed=SEED), wanted)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(layer, backend="aot_eager", fullgraph=True)(x, seed=SEED), wanted)


@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.LazyLinear(8), ValueError, "LazyLinear has parameters without a size: call it once before"),
        (lambda: nn.Sequential(nn.LazyLinear(8)), ValueError, "Sequential has parameters without a size"),
        (lambda: nn.Sequential(torch.jit.script(nn.Linear(2, 2))), TypeError, "no weight of RecursiveScriptModule can"),
        (lambda: torch.compile(nn.Linear(2, 2)), TypeError, "no weight of OptimizedModule can be dropped"),
    ],
)
def test_what_cannot_be_dropped_is_said_at_once(make, error, text):
    with pytest.raises(error, match=text):
        DropConnect(make())


def test_a_lazy_layer_that_has_been_called():
    module = nn.LazyLinear(8)
    module(torch.ones(3))
    assert not torch.equal(*(DropConnect(module)(torch.ones(3)) for _ in range(2)))


def test_a_forward_bound_to_the_module_is_never_run_with_whole_weights():
    layer = DropConnect(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)))
    inner = layer.wrapped[0]
    inner.forward = inner.forward
    with pytest.raises(TypeError, match="no weight of Linear can be dropped"):
        layer(torch.ones(8))
    layer.weights = ["1.weight"]
    assert not torch.equal(layer(torch.ones(8)), layer(torch.ones(8)))
    layer = DropConnect(nn.Linear(8, 8, bias=False), 0.5)
    layer.wrapped.compile(backend="eager")  # it runs as it is
    assert (layer(torch.eye(8)) == 0).any()
