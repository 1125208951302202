"""Two processes that train one model, by DistributedDataParallel and by FSDP2, with dropouts of ours.

One pair of ranks goes through all scenarios, as importing torch takes seconds; the tests look at what they wrote.
"""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import oracle
import pytest
import torch
from processes import run_python
from torch import distributed, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import fastdrop
from fastdrop._seeds import SEED_END

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()),
    reason="this build of torch has no torch.distributed, or no gloo in it",
)

RANKS = 2
HANGS = timedelta(seconds=120)  # after which a rank stops waiting for the other
STEPS = 12
P = 0.25


class Block(nn.Module):
    """Four dropouts: a module's, attention's, a function's, and a module's in place."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(16, 32)
        self.dropout = nn.Dropout(P)
        self.attention = nn.MultiheadAttention(32, 4, dropout=P, batch_first=True)
        self.out = nn.Linear(32, 32)
        self.inplace = nn.Dropout(P, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout(self.into(x))
        x = x + F.dropout(self.attention(x, x, x, need_weights=False)[0], P)
        return self.inplace(self.out(x)).tanh()


class Net(nn.Module):
    """The block, checkpointed or not, and a layer on top; perhaps another that is never used."""

    def __init__(self, checkpointed: bool = False, unused: bool = False) -> None:
        super().__init__()
        self.checkpointed = checkpointed
        self.block = Block()
        self.head = nn.Linear(32, 1)
        self.unused = nn.Linear(32, 1) if unused else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = checkpoint(self.block, x, use_reentrant=False) if self.checkpointed else self.block(x)
        return self.head(x)


def ddp(model: nn.Module, **options: Any) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model, **options)


def fsdp(model: nn.Module, **options: Any) -> nn.Module:
    from torch.distributed.fsdp import fully_shard  # here, as builds without torch.distributed have none

    mesh = distributed.init_device_mesh("cpu", (RANKS,))
    fully_shard(model.block, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def fsdp_in_bfloat16(model: nn.Module) -> nn.Module:
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return fsdp(model, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32))


class Scenario(NamedTuple):
    """How a Net is made and trained: with `install`, or replaced before or after it is wrapped."""

    wrap: Callable[[nn.Module], nn.Module]
    replaced: str = ""
    checkpointed: bool = False
    unused: bool = False
    dtype: torch.dtype = torch.float32

    def model(self) -> Net:
        torch.manual_seed(1234)  # the same on all ranks
        return Net(self.checkpointed, self.unused)


SCENARIOS = {
    "ddp": Scenario(ddp),
    "ddp, replaced": Scenario(ddp, replaced="after"),
    "ddp, checkpointed": Scenario(ddp, checkpointed=True),
    "ddp, static graph, checkpointed": Scenario(partial(ddp, static_graph=True), checkpointed=True),
    "ddp, unused parameters": Scenario(partial(ddp, find_unused_parameters=True), unused=True),
    "fsdp": Scenario(fsdp),
    "fsdp, replaced": Scenario(fsdp, replaced="before"),
    "fsdp, checkpointed": Scenario(fsdp, checkpointed=True),
    "fsdp, bfloat16": Scenario(fsdp_in_bfloat16, dtype=torch.bfloat16),
}
every_scenario = pytest.mark.parametrize("name", SCENARIOS)


class Trained(NamedTuple):
    """What a rank saw."""

    losses: list[float]
    ours: int  # dropouts in the last step's graph
    parameters: dict[str, torch.Tensor]  # after it, in full
    held: int  # elements of them in this rank
    seeded_equally: torch.Tensor  # the trained model's outputs for one input
    seeded_differently: torch.Tensor


def batch(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(16, 8, 16, generator=torch.Generator().manual_seed(rank))
    return x, x.sum(-1, keepdim=True)


def loss_of(model: Callable[[torch.Tensor], torch.Tensor], rank: int) -> torch.Tensor:
    x, target = batch(rank)
    return F.mse_loss(model(x).float(), target)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05)


def seeded(seed: int, function: Callable[..., torch.Tensor], *args: Any) -> torch.Tensor:
    torch.manual_seed(seed)
    return function(*args)


def count_ours(y: torch.Tensor) -> int:
    """Return how many nodes of y's graph are dropouts of ours."""
    seen, found = set(), [y.grad_fn]
    while found:
        node = found.pop()
        if node is not None and node not in seen:
            seen.add(node)
            found.extend(parent for parent, _ in node.next_functions)
    return sum("DropFunction" in node.name() for node in seen)


