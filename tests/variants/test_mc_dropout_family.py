"""mc_dropout keeps each of fastdrop's own modules dropping, and touches no other module's flag."""

import pytest
import torch
from joined import AddedToItself
from torch import nn

import fastdrop
from fastdrop import mc_dropout, modules

OWN = {  # fastdrop's modules, and an input for each
    **{
        name: (getattr(fastdrop, name)(0.5), torch.ones(4, 3, *[2] * sizes))
        for name, sizes in {
            "AlphaDropout": 0,
            "DropPath": 0,
            "Dropout": 0,
            "Dropout1d": 1,
            "Dropout2d": 2,
            "Dropout3d": 3,
            "FeatureAlphaDropout": 1,
            "GaussianDropout": 0,
            "GaussianNoise": 0,
            "LockedDropout": 1,
            "SpatialDropout1D": 1,
            "SpatialDropout2D": 2,
            "SpatialDropout3D": 3,
            "VariationalDropout": 1,
        }.items()
    },
    "DropBlock2d": (fastdrop.DropBlock2d(0.5, 3), torch.ones(2, 3, 5, 5)),
    "DropBlock3d": (fastdrop.DropBlock3d(0.5, 3), torch.ones(2, 3, 5, 5, 5)),
    "DropConnect": (fastdrop.DropConnect(nn.Linear(3, 4)), torch.ones(2, 3)),
    "DropoutAdd": (AddedToItself(0.5), torch.ones(9, 4)),
    "EmbeddingDropout": (fastdrop.EmbeddingDropout(nn.Embedding(9, 4)), torch.arange(9)),
    "StochasticDepth": (fastdrop.StochasticDepth(0.5, "row"), torch.ones(9, 4)),
    "WordDropout": (fastdrop.WordDropout(0.5, 0), torch.arange(1, 9)),
}


def flags(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}  # with those that others wrap


@pytest.mark.parametrize("name", OWN)
def test_each_of_fastdrops_modules_drops(name):
    layer, x = OWN[name]
    model = nn.Sequential(layer, nn.BatchNorm1d(4)).eval()
    before = flags(model)
    assert torch.equal(layer(x), layer(x)), "in eval mode nothing is dropped"
    with mc_dropout(model), torch.no_grad():
        inside = flags(model)
        results = [layer(x) for _ in range(20)]
    assert any(not torch.equal(one, results[0]) for one in results)
    assert {name for name in inside if inside[name] != before[name]} == {"0"}
    assert flags(model) == before
    assert torch.equal(layer(x), layer(x))


def test_all_of_fastdrops_modules_are_here():
    assert set(OWN) == set(modules.__all__)
