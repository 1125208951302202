"""`python -m bench.gpu` with a CPU in the GPU's place: what is checked, measured, left out and told."""

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from processes import run_python

from bench.gpu import cases, check, command, contenders, graphs, machine, memory, report, speed, targets, timing
from bench.gpu.__main__ import main
from bench.gpu.device import CudaDevice
from bench.gpu.session import Outcome, Section, Session, reason, short
from fastdrop.bench.run import Effort
from fastdrop.functional import dropout, dropout_mask

SHORT = Effort(0.0, 2)
SIZES = (64, 1024)
PLAN = command.Plan(SIZES, SHORT, quick=True)
SECTIONS = [section for section in command.SECTIONS if section.name != "choices"]  # that one launches for a GPU


class CpuDevice:
    """A CPU in the place of a GPU."""

    place = torch.device("cpu")
    l2_bytes = 16_384

    def describe(self) -> dict[str, str]:
        return {"GPU": "A GPU (of 1) & more"}

    def synchronize(self) -> None:
        pass

    def seconds(self, call: Callable[[], object], calls: int, lead: float) -> tuple[float, bool]:
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - begun) / calls, True

    def allocated(self) -> int:
        return 0

    def peak(self) -> int:
        return 0

    def release(self) -> None:
        pass

    def on_side_stream(self, work: Callable[[], Any]) -> Any:
        return work()

    def capture(self, work: Callable[[], tuple[torch.Tensor, ...]]) -> tuple[Callable[[], None], Any]:
        results = work()

        def replay() -> None:
            for result, new in zip(results, work(), strict=True):
                result.copy_(new)

        return replay, results


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def session(seconds: float = 1e9, sizes: Sequence[int] = SIZES, clock: Callable[[], float] = time.monotonic) -> Session:
    deadline = timing.Deadline(seconds, clock)
    return Session(CpuDevice(), (torch.float32,), sizes, SHORT, deadline, say=lambda _: None)


def no_compiler() -> Any:
    raise RuntimeError("no compiler\nto be found")


@pytest.fixture
def rivals_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one rival that cannot be built and one that cannot be called; both could take a test minutes."""

    def refuse(x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setitem(contenders.BUILDERS, "compiled", no_compiler)
    monkeypatch.setitem(contenders.BUILDERS, "triton", lambda: refuse)


@pytest.fixture
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "DTYPES", (torch.float32, torch.bfloat16))
    monkeypatch.setattr(cases, "SIZES", (1, 9, 1025))
    monkeypatch.setattr(cases, "FEW_SIZES", (9, 1025))


def test_the_whole_run(tmp_path, capsys, monkeypatch, rivals_fail, few_cases):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert command.run(CpuDevice(), PLAN, sections=SECTIONS) == 0
    (path,) = tmp_path.glob("gpu-a-gpu-of-1-more-????-??-??.json")
    document = json.loads(path.read_text())
    assert document["system"]["torch"] == torch.__version__ and document["quick"] and document["left_out"] == []
    assert list(document["sections"]) == ["check", "memory", "host", "speed", "graphs"]
    assert document["sections"]["check"]["failures"] == [] and document["sections"]["check"]["cases"] > 100
    rows = document["sections"]["speed"]["rows"]
    kinds = {(row["dtype"], row["size"], row["part"]) for row in rows}
    assert kinds == {(d, s, p) for d in ("float32", "bfloat16") for s in SIZES for p in ("forward", "forward_backward")}
    for row in rows:
        assert row["contenders"].keys() == {"native", "fastdrop", "fastdrop_into", "clone", "copy"}
        assert row["failed"] == {
            "compiled": "RuntimeError: no compiler to be found",
            "triton": "OutOfMemoryError: no memory",
        }
        ours, copy = row["contenders"]["fastdrop"], row["contenders"]["copy"]
        assert ours["share_of_copy"] == pytest.approx(copy["seconds"] / ours["seconds"])
        accesses = 2 if row["part"] == "forward" else 4
        itemsize = 4 if row["dtype"] == "float32" else 2
        assert ours["gb_per_second"] == pytest.approx(accesses * row["size"] * itemsize / ours["seconds"] / 1e9)
    assert [target["met"] for target in document["targets"][:4]] == [None] * 4  # of sizes that this run has not
    shown = capsys.readouterr().out
    for text in ("bfloat16, forward + backward: µs", "1K", "no compiler to be found", "float32 64 forward and 7 more"):
        assert text in shown
    assert max(map(len, shown.splitlines())) <= report.WIDTH + len(str(tmp_path))


@pytest.mark.parametrize("length", [1, 4])
def test_the_picture_shows_the_figures(tmp_path, length):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    from bench.gpu import plot

    figures = {name: {"gb_per_second": float(number)} for number, name in enumerate(speed.COLUMNS[:length], start=1)}
    rows = [
        {"dtype": dtype, "size": size, "part": part, "contenders": figures if size == 64 else {}}
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


def test_without_matplotlib_there_is_no_picture_and_all_else(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    paths = tmp_path / "a.json", tmp_path / "a.png"
    assert command.run(CpuDevice(), PLAN, *paths, sections=[]) == 0
    assert "no plot: ModuleNotFoundError" in capsys.readouterr().out
    assert paths[0].exists() and not paths[1].exists()


def every_other(function: Callable[..., Any], spoilt: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is spoilt where a case runs on the device, which comes before the CPU."""
    calls = iter(range(10**9))
    return lambda *args, **keys: (function if next(calls) % 2 else spoilt)(*args, **keys)


