"""Beside torch's own dropout: subclasses, sparse, nested, fake and other tensors, and what is no tensor."""

import numpy as np
import oracle
import pytest
import torch
from beside_native import BOTH, native
from exotic_tensors import EXOTIC, elements, kind, ones
from oracle import error_of
from processes import run_python

from fastdrop.functional import dropout


@pytest.mark.filterwarnings("ignore:.*(Sparse CSR|nested tensors|is deprecated|quantize):UserWarning")  # of the makers
@pytest.mark.filterwarnings("ignore:.*quantiz:DeprecationWarning")
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    ("p", "training"), [(0.5, True), (0.0, True), (1.0, True), (0.5, False)], ids=["random", "0", "1", "eval"]
)
@pytest.mark.parametrize("make", EXOTIC.values(), ids=EXOTIC)
def test_exotic_tensors_as_native(make, p, training, inplace):
    ours, theirs = make(), make()
    wanted = error_of(lambda: native(theirs, p, training, inplace))
    assert error_of(lambda: dropout(ours, p, training, inplace)) == wanted
    if wanted is not None:
        return
    ours, theirs = make(), make()
    torch.manual_seed(2)
    wanted = native(theirs, p, training, inplace)
    torch.manual_seed(2)
    y = dropout(ours, p, training, inplace)
    assert kind(y) == kind(wanted)
    if not ours.is_nested:  # of which native makes a new one in eval mode
        assert (y is ours) == (wanted is theirs)
    if wanted.is_sparse and p == 1.0:
        return  # native's elements are what was in memory before
    if (p, training) == (0.5, True) and type(ours) in (torch.Tensor, torch.nn.Parameter) and y.layout is torch.strided:
        if not (y.is_nested or y.is_meta):  # a kernel's: its mask is another
            assert set(elements(y)) == set(elements(wanted)) == {0.0, 2.0}
            return
    assert elements(y) == elements(wanted)


@pytest.mark.parametrize("name", ["meta", "subclass", "uninterested subclass", "fake", "leaf", "inference"])
@pytest.mark.parametrize("key", ["seed", "generator"])
def test_exotic_tensors_with_a_key(name, key):
    dropout(torch.ones(4), 0.5, generator=torch.Generator())  # else a crash, which the test of fake tensors below sees
    y = dropout(EXOTIC[name](), 0.5, **{key: 3 if key == "seed" else torch.Generator().manual_seed(1)})
    assert kind(y) == kind(native(EXOTIC[name](), 0.5))
    if key == "seed" and elements(y) is not None:
        assert elements(y) == oracle.dropout(ones(), 0.5, 3).flatten().tolist()


FAKE = """
import threading, torch
from fastdrop.functional import dropout
from torch._subclasses.fake_tensor import FakeTensorMode

def first_call_of_a_thread(**key):
    with FakeTensorMode():
        y = dropout(torch.ones(3, 4), 0.5, **key)
    x = torch.ones(300)
    real = dropout(x, 0.5, generator=torch.Generator()), dropout(x, 0.5)
    print(type(y).__name__, tuple(y.shape), y.dtype, *(x.unique().tolist() for x in real))

thread = threading.Thread(target=first_call_of_a_thread, kwargs=dict(%s))
thread.start()
thread.join()
"""


@pytest.mark.parametrize("key", ["generator=torch.Generator()", "seed=3", "seed=torch.tensor(3)"])
@pytest.mark.sampled(3)
def test_fake_tensor_mode_with_a_key(key):
    # Each in a process of its own, for it once crashed; torch 2.10 crashes in a second thread's FakeTensorMode.
    assert run_python(FAKE % key) == "FakeTensor (3, 4) torch.float32 [0.0, 2.0] [0.0, 2.0]"


@BOTH
@pytest.mark.parametrize("x", [3, None, "x", [1.0], np.ones(3)], ids=repr)
def test_what_is_no_tensor(x, training):
    wanted = error_of(lambda: native(x, 0.5, training))
    assert wanted is not None
    assert error_of(lambda: dropout(x, 0.5, training)) == wanted


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("key", [{"seed": 3}, {"generator": torch.Generator()}], ids=["seed", "generator"])
def test_sparse_and_nested_with_a_key_are_refused(key):
    for x in (torch.eye(5).to_sparse(), torch.nested.nested_tensor([torch.ones(3), torch.ones(2)])):
        with pytest.raises(RuntimeError, match="needs a strided tensor, but got"):
            dropout(x, 0.5, **key)