# What a rank does


def run_rank(rank: int, folder: str) -> None:
    """Go through all scenarios and write what came out; started by `ranks`."""
    warnings.filterwarnings("error", module="fastdrop")
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", RANKS)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=RANKS, timeout=HANGS)
    seen: dict[str, Any] = {"before": dropouts(rank)}
    fastdrop.install()
    seen["installed"] = dropouts(rank)
    seen |= {name: train(rank, one) for name, one in SCENARIOS.items() if not one.replaced}
    fastdrop.uninstall()
    seen["uninstalled"] = dropouts(rank)
    seen |= {name: train(rank, one) for name, one in SCENARIOS.items() if one.replaced}
    torch.save(seen, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def train(rank: int, scenario: Scenario) -> Trained:
    model = scenario.model()
    if scenario.replaced == "before":
        fastdrop.replace(model)
    wrapped = scenario.wrap(model)
    if scenario.replaced == "after":
        fastdrop.replace(wrapped)
    optimizer = optimizer_of(model)
    losses = []
    torch.manual_seed(rank)
    for _ in range(STEPS):
        loss = loss_of(wrapped, rank)
        ours = count_ours(loss)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    parameters = {name: full(p) for name, p in model.named_parameters()}
    held = sum(local(p).numel() for p in model.parameters())
    with torch.no_grad():
        outputs = [seeded(seed, wrapped, batch(0)[0]) for seed in (0, rank)]
    return Trained(losses, ours, parameters, held, *outputs)


def full(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.detach().full_tensor() if hasattr(parameter, "full_tensor") else parameter.detach()


def local(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter


def dropouts(rank: int) -> dict[str, Any]:
    """Return what F.dropout makes of plain and of distributed tensors."""
    return {
        "plain": seeded(rank, F.dropout, torch.ones(4096), P),
        "infinities": seeded(rank, F.dropout, torch.full((4096,), torch.inf), P),
        "model": count_ours(loss_of(ddp(Net()), rank)),
        "distributed": distributed_dropouts(rank),
    }


DROPOUTS = {
    "dropout": F.dropout,
    "in place": partial(F.dropout, inplace=True),
    "of channels": F.dropout1d,
    "our function": fastdrop.functional.dropout,
}


def distributed_dropouts(rank: int) -> dict[str, list[torch.Tensor]]:
    """Return this rank's part of the dropouts of a DTensor, and of its gradients: each sharded, then replicated."""
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    mesh = distributed.init_device_mesh("cpu", (RANKS,))
    found: dict[str, list[torch.Tensor]] = {name: [] for name in DROPOUTS}
    for name, dropout in DROPOUTS.items():
        for placement in (Shard(0), Replicate()):
            x = distribute_tensor(torch.ones(8, 16, 32), mesh, [placement]).requires_grad_()
            y = seeded(rank, dropout, x.clone(), P)
            assert type(y) is DTensor and y.placements == (placement,)
            y.sum().backward()
            found[name] += [y.to_local().detach(), x.grad.to_local()]
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run the ranks to their end, or kill them, and return what each wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    call = f"import test_distributed; test_distributed.run_rank({{}}, {str(folder)!r})"
    with ThreadPoolExecutor(RANKS) as pool:
        runs = [pool.submit(run_python, call.format(rank)) for rank in range(RANKS)]
    errors = [f"rank {rank}: {run.exception()}" for rank, run in enumerate(runs) if run.exception()]
    if errors:
        pytest.fail("\n".join(errors), pytrace=False)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(RANKS)]


# Training


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute as the ranks do: on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained_in_one_process(scenario: Scenario) -> dict[str, torch.Tensor]:
    """Return the parameters of a Net trained on all ranks' batches, each with the masks of its rank's seed."""
    model = scenario._replace(checkpointed=False).model()
    if scenario.replaced:
        fastdrop.replace(model)
    optimizer = optimizer_of(model)

    def apply(x: torch.Tensor) -> torch.Tensor:
        parameters = {name: p.to(scenario.dtype) for name, p in model.named_parameters()}
        return torch.func.functional_call(model, parameters, x.to(scenario.dtype))

    states = [seeded(rank, torch.get_rng_state) for rank in range(RANKS)]
    for _ in range(STEPS):
        for rank in range(RANKS):
            torch.set_rng_state(states[rank])
            (loss_of(apply, rank) / RANKS).backward()
            states[rank] = torch.get_rng_state()
        optimizer.step()
        optimizer.zero_grad()
    return {name: p.detach() for name, p in model.named_parameters()}


@every_scenario
def test_the_loss_falls(ranks, name):
    for rank in ranks:
        losses = rank[name].losses
        assert losses[-1] < 0.5 * losses[0], losses


@every_scenario
def test_all_ranks_hold_the_same_parameters(ranks, name):
    first, *others = [rank[name].parameters for rank in ranks]
    for other in others:
        assert first.keys() == other.keys()
        for key in first:
            oracle.assert_same_bits(other[key], first[key])


@every_scenario
def test_fsdp_shares_the_parameters_out(ranks, name):
    held = [rank[name].held for rank in ranks]
    whole = sum(p.numel() for p in SCENARIOS[name].model().parameters())
    assert sum(held) == whole if name.startswith("fsdp") else held == [whole] * RANKS


@every_scenario
def test_parameters_are_those_of_one_process(ranks, one_thread, name):
    scenario = SCENARIOS[name]
    with contextlib.nullcontext() if scenario.replaced else fastdrop.accelerated():
        want = trained_in_one_process(scenario)
    tolerance = {"rtol": 0, "atol": 1e-5 if scenario.dtype is torch.float32 else 1e-2}
    torch.testing.assert_close(ranks[0][name].parameters, want, **tolerance)


@every_scenario
def test_dropouts_of_the_model_are_ours(ranks, name):
    wanted = 2 if SCENARIOS[name].replaced else 4  # `replace` reaches the modules
    assert [rank[name].ours for rank in ranks] == [wanted] * RANKS


@every_scenario
def test_masks_follow_the_seed_of_the_rank(ranks, name):
    one, other = (rank[name] for rank in ranks)
    oracle.assert_same_bits(one.seeded_equally, other.seeded_equally)
    oracle.assert_same_bits(one.seeded_equally, one.seeded_differently)  # 0 is the seed of rank 0
    assert (one.seeded_differently != other.seeded_differently).float().mean() > 0.9


# Installed and uninstalled


def test_masks_of_a_rank_are_those_of_its_seed(ranks):
    x = torch.ones(4096)
    for rank, seen in enumerate(ranks):
        torch.manual_seed(rank)
        oracle.assert_same_bits(seen["installed"]["plain"], oracle.dropout(x, P, int(torch.randint(SEED_END, ()))))
    one, other = (seen["installed"]["plain"] for seen in ranks)
    assert not torch.equal(one, other)


def test_install_and_uninstall_work_in_each_rank(ranks):
    for rank, seen in enumerate(ranks):
        native = seeded(rank, F.dropout, torch.ones(4096), P)
        oracle.assert_same_bits(seen["before"]["plain"], native)
        oracle.assert_same_bits(seen["uninstalled"]["plain"], native)
        for when, dropped in (("before", "nan"), ("installed", "0"), ("uninstalled", "nan")):
            infinities = seen[when]["infinities"]
            assert torch.equal(infinities.isnan(), (native == 0) & (dropped == "nan")), when
            assert (infinities == 0).any() == (dropped == "0"), when
        assert [seen[when]["model"] for when in ("before", "installed", "uninstalled")] == [0, 4, 0]


def test_distributed_tensors_go_to_torch(ranks):
    for seen in ranks:
        native = seen["before"]["distributed"]
        native = native | {"our function": native["dropout"]}
        for when, name in itertools.product(("before", "installed", "uninstalled"), DROPOUTS):
            for y, want in zip(seen[when]["distributed"][name], native[name], strict=True):
                assert (y == 0).any()
                oracle.assert_same_bits(y, want)