def one_bit_off(name: str, x: torch.Tensor, y: torch.Tensor, *key: Any) -> None:
    contenders.run(name, x, y, *key)
    y.view(torch.uint8)[-1] ^= 1


def one_too_far(name: str, x: torch.Tensor, y: torch.Tensor, *key: Any) -> None:
    contenders.run(name, x, y, *key)
    y.as_strided((1,), (1,), y.storage_offset() + len(y)).fill_(0.25)


def other_gradient(x: torch.Tensor, p: float, **key: Any) -> torch.Tensor:
    x = x.view_as(x)
    if x.requires_grad:
        x.register_hook(lambda grad: grad.flip(0))
    return dropout(x, p, **key)


def other_gradient_without_key(x: torch.Tensor, p: float, **key: Any) -> torch.Tensor:
    return dropout(x, p, **key) if key else other_gradient(x, p)


def other_start(*size_and_p: Any, start: int, **others: Any) -> torch.Tensor:
    return dropout_mask(*size_and_p, start=start % (1 << 32), **others)


@pytest.mark.parametrize(
    ("name", "spoilt", "where", "how"),
    [
        ("run", one_bit_off, "kernel, float32, 1 elements", "differ"),
        ("run", one_too_far, "kernel, float32, 1 elements", "not"),
        ("dropout", lambda x, p, **_: dropout(x, p, seed=1), "call, float32", "differ"),
        ("dropout", lambda x, p, **_: dropout(x, p, seed=1).clone(), "call in place, float32", "differ"),
        ("dropout", other_gradient, "gradient, float32", "differ"),
        ("dropout", other_gradient_without_key, "gradient of own seed, float32", "differ"),
        ("dropout_mask", other_start, "mask, 9", "differ"),
    ],
)
def test_a_kernel_that_differs_ends_the_run(name, spoilt, where, how, tmp_path, capsys, monkeypatch, few_cases):
    monkeypatch.setattr(cases, name, every_other(getattr(cases, name), spoilt))
    after = Section("after", lambda _: pytest.fail("measured"), 1.0)
    path = tmp_path / "a.json"
    assert command.run(CpuDevice(), PLAN, path, sections=[Section("check", check.section, 1e9), after]) == 1
    assert "stopped: the device's results differ" in capsys.readouterr().out
    failures = json.loads(path.read_text())["sections"]["check"]["failures"]
    assert 1 <= len(failures) <= check.ENOUGH
    assert any(failure["case"].startswith(where) and how in failure["how"] for failure in failures)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_native_torch_in_the_kernels_place_ends_the_run(tmp_path, monkeypatch, few_cases):
    def native_instead(x: torch.Tensor, p: float, **key: Any) -> torch.Tensor:
        warnings.warn("fastdrop leaves CUDA tensors to native torch: no driver", RuntimeWarning, stacklevel=1)
        return dropout(x, p, **key)

    monkeypatch.setattr(cases, "dropout", native_instead)
    path = tmp_path / "a.json"
    assert command.run(CpuDevice(), PLAN, path, sections=[Section("check", check.section, 1e9)]) == 1
    assert "RuntimeWarning: fastdrop leaves CUDA tensors to native torch: no driver" in path.read_text()


