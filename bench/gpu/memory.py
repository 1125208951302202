"""Section: bytes per element that stay for the backward, by autograd's hooks and by the allocator."""

from typing import Any, Final

import torch
from torch.autograd.graph import saved_tensors_hooks

from bench.gpu import providers
from bench.gpu.device import Device
from bench.gpu.providers import Dropout
from bench.gpu.report import failures
from bench.gpu.session import Outcome, Session, reason
from bench.tables import grid, name_of, short

SIZE: Final = 1 << 24  # every tensor is whole blocks of the allocator, even a mask of a byte per element
KINDS: Final = {
    "saved": "saved by\nautograd",
    "kept": "in use after the\nforward, beside y",
    "peak": "peak of both passes,\nbeside y and dx",
}


def saved_bytes(dropout: Dropout, x: torch.Tensor) -> int:
    """Return the bytes of all tensors that a dropout saves for its backward."""
    sizes = []

    def pack(saved: torch.Tensor) -> torch.Tensor:
        sizes.append(saved.nbytes)
        return saved

    with saved_tensors_hooks(pack, lambda saved: saved):
        dropout(x)
    return sum(sizes)


def measure(device: Device, dropout: Dropout, x: torch.Tensor) -> dict[str, float]:
    """Return the bytes per element of all `KINDS`."""
    grad = torch.ones_like(x, requires_grad=False)
    torch.autograd.grad(dropout(x), x, grad)  # what only a first call needs is there
    device.release()
    before = device.allocated()
    y = dropout(x)
    kept = device.allocated() - before - y.nbytes
    (dx,) = torch.autograd.grad(y, x, grad)
    peak = device.peak() - before - y.nbytes - dx.nbytes
    found = {"saved": saved_bytes(dropout, x), "kept": kept, "peak": peak}
    return {kind: count / x.numel() for kind, count in found.items()}


def section(session: Session) -> Outcome:
    """Measure all dropouts, for every dtype."""
    rows: list[dict[str, Any]] = []
    failed: list[tuple[str, str, str]] = []
    for dtype in filter(lambda dtype: session.begins(name_of(dtype)), session.dtypes):
        x = providers.buffers(session.device, dtype, SIZE, 1, backward=True).xs[0]
        dropouts, missing = providers.built()
        for name, dropout in dropouts.items():
            try:
                rows.append({"dtype": name_of(dtype), "name": name, **measure(session.device, dropout, x)})
            except Exception as error:  # whatever a compiler or a kernel says
                missing[name] = reason(error)
        failed += [(name_of(dtype), name, why) for name, why in missing.items()]
    title = f"bytes per element for the backward, {short(SIZE)} elements"
    cells = [[row["dtype"], row["name"], *(f"{row[kind]:.3f}" for kind in KINDS)] for row in rows]
    table = grid(title, ["", "dropout", *KINDS.values()], cells, texts=2)
    return Outcome({"size": SIZE, "rows": rows, "failed": failed}, [table, *failures(failed)])
