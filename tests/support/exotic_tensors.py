"""Tensors of all kinds, and what can be said of any of them."""

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode


class Subclass(torch.Tensor):
    """A subclass that does nothing."""


class Uninterested(torch.Tensor):
    """A subclass whose operators return plain tensors."""

    __torch_function__ = torch._C._disabled_torch_function_impl


class Wrapper(torch.Tensor):
    """A subclass without memory, around a tensor that has some."""

    @staticmethod
    def __new__(cls, inner):
        """Make the outer tensor."""
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        """Do it to the inner tensors."""
        args, kwargs = torch.utils._pytree.tree_map_only(cls, lambda x: x.inner, (args, kwargs or {}))
        return torch.utils._pytree.tree_map_only(torch.Tensor, cls, func(*args, **kwargs))


def nested(layout):
    return torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=layout)


def ones():
    return torch.ones(3, 40)


EXOTIC = {
    "coo": lambda: torch.eye(4).to_sparse(),
    "csr": lambda: torch.eye(4).to_sparse_csr(),
    "nested": lambda: nested(torch.strided),
    "jagged": lambda: nested(torch.jagged),
    "meta": lambda: ones().to("meta"),
    "subclass": lambda: ones().as_subclass(Subclass),
    "uninterested subclass": lambda: ones().as_subclass(Uninterested),
    "wrapper": lambda: Wrapper(ones()),
    "fake": lambda: FakeTensorMode(allow_non_fake_inputs=True).from_tensor(ones()),
    "quantized": lambda: torch.quantize_per_tensor(ones(), 0.1, 0, torch.quint8),
    "mkldnn": lambda: ones().to_mkldnn(),
    "parameter": lambda: torch.nn.Parameter(ones()),
    "leaf": lambda: ones().requires_grad_(),
    "view of a leaf": lambda: ones().requires_grad_()[1:],
    "multi-view": lambda: (ones().requires_grad_() * 1).unbind(0)[1],
    "inference": torch.inference_mode()(ones),
    "view made in no_grad": torch.no_grad()(lambda: ones().requires_grad_()[1:]),
}


def kind(x):
    """All of a tensor but its elements."""
    shape = [tuple(part.shape) for part in x.unbind()] if x.is_nested else tuple(x.shape)
    return type(x), shape, x.dtype, x.layout, x.device, x.requires_grad, x.is_inference()


def elements(x):
    """Those that there are, in a list."""
    if isinstance(x, Wrapper):
        return elements(x.inner)
    if x.is_nested:
        return [value for part in x.unbind() for value in elements(part)]
    if x.is_meta or isinstance(x, FakeTensor):
        return None
    x = x.dequantize() if x.is_quantized else x
    return x.detach().to_dense().flatten().tolist()