def test_a_kernel_on_a_wrong_stream_is_found(monkeypatch):
    def wrong(work: Callable[[], torch.Tensor]) -> torch.Tensor:
        with monkeypatch.context() as patched:
            patched.setattr(torch.Tensor, "copy_", lambda to, _: to)  # a copy that is yet to come
            return work()

    x = cases.inputs(torch.float32, 100)
    found, wanted = (cases.late(cases.Side(torch.device("cpu"), late), x, 0.5) for late in (wrong, lambda work: work()))
    assert check.difference(found, wanted) and not check.difference(
        wanted, cases.call(cases.Side(x.device, wrong), x, 0.5)
    )


@pytest.mark.parametrize(
    ("found", "wanted", "says"),
    [
        (torch.tensor([0.0, float("nan")]), torch.tensor([0.0, -float("nan")]), ""),
        (torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]), "1 elements differ, at (0,) 0.0, not -0.0"),
        (torch.zeros(2), torch.zeros(3), "shape (2,)"),
        (torch.zeros(2), torch.zeros(2).double(), "torch.float64"),
        (torch.zeros(2, 2), torch.zeros(2, 2).T, "strides (1, 2)"),
        (torch.tensor([True]), torch.tensor([False]), "1 elements differ"),
    ],
)
def test_every_bit_counts_but_those_of_a_nan(found, wanted, says):
    assert (says in check.difference(found, wanted)) if says else check.difference(found, wanted) == ""


def test_inputs_have_numbers_of_all_kinds():
    for dtype in cases.DTYPES:
        x = cases.inputs(dtype, 1000)
        tiny = torch.finfo(dtype).tiny
        assert x.isnan().any() and x.isposinf().any() and x.isneginf().any() and (x == torch.finfo(dtype).max).any()
        assert ((x == 0) & x.signbit()).any() and ((x != 0) & (x.abs() < tiny)).any() and (x.abs() > tiny).any()


def test_results_keep_their_strides_on_the_way_from_a_gpu(few_cases):
    side = cases.Side(torch.device("cpu"), lambda work: work())
    for _, members in cases.cases():
        for case in members:
            result = case.work(side)  # a copy from a GPU has these strides if there are no gaps to close
            assert torch.empty_like(result).stride() == result.stride(), case.what


def test_what_there_is_no_time_for_is_said(tmp_path, capsys, rivals_fail):
    path = tmp_path / "a.json"
    sections = [section._replace(seconds=0.0) for section in SECTIONS]
    assert command.run(CpuDevice(), PLAN, path, tmp_path / "a.png", sections=sections) == 0
    left_out = json.loads(path.read_text())["left_out"]
    assert "speed: bfloat16, 1K, forward" in left_out and "check: dropout_mask" in left_out
    assert {what.partition(":")[0] for what in left_out} == {section.name for section in sections}
    shown = capsys.readouterr().out
    assert all(f"no time left for {what}" in shown for what in left_out)
    assert all(target["met"] is None for target in json.loads(path.read_text())["targets"])


