"""How `python -m bench.gpu` tells its figures: the picture, the targets, and sizes."""

from collections.abc import Sequence
from typing import Any

import pytest

from bench.gpu import graphs, providers, speed, targets
from bench.tables import short


@pytest.mark.parametrize("length", [1, 4])
def test_the_picture_shows_the_figures(tmp_path, length):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    from bench.gpu import plot

    figures = {name: {"gb_per_second": float(number)} for number, name in enumerate(speed.COLUMNS[:length], start=1)}
    rows = [
        {"dtype": dtype, "size": size, "part": part, "providers": figures if size == 64 else {}}
        for dtype in ("float32", "bfloat16")
        for part in speed.PASSES
        for size in (64, 1 << 20)
    ]
    document = {"system": {"GPU": "GPU", "torch": "2"}, "p": 0.5, "sections": {"speed": {"rows": rows}}}
    plot.write(document, tmp_path / "plot.any")
    assert (tmp_path / "plot.any").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert imread(tmp_path / "plot.any", format="png")[..., :3].std() > 0.01
    axes = Figure().subplots()
    plot._panel(axes, rows[:2])
    assert [line.get_label() for line in axes.get_lines()] == list(plot.LABELS.values())[:length]
    assert [line.get_xydata().tolist() for line in axes.get_lines()] == [[[64.0, n + 1.0]] for n in range(length)]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["64", "1M"]


def sections_of(**changed: Any) -> dict[str, Any]:
    """Return figures that meet all targets, but for what is changed."""
    seconds = {"native": 9.0, "compiled": 8.0, "triton": 7.0, "fastdrop": 2.0, "share": 0.95} | changed
    times = {name: {"seconds": seconds[name], "share_of_copy": seconds["share"]} for name in providers.BUILDERS}
    kinds = [(dtype, part) for dtype in ("float32", "bfloat16") for part in speed.PASSES]
    kept = {"saved": 0.0, "kept": seconds.get("kept", 0.0), "peak": 0.0}
    masks = dict.fromkeys(graphs.CHECKS, True) | {"fresh_masks": seconds.get("fresh", True)}
    return {
        "speed": {
            "rows": [{"dtype": d, "part": p, "size": 1 << 26, "providers": times} for d, p in kinds]
            + [{"dtype": d, "part": p, "size": 1 << 10, "providers": {}} for d, p in kinds]
        },
        "host": {"rows": [{"dtype": d, "part": p, "providers": times} for d, p in kinds]},
        "memory": {"rows": [{"dtype": d, "name": "fastdrop", **kept} for d in ("float32", "bfloat16")]},
        "graphs": {"rows": [{"dtype": d, "name": "fastdrop", **masks} for d in ("float32", "bfloat16")]},
    }


def missed(found: dict[str, Any], sizes: Sequence[int] = (1 << 10, 1 << 26)) -> dict[str, bool | None]:
    return {target.what: target.met for target in targets.check_targets(found, 2, sizes) if target.met is not True}


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"share": 0.89}, ["at least 90% of y.copy_(x)'s bandwidth at 64M"]),
        ({"compiled": 1.9}, ["faster than compiled from 1M up"]),
        ({"triton": 1.9}, ["faster than triton from 1M up"]),
        ({"native": 1.9}, ["faster than native from 1M up", "time on the host no more than native's"]),
        ({"kept": 1.0}, ["0 bytes kept for the backward"]),
        ({"fresh": False}, ["a graph's replays have masks as they should"]),
        ({}, []),
    ],
)
def test_targets_that_are_missed(changed, what):
    assert missed(sections_of(**changed)) == dict.fromkeys(what, False)


def test_targets_that_are_not_fully_measured_are_open_but_a_miss_is_a_miss():
    assert len(missed({})) == 7 and set(missed({"speed": {"error": "no GPU"}}).values()) == {None}
    found = sections_of(share=0.89)
    del found["speed"]["rows"][0]["providers"]["triton"]
    assert missed(found) == {
        "faster than triton from 1M up": None,
        "at least 90% of y.copy_(x)'s bandwidth at 64M": False,
    }
    assert len(missed(sections_of(), sizes=(1 << 20, 1 << 26))) == 3  # of 1M, which is not there


def test_a_worst_figure_is_told_with_its_place():
    found = sections_of()
    found["speed"]["rows"][2]["providers"] = {"fastdrop": {"seconds": 2.0}, "native": {"seconds": 3.0}}
    told = {target.what: target.found for target in targets.check_targets(found, 2, (1 << 26,))}
    assert told["faster than native from 1M up"] == "1.50 x (bfloat16 64M forward)"
    assert told["faster than triton from 1M up"] == "3.50 x (float32 64M forward); 3 of 4 measured"


@pytest.mark.parametrize(("size", "text"), [(1 << 10, "1K"), (1 << 28, "256M"), (100_003, "100003"), (64, "64")])
def test_sizes_are_short(size, text):
    assert short(size) == text
