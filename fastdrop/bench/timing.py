"""Interleaved timing: A B C A B C ..., so that whatever slows the machine for a while slows all providers alike.

Ratios mean something only between medians of one interleaved run. The first call of each turn is not timed: it pays for
the state in which the previous provider has left caches and heap. Native dropout frees two buffers, which malloc may
give back to the system; timed at once, the next one's page faults made it up to ten times slower.
"""

import statistics
import time
import timeit
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

SAMPLE: Final = 200e-6  # seconds that a sample lasts at least, so that reading the clock costs nothing beside it
ROUNDS: Final = 15  # enough for quartiles


class Timing(NamedTuple):
    """What a call takes."""

    seconds: float  # median over the rounds
    spread: float  # interquartile range / median
    rounds: int


def _calls_per_sample(timer: timeit.Timer) -> int:
    """Return how many calls last as long as a sample should."""
    calls = 1
    while any(timer.timeit(calls) < SAMPLE for _ in range(2)):  # twice: one sample may have been held up
        calls *= 2
    return calls


def summary(samples: list[float]) -> Timing:
    """Return the median and the spread of samples in seconds."""
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Timing(median, (high - low) / median, len(samples))


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    budget: float,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time several functions in turn, round by round.

    Parameters
    ----------
    functions : mapping of names to functions without arguments
        What is compared.
    budget : float
        Seconds after which no further round begins.
    rounds : int
        Rounds at least, whatever the budget; 2 or more.
    clock : function
        Returns the time in seconds.

    Returns
    -------
    dict of names to Timing
        In seconds per call.
    """
    timers = {name: timeit.Timer(function, timer=clock) for name, function in functions.items()}
    calls = {name: _calls_per_sample(timer) for name, timer in timers.items()}
    samples: dict[str, list[float]] = {name: [] for name in timers}
    end, done = clock() + budget, 0
    while done < rounds or clock() < end:
        for name, timer in timers.items():
            timer.timeit(1)
            samples[name].append(timer.timeit(calls[name]) / calls[name])
        done += 1
    return {name: summary(taken) for name, taken in samples.items()}