def test_the_whole_run_has_a_limit_too(tmp_path):
    clock, begun = Clock(), []

    def take_all(session: Session) -> Outcome:
        clock.now += command.LIMIT - 5
        return Outcome({})

    def ask(session: Session) -> Outcome:
        begun.append(session.deadline.left())
        return Outcome({})

    sections = [Section("all", take_all, 1e9), Section("ask", ask, 60.0), Section("short", ask, 3.0)]
    command.run(CpuDevice(), PLAN, tmp_path / "a.json", tmp_path / "a.png", sections=sections, clock=clock)
    assert begun == [5.0, 3.0]


def test_large_sizes_come_first(monkeypatch):
    clock = Clock()

    def measured(*what: Any) -> dict[str, Any]:
        clock.now += 1.0
        _, dtype, size, part = what
        return {"dtype": "float32", "size": size, "part": part, "in_l2": False, "contenders": {}, "failed": {}}

    monkeypatch.setattr(speed, "measure", measured)
    cut = session(3.0, sizes=(16, 64, 1024), clock=clock)
    assert [row["size"] for row in speed.section(cut).data["rows"]] == [64, 1024, 1024]
    assert cut.left_out == [
        "float32, 64, forward + backward",
        "float32, 16, forward",
        "float32, 16, forward + backward",
    ]


def test_a_section_that_fails_does_not_take_the_others_with_it(tmp_path, capsys):
    path = tmp_path / "a.json"
    sections = [Section("bad", lambda _: no_compiler(), 1.0), Section("good", lambda _: Outcome({"found": 1}), 1.0)]
    assert command.run(CpuDevice(), PLAN, path, tmp_path / "a.png", sections=sections) == 0
    assert json.loads(path.read_text())["sections"] == {
        "bad": {"error": "RuntimeError: no compiler to be found"},
        "good": {"found": 1},
    }
    assert "bad failed: RuntimeError: no compiler to be found" in capsys.readouterr().out


def test_a_reason_tells_the_first_cause():
    try:
        try:
            raise ValueError("first")
        finally:
            raise RuntimeError("capture failed")
    except RuntimeError as error:
        assert reason(error) == "RuntimeError: capture failed <- ValueError: first"


def test_no_memory_for_a_size_is_told_of_that_size(monkeypatch):
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(contenders, "buffers", full)
    outcome = speed.section(session())
    assert all(row["failed"] == {"all": "OutOfMemoryError: no memory"} for row in outcome.data["rows"])
    assert len(outcome.tables) == 3


class Scripted(CpuDevice):
    """A device whose answers are written down."""

    def __init__(self, took: Sequence[float] = (), ahead: Callable[[float], bool] = lambda lead: True) -> None:
        self.took, self.ahead = iter(took), ahead
        self.asked: list[tuple[int, float]] = []

    def seconds(self, call: Callable[[], object], calls: int, lead: float) -> tuple[float, bool]:
        self.asked.append((calls, lead))
        for _ in range(calls):
            call()
        return next(self.took), self.ahead(lead)


def test_timing_gives_medians_of_interleaved_rounds():
    took = [1e-3, 2e-3] + [1e-3, 2e-3, 1e-3, 2e-3, 3e-3, 8e-3]  # an estimate each, then rounds
    order: list[str] = []
    device = Scripted(took)
    timings = timing.interleaved(
        device, {"a": lambda i: order.append("a"), "b": lambda i: order.append("b")}, 2, Effort(0.0, 3)
    )
    assert {name: taken.timing.seconds for name, taken in timings.items()} == {"a": 1e-3, "b": 2e-3}
    assert timings["a"].timing.rounds == 3 and timings["a"].host_bound == 0
    assert "".join(order[-12:]) == "aabbaabbaabb"


