"""Two processes that train one model, by DistributedDataParallel and by FSDP2, with dropouts of ours.

One pair of ranks goes through all scenarios, as importing torch takes seconds; the tests look at what they wrote.
"""

import contextlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import oracle
import pytest
import torch
from distributed_ranks import DROPOUTS, RANKS, SCENARIOS, STEPS, P, Scenario, loss_of, optimizer_of, seeded
from processes import run_python
from torch import distributed
from torch.nn import functional as F

import fastdrop
from fastdrop._keys.seeds import SEED_END

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()),
    reason="this build of torch has no torch.distributed, or no gloo in it",
)
every_scenario = pytest.mark.parametrize("name", SCENARIOS)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run the ranks to their end, or kill them, and return what each wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    call = f"import distributed_ranks; distributed_ranks.run_rank({{}}, {str(folder)!r})"
    with ThreadPoolExecutor(RANKS) as pool:
        runs = [pool.submit(run_python, call.format(rank)) for rank in range(RANKS)]
    errors = [f"rank {rank}: {run.exception()}" for rank, run in enumerate(runs) if run.exception()]
    if errors:
        pytest.fail("\n".join(errors), pytrace=False)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(RANKS)]


# Training


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
