"""The whole run: sections one after the other, their tables, the JSON document, the picture."""

import functools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import torch

from bench.gpu import check, graphs, host, memory, plot, report, speed, targets
from bench.gpu.device import Device
from bench.gpu.session import Outcome, Section, Session, reason
from bench.gpu.timing import Deadline
from bench.tables import console
from bench.targets import table
from fastdrop.bench import system
from fastdrop.bench.report import write
from fastdrop.bench.run import Effort
from fastdrop.bench.timing import ROUNDS

DTYPES: Final = (torch.float32, torch.bfloat16)
SIZES: Final = tuple(1 << power for power in (10, 14, 18, 20, 22, 24, 26, 28))
QUICK_SIZES: Final = (1 << 10, 1 << 20, 1 << 26)
LIMIT: Final = 420.0  # seconds after which nothing new begins; what has begun takes seconds


def _choices(session: Session) -> Outcome:
    from bench.gpu import choices  # here: it needs what compiles and launches CUDA kernels, and may say what is missing

    return choices.section(session)


SECTIONS: Final = (  # name, function, seconds after which it begins nothing new
    Section("check", check.section, 90),
    Section("memory", memory.section, 60),
    Section("host", host.section, 60),
    Section("speed", speed.section, 240),
    Section("choices", _choices, 60),
    Section("graphs", graphs.section, 30),  # the last: a capture that fails can leave torch's generator in a bad state
)


class Plan(NamedTuple):
    """How much to measure."""

    sizes: Sequence[int]
    effort: Effort
    quick: bool
    dtypes: Sequence[torch.dtype] = DTYPES


FULL: Final = Plan(SIZES, Effort(1.0, ROUNDS), quick=False)
QUICK: Final = Plan(QUICK_SIZES, Effort(0.15, 5), quick=True)


class Report:
    """The results so far, on the console and in the document."""

    def __init__(self, device: Device, plan: Plan, clock: Callable[[], float]) -> None:
        self.console = console()
        self._clock, self._begun = clock, clock()
        self.about = {**device.describe(), **system.cuda_versions(), **system.describe()}
        self.document = report.document(self.about, plan.quick)
        self.say("\n".join(f"{name}: {value}" for name, value in self.about.items()))

    def say(self, text: str) -> None:
        """Print text as it is."""
        self.console.print(text, markup=False, soft_wrap=True)

    def progress(self, section: str, what: str) -> None:
        """Print what a section measures now."""
        self.say(f"{self._clock() - self._begun:6.1f} s  {section}: {what}")

    def add(self, section: str, outcome: Outcome, left_out: Sequence[str]) -> None:
        """Add the results of a section."""
        self.document["sections"][section] = outcome.data
        self.document["left_out"] += [f"{section}: {what}" for what in left_out]
        self.console.print(*outcome.tables)
        if "error" in outcome.data:
            self.say(f"{section} failed: {outcome.data['error']}")
        for what in left_out:
            self.say(f"no time left for {section}: {what}")

    def check_targets(self, plan: Plan) -> None:
        """Compare the figures with the targets."""
        found = targets.check_targets(self.document["sections"], len(plan.dtypes), plan.sizes)
        self.document["targets"] = [target._asdict() for target in found]
        self.console.print(table(found))


def _outcome(section: Section, session: Session) -> Outcome:
    """Return the results of a section, or that it failed."""
    try:
        return section.measure(session)
    except Exception as error:  # the other sections are still useful
        return Outcome({"error": reason(error)})


def _draw(found: Report, path: pathlib.Path) -> None:
    try:
        plot.write(found.document, path)
        found.say(f"written: {path}")
    except Exception as error:  # matplotlib is missing, or nothing was measured
        found.say(f"no plot: {reason(error)}")


def run(
    device: Device,
    plan: Plan = FULL,
    json_path: pathlib.Path | None = None,
    plot_path: pathlib.Path | None = None,
    sections: Sequence[Section] = SECTIONS,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Measure and report.

    Parameters
    ----------
    device : Device
        What is measured.
    plan : Plan
        How much of it.
    json_path, plot_path : Path, optional
        Where the document and the picture go; default: bench/results/, named for the GPU and the day.
    sections : sequence of Section
        What to do.
    clock : function
        Returns the time in seconds.

    Returns
    -------
    int
        The exit code: 1 if a section fails in a way that makes all others meaningless, else 0.
    """
    whole = Deadline(LIMIT, clock)
    found = Report(device, plan, clock)
    json_path = json_path or report.default_path(found.about["GPU"], ".json")
    write(found.document, json_path)  # now, so that a path that cannot be written is known before all the work
    for section in sections:
        deadline = Deadline(min(section.seconds, whole.left()), clock)
        say = functools.partial(found.progress, section.name)
        session = Session(device, plan.dtypes, plan.sizes, plan.effort, deadline, say)
        outcome = _outcome(section, session)
        found.add(section.name, outcome, session.left_out)
        write(found.document, json_path)  # what there is, should the next section take the process with it
        if outcome.fatal:
            found.say(f"stopped: {outcome.fatal}")
            return 1
    found.check_targets(plan)
    write(found.document, json_path)
    found.say(f"written: {json_path}")
    _draw(found, plot_path or report.default_path(found.about["GPU"], ".png"))
    return 0
