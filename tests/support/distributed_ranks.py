"""What each of the processes does that train one model: all scenarios, by DistributedDataParallel and by FSDP2."""

import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import distributed, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import fastdrop

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
