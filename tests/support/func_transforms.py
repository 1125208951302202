"""torch.func's transforms, alone and nested: each takes a dropout and returns a function of a tensor."""

import torch
from graphs import Function


def loss_of(function: Function) -> Function:
    return lambda x: (function(x).sin() ** 3).sum()


def jvp(function: Function) -> Function:
    """Return a function's derivative along its own argument."""
    return lambda x: torch.func.jvp(function, (x,), (x + 1,))[1]


def vjp(function: Function) -> Function:
    return lambda x: torch.func.vjp(function, x)[1](function(x) + 1)[0]


def rows(function: Function) -> Function:
    """Return a function that is mapped over three rows, each of x's strides."""
    return lambda x: torch.vmap(lambda row, k: k * function(row))(x.expand(3, *x.shape), torch.arange(1.0, 4.0))


grad, jacrev, jacfwd, hessian = torch.func.grad, torch.func.jacrev, torch.func.jacfwd, torch.func.hessian
TRANSFORMS: dict[str, Function] = {  # of a dropout -> of a tensor
    "grad": lambda d: grad(loss_of(d)),
    "vjp": vjp,
    "jvp": jvp,
    "jacrev": jacrev,
    "jacfwd": jacfwd,
    "hessian": lambda d: hessian(loss_of(d)),
    "rows": rows,
    "grad of grad": lambda d: grad(lambda x: (grad(loss_of(d))(x) ** 2).sum()),
    "grad of jvp": lambda d: grad(lambda x: jvp(loss_of(d))(x)),
    "jvp of grad": lambda d: jvp(grad(loss_of(d))),
    "jvp of jvp": lambda d: jvp(jvp(loss_of(d))),
    "jvp of vjp": lambda d: jvp(vjp(d)),
    "jacrev of jacrev": lambda d: jacrev(jacrev(loss_of(d))),
    "jacfwd of jacfwd": lambda d: jacfwd(jacfwd(loss_of(d))),
    "jacrev of jacfwd": lambda d: jacrev(jacfwd(loss_of(d))),
    "rows of grad": lambda d: rows(grad(loss_of(d))),
    "grad of rows": lambda d: grad(lambda x: (rows(d)(x) ** 2).sum()),
    "jvp of rows": lambda d: jvp(rows(d)),
    "rows of rows": lambda d: rows(rows(d)),
    "three levels": lambda d: jvp(jvp(grad(loss_of(d)))),
    "functionalize": lambda d: torch.func.functionalize(grad(loss_of(d))),
    "linearize": lambda d: lambda x: torch.func.linearize(d, x)[1](x + 1),
}
