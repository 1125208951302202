"""Interleaved timing on the device: A B C A B C ..., a batch of calls each, as fastdrop.bench.timing does on the host.

What is timed is the device: the stream is held back until the host has issued the whole batch, so that short kernels
follow each other immediately and not at the pace of Python. Where the host was too slow nevertheless, it is reported.

Calls cycle through several buffers, and their results are kept for as many calls: where these exceed the L2 cache by
far, every call reads its input from memory and leaves its output there, as in a training step. Sizes for which that
would take too many buffers stay in L2, which is reported too. A mask that a provider keeps for the backward may be read
from L2 at any size, in its favour.
"""

import functools
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from bench.gpu.device import Device
from fastdrop.bench.run import Effort
from fastdrop.bench.timing import Timing, summary

SAMPLE: Final = 1e-3  # seconds on the device that a batch lasts about, if its calls are not too many
FEWEST_CALLS: Final = 2
MOST_CALLS: Final = 32  # some 150 launches, far from the thousand that a launch queue holds
MOST_LEAD: Final = 0.05  # seconds that a stream is held back at most
L2_TIMES: Final = 4  # input and output of a round of buffers are this many times L2
MOST_BUFFERS: Final = 256

Provider = Callable[[int], object]  # called with the number of the buffer it is to use


class Deadline:
    """A time after which nothing new begins."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> float:
        """Return the seconds that are left, none if it has passed."""
        return max(0.0, self._end - self._clock())

    def passed(self) -> bool:
        """Return whether it has passed."""
        return self.left() == 0.0


class Rotation:
    """Buffers in turn, and results kept until as many others came."""

    def __init__(self, buffers: int) -> None:
        self._buffers = buffers
        self._next = 0
        self._kept: deque[object] = deque(maxlen=buffers)

    def call(self, function: Provider) -> None:
        """Call with the next buffer."""
        self._kept.append(function(self._next))
        self._next = (self._next + 1) % self._buffers


def buffers_for(tensor_bytes: int, l2_bytes: int) -> int:
    """Return how many pairs of input and output are needed for L2 to hold none of the next; at most `MOST_BUFFERS`."""
    return min(MOST_BUFFERS, max(2, math.ceil(L2_TIMES * l2_bytes / (2 * tensor_bytes))))


def fits_l2(buffers: int, tensor_bytes: int, l2_bytes: int) -> bool:
    """Return whether so many pairs of input and output leave some in L2."""
    return 2 * tensor_bytes * buffers < L2_TIMES * l2_bytes


class Batch:
    """Calls of one provider that are timed together."""

    def __init__(self, device: Device, rotation: Rotation, provider: Provider) -> None:
        self._device = device
        self._call = functools.partial(rotation.call, provider)
        device.synchronize()
        begun = time.perf_counter()
        for _ in range(FEWEST_CALLS):
            self._call()
        host = (time.perf_counter() - begun) / FEWEST_CALLS
        self._lead = self._enough(FEWEST_CALLS, host)
        self._calls = FEWEST_CALLS
        estimate = self.seconds()[0]
        self._calls = min(MOST_CALLS, max(FEWEST_CALLS, round(SAMPLE / estimate)))
        self._lead = self._enough(self._calls, host)

    @staticmethod
    def _enough(calls: int, host: float) -> float:
        return min(MOST_LEAD, 100e-6 + 1.5 * (calls + 1) * host)

    def seconds(self) -> tuple[float, bool]:
        """Return what a call takes on the device, and whether the host was ahead; where not, with a longer lead."""
        seconds, ahead = self._device.seconds(self._call, self._calls, self._lead)
        while not ahead and self._lead < MOST_LEAD:
            self._lead = min(MOST_LEAD, 2 * self._lead)
            seconds, ahead = self._device.seconds(self._call, self._calls, self._lead)
        return seconds, ahead


class DeviceTiming(NamedTuple):
    """What a call takes on the device, and how many samples were the host's rather than the device's."""

    timing: Timing
    host_bound: int


def interleaved(
    device: Device, providers: Mapping[str, Provider], buffers: int, effort: Effort
) -> dict[str, DeviceTiming]:
    """Time several providers in turn, round by round, all of them called before."""
    rotation = Rotation(buffers)
    batches = {name: Batch(device, rotation, provider) for name, provider in providers.items()}
    samples: dict[str, list[tuple[float, bool]]] = {name: [] for name in batches}
    end, done = Deadline(effort.budget), 0
    while done < effort.rounds or not end.passed():
        for name, batch in batches.items():
            samples[name].append(batch.seconds())
        done += 1
    return {
        name: DeviceTiming(summary([seconds for seconds, _ in taken]), sum(not ahead for _, ahead in taken))
        for name, taken in samples.items()
    }