@pytest.mark.parametrize(("estimate", "calls"), [(2e-6, 32), (1e-4, 10), (5e-3, 2)])
def test_a_batch_is_long_enough_but_never_fills_the_launch_queue(estimate, calls):
    device = Scripted([estimate] * 3)
    timing.interleaved(device, {"a": lambda i: None}, 2, SHORT)
    assert [asked for asked, _ in device.asked] == [2, calls, calls]


def test_where_the_host_is_late_the_stream_is_held_back_longer_and_else_it_is_said():
    device = Scripted([1e-3] * 100, ahead=lambda lead: lead > 4e-3)
    assert timing.interleaved(device, {"a": lambda i: None}, 2, SHORT)["a"].host_bound == 0
    leads = [lead for _, lead in device.asked]
    assert leads[0] < 4e-3 < leads[-1] == leads[-2] <= 8e-3
    device = Scripted([1e-3] * 100, ahead=lambda lead: False)
    assert timing.interleaved(device, {"a": lambda i: None}, 2, SHORT)["a"].host_bound == 2
    assert max(lead for _, lead in device.asked) == timing.MOST_LEAD


def test_calls_go_round_the_buffers_and_results_are_kept_as_long():
    rotation, used = timing.Rotation(3), []
    for _ in range(5):
        rotation.call(lambda i: used.append(i) or torch.tensor(len(used)))  # type: ignore[func-returns-value]
    assert used == [0, 1, 2, 0, 1]
    assert [int(kept) for kept in rotation._kept] == [3, 4, 5]


@pytest.mark.parametrize(
    ("elements", "itemsize", "buffers", "in_l2"),
    [
        (1 << 10, 4, 256, True),
        (1 << 14, 4, 256, True),
        (1 << 16, 2, 256, True),
        (1 << 18, 2, 240, False),
        (1 << 20, 4, 30, False),
        (1 << 26, 4, 2, False),
    ],
)
def test_buffers_exceed_the_60_mib_of_an_l2_cache_where_so_many_are_bearable(elements, itemsize, buffers, in_l2):
    assert timing.buffers_for(elements * itemsize, 60 << 20) == buffers
    assert timing.fits_l2(buffers, elements * itemsize, 60 << 20) is in_l2


def test_contenders_do_what_they_are_named_for():
    device, (size, count) = CpuDevice(), (64, 3)
    dropouts = {"fastdrop": lambda x: dropout(x, contenders.P, seed=contenders.SEED)}
    use = contenders.buffers(device, torch.float64, size, count, backward=True)
    made = contenders.forward_backward(dropouts, use)
    for i in range(count):
        y, (dx,) = made["fastdrop"](i)
        made["fastdrop_into"](i)
        keep = dropout_mask(size, contenders.P, seed=contenders.SEED)
        assert torch.equal(y, use.ys[i]) and torch.equal(y, use.xs[i] * keep * 2)
        assert torch.equal(dx, use.dxs[i]) and torch.equal(dx, use.grads[i] * keep * 2)
        made["copy"](i)
        assert torch.equal(use.ys[i], use.xs[i]) and torch.equal(use.dxs[i], use.grads[i])
        clones = made["clone"](i)
        for clone, original in zip(clones, (use.xs[i], use.grads[i]), strict=True):
            assert torch.equal(clone, original) and clone.data_ptr() != original.data_ptr()
    use = contenders.buffers(device, torch.float32, size, count, backward=False)
    made = contenders.forward(dropouts, use)
    made["fastdrop_into"](1)
    assert torch.equal(made["fastdrop"](1), use.ys[1]) and not use.xs[1].requires_grad
    assert torch.equal(made["copy"](2), use.xs[2]) and torch.equal(made["clone"](2), use.xs[2])


