"""Which seed a call gets: the one that it was given, or a fresh one."""

import torch

from fastdrop._keys import checkpoints, seeds
from fastdrop._keys.key import Seed
from fastdrop._ops import modes


def resolve(x: torch.Tensor, seed: Seed | None, generator: torch.Generator | None, watched: bool = False) -> Seed:
    """Return the seed of a dropout of x: the given one as it is now, or a fresh one, seen by no mode.

    A checkpoint's second run may be watched by a mode where its first was not, and the other way round.
    """
    if not watched and modes.in_dispatch_mode():
        with modes.unseen():
            return resolve(x, seed, generator, watched=True)
    if isinstance(seed, torch.Tensor):
        return seeds.as_kernel_seed(x, seed.detach().clone() if seed.is_cuda else seed)
    if seed is not None:
        return seed
    is_users = generator is not None
    if generator is None and x.is_cuda:
        generator = torch.cuda.default_generators[x.get_device()]
    # A mode can be that of a checkpoint which selects what is computed again, where torch's generators may be too.
    fresh = checkpoints.repeated(generator, seeds.draw) if is_users or watched else seeds.draw(generator)
    return seeds.as_kernel_seed(x, fresh)


def draw_in_graph(generator: torch.Generator | None, x: torch.Tensor) -> torch.Tensor:
    """Return a fresh seed, where x is, by an operator that all graphs and vmap know."""
    if generator is None:
        device = x.device if x.is_cuda else torch.device("cpu")
    else:
        if not modes.is_compiling():
            checkpoints.refuse(generator)
        device = generator.device
    # Inductor leaves randint to torch where a generator is named, even None: so compiled code draws as eager code.
    return torch.randint(seeds.SEED_END, (), dtype=torch.int64, device=device, generator=generator)
