"""Section: a chain of dropouts, forward and backward, as a CUDA graph: the time of its replays, and its masks.

A graph whose seeds were frozen at the capture would repeat one mask. With an input and a gradient of ones, output and
gradient are equal where the backward has the forward's masks.
"""

from typing import Any, Final

import torch

from bench.gpu import providers
from bench.gpu.device import Device
from bench.gpu.providers import Dropout
from bench.gpu.report import failures
from bench.gpu.session import Outcome, Session, reason
from bench.gpu.timing import interleaved
from bench.tables import grid, name_of, short
from fastdrop.bench.providers import P

SIZE: Final = 1 << 16
LENGTH: Final = 8
NAMES: Final = ("native", "fastdrop")
CHECKS: Final = {
    "fresh_masks": "replays' masks differ",
    "same_masks": "backward has\nforward's masks",
    "independent": "masks of the chain\nare independent",
}


class Chain:
    """A captured chain of dropouts; its input and gradient are kept, for every replay reads them."""

    def __init__(self, device: Device, dropout: Dropout, dtype: torch.dtype) -> None:
        self._x = torch.ones(SIZE, dtype=dtype, device=device.place, requires_grad=True)
        self._grad = torch.ones_like(self._x, requires_grad=False)
        self._dropout = dropout
        self.replay, self.results = device.capture(self._run)

    def _run(self) -> tuple[torch.Tensor, torch.Tensor]:
        y = self._x
        for _ in range(LENGTH):
            y = self._dropout(y)
        return y.detach(), torch.autograd.grad(y, self._x, self._grad)[0]

    def timed(self, _: int) -> None:
        """Replay; what is timed."""
        self.replay()


def check(device: Device, chain: Chain) -> dict[str, bool]:
    """Return what holds of a chain's masks in two replays."""
    replays = []
    for _ in range(2):
        chain.replay()
        device.synchronize()
        replays.append([result.clone() for result in chain.results])
    kept = (replays[0][0] != 0).double().mean().item()
    chance = (1 - P) ** LENGTH
    return {
        "fresh_masks": not torch.equal(replays[0][0], replays[1][0]),
        "same_masks": all(torch.equal(y, dx) for y, dx in replays),
        "independent": abs(kept - chance) < 6 * (chance * (1 - chance) / SIZE) ** 0.5,
    }


def measure(session: Session, dtype: torch.dtype) -> list[dict[str, Any]]:
    """Return a row for each dropout."""
    rows: dict[str, dict[str, Any]] = {name: {"dtype": name_of(dtype), "name": name} for name in NAMES}
    chains: dict[str, Chain] = {}
    for name in NAMES:
        try:
            chain = Chain(session.device, providers.BUILDERS[name](), dtype)
            rows[name] |= check(session.device, chain)
            chains[name] = chain
        except Exception as error:  # what cannot be captured
            rows[name]["failed"] = reason(error)
    replays = {name: chain.timed for name, chain in chains.items()}
    for name, taken in interleaved(session.device, replays, 1, session.effort).items():
        rows[name] |= {**taken.timing._asdict(), "host_bound": taken.host_bound}
    return list(rows.values())


def section(session: Session) -> Outcome:
    """Measure and check every dtype."""
    rows = [row for dtype in session.dtypes if session.begins(name_of(dtype)) for row in measure(session, dtype)]
    title = f"CUDA graph of {LENGTH} dropouts of {short(SIZE)} elements, forward and backward"
    cells = [_cells(row) for row in rows if "seconds" in row]
    failed = [(row["dtype"], row["name"], row["failed"]) for row in rows if "failed" in row]
    table = grid(title, ["", "dropout", "replay, µs", *CHECKS.values()], cells, texts=2)
    return Outcome({"size": SIZE, "length": LENGTH, "rows": rows}, [table, *failures(failed)])


def _cells(row: dict[str, Any]) -> list[str]:
    said = ["yes" if row[check] else "NO" for check in CHECKS]
    return [row["dtype"], row["name"], f"{row['seconds'] * 1e6:.4g}", *said]