def test_memory_that_stays_is_told_apart(monkeypatch):
    held = iter([1000, 1000 + 400 + 100])  # bytes before, and after a forward of 100 floats that keeps a mask
    device = CpuDevice()
    monkeypatch.setattr(device, "allocated", lambda: next(held))
    monkeypatch.setattr(device, "peak", lambda: 1000 + 400 + 400 + 250)
    x = torch.ones(100, requires_grad=True)
    found = memory.measure(device, lambda x: torch.nn.functional.dropout(x, 0.5), x)
    assert found == {"saved": 4.0, "kept": 1.0, "peak": 2.5}  # on the CPU native saves floats
    assert memory.saved_bytes(lambda x: dropout(x, 0.5), x) == 0


def backward_of_another_mask(x: torch.Tensor) -> torch.Tensor:
    return other_gradient(x, contenders.P)


@pytest.mark.parametrize(
    ("chained", "wrong"),
    [
        (lambda x: dropout(x, contenders.P), set()),
        (lambda x: dropout(x, contenders.P, seed=0), {"fresh_masks", "independent"}),
        (backward_of_another_mask, {"same_masks"}),
    ],
)
def test_wrong_masks_in_a_graph_are_found(chained, wrong, monkeypatch):
    monkeypatch.setitem(contenders.BUILDERS, "fastdrop", lambda: chained)
    outcome = graphs.section(session())
    (row,) = (row for row in outcome.data["rows"] if row["name"] == "fastdrop")
    assert {check for check in graphs.CHECKS if not row[check]} == wrong
    assert row["seconds"] > 0


def test_what_cannot_be_captured_is_told(monkeypatch):
    monkeypatch.setitem(contenders.BUILDERS, "fastdrop", no_compiler)
    outcome = graphs.section(session())
    assert {row["name"]: row.get("failed") for row in outcome.data["rows"]} == {
        "native": None,
        "fastdrop": "RuntimeError: no compiler to be found",
    }


def sections_of(**changed: Any) -> dict[str, Any]:
    """Return figures that meet all targets, but for what is changed."""
    seconds = {"native": 9.0, "compiled": 8.0, "triton": 7.0, "fastdrop": 2.0, "share": 0.95} | changed
    times = {name: {"seconds": seconds[name], "share_of_copy": seconds["share"]} for name in contenders.BUILDERS}
    kinds = [(dtype, part) for dtype in ("float32", "bfloat16") for part in speed.PASSES]
    kept = {"saved": 0.0, "kept": seconds.get("kept", 0.0), "peak": 0.0}
    masks = dict.fromkeys(graphs.CHECKS, True) | {"fresh_masks": seconds.get("fresh", True)}
    return {
        "speed": {
            "rows": [{"dtype": d, "part": p, "size": 1 << 26, "contenders": times} for d, p in kinds]
            + [{"dtype": d, "part": p, "size": 1 << 10, "contenders": {}} for d, p in kinds]
        },
        "host": {"rows": [{"dtype": d, "part": p, "contenders": times} for d, p in kinds]},
        "memory": {"rows": [{"dtype": d, "name": "fastdrop", **kept} for d in ("float32", "bfloat16")]},
        "graphs": {"rows": [{"dtype": d, "name": "fastdrop", **masks} for d in ("float32", "bfloat16")]},
    }


def missed(found: dict[str, Any], sizes: Sequence[int] = (1 << 10, 1 << 26)) -> dict[str, bool | None]:
    return {target.what: target.met for target in targets.evaluate(found, 2, sizes) if target.met is not True}


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
    del found["speed"]["rows"][0]["contenders"]["triton"]
    assert missed(found) == {
        "faster than triton from 1M up": None,
        "at least 90% of y.copy_(x)'s bandwidth at 64M": False,
    }
    assert len(missed(sections_of(), sizes=(1 << 20, 1 << 26))) == 3  # of 1M, which is not there


def test_a_worst_figure_is_told_with_its_place():
    found = sections_of()
    found["speed"]["rows"][2]["contenders"] = {"fastdrop": {"seconds": 2.0}, "native": {"seconds": 3.0}}
    told = {target.what: target.found for target in targets.evaluate(found, 2, (1 << 26,))}
    assert told["faster than native from 1M up"] == "1.50 x (bfloat16 64M forward)"
    assert told["faster than triton from 1M up"] == "3.50 x (float32 64M forward); 3 of 4 measured"


@pytest.mark.parametrize(("size", "text"), [(1 << 10, "1K"), (1 << 28, "256M"), (100_003, "100003"), (64, "64")])
def test_sizes_are_short(size, text):
    assert short(size) == text


def test_without_a_gpu_one_line_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and "CUDA GPU" in told.err


def test_rich_is_named_where_it_is_missing():
    code = """
import sys, torch
sys.modules["rich"], sys.stderr, torch.cuda.is_available = None, sys.stdout, lambda: True
from bench.gpu.__main__ import main
print(main([]))
"""
    assert run_python(code).splitlines() == ['python -m bench.gpu needs rich: pip install "fastdrop[bench]"', "2"]


@pytest.mark.parametrize("arguments", [["--json", "/proc/nowhere/a.json"], ["--plot", "/"], ["--fast"]])
def test_bad_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and arguments[-1] in capsys.readouterr().err


def test_the_drivers_own_tool_is_asked_for_the_gpu_that_is_measured(monkeypatch):
    lines = [
        "GPU-aa, 580.1, 345 MHz, 1980 MHz, 3201 MHz, 700.00 W",
        "GPU-bb, 580.1, 1980 MHz, 1980 MHz, 3201 MHz, 700.00 W",
    ]

    def answer(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, "\n".join(lines))

    def missing(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", answer)
    assert machine.smi("bb")["driver"] == "580.1" and machine.smi("bb")["SM clock"] == "1980 MHz"
    assert machine.smi("aa")["SM clock"] == "345 MHz" and machine.smi("cc")["driver"] == "unknown"
    del lines[1]
    assert machine.smi("cc")["SM clock"] == "345 MHz"  # the only one: told by another name
    monkeypatch.setattr(subprocess, "run", missing)
    assert set(machine.smi("aa").values()) == {"unknown"}


def test_the_events_stand_around_the_calls_while_the_stream_is_held_back(monkeypatch):
    order: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            order.append("event")

        def query(self) -> bool:
            order.append("query")
            return False

        def synchronize(self) -> None:
            order.append("wait")

        def elapsed_time(self, end: "Event") -> float:
            return 6.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: order.append(f"sleep {cycles}"))
    device = CudaDevice.__new__(CudaDevice)
    assert device.seconds(lambda: order.append("call"), 3, 1e-3) == (pytest.approx(2e-3), True)
    assert order == ["sleep 2000000", "call", "event", "call", "call", "call", "event", "query", "wait"]


def test_triton_drops_as_it_should_and_its_backward_has_the_forwards_mask():
    pytest.importorskip("triton")
    code = """
import torch
from bench.gpu.triton_dropout import dropout
x = torch.randn(100_003)
x.requires_grad_()
y = dropout(x, 0.25)
(dx,) = torch.autograd.grad(y, x, torch.ones_like(x))
kept = y != 0
assert abs(kept.float().mean() - 0.75) < 0.01, kept.float().mean()
assert torch.equal(dx, kept * torch.tensor(1 / 0.75))
assert torch.equal(y[kept], x[kept] * torch.tensor(1 / 0.75))
assert not torch.equal(dropout(x, 0.25), y)
print("good")
"""
    assert run_python(code, TRITON_INTERPRET="1") == "good"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_whole_run_on_a_gpu(tmp_path, rivals_fail, few_cases):
    path = tmp_path / "a.json"
    assert command.run(CudaDevice(), PLAN, path, tmp_path / "a.png", SECTIONS) == 0
    document = json.loads(path.read_text())
    assert document["left_out"] == [] and document["sections"]["check"]["failures"] == []
    assert [target["met"] for target in document["targets"][-2:]] == [True, True]
    assert all("fastdrop" in row["contenders"] for row in document["sections"]["speed"]["rows"])
