"""What a test sees and sets of the stand-in for the CUDA driver."""

import ctypes
import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

LAUNCH_FAILED = 719
MAX_DEVICES = 8
FORMATS = {  # PTX type: struct's letter
    "s8": "b", "s16": "h", "s32": "i", "s64": "q",
    "u8": "B", "u16": "H", "u32": "I", "u64": "Q",
    "b8": "B", "b16": "H", "b32": "I", "b64": "Q",
    "f16": "e", "f32": "f", "f64": "d",
}  # fmt: skip


class Gpu(NamedTuple):
    """A device that the stand-in pretends to have."""

    capability: tuple[int, int]
    multiprocessors: int


GPUS = Gpu((9, 0), 132), Gpu((8, 0), 108)


@dataclass(frozen=True)
class Launch:
    """A kernel launch as the driver got it."""

    function: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    stream: int
    device: int  # that of the calling thread's current context
    parameters: tuple[bytes, ...]  # as many and as large as the cubin says
    image: bytes = field(repr=False)  # the cubin

    def read(self, types: Sequence[str]) -> list[int | float]:
        """Return the parameters' values by their PTX types: "s64", "u64", "f64", ..."""
        return [struct.unpack(f"<{FORMATS[t]}", p)[0] for t, p in zip(types, self.parameters, strict=True)]


class _Launch(ctypes.Structure):
    """`struct launch` in driver.c."""

    _fields_ = [
        ("kernel", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("image", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("device", ctypes.c_int),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("stream", ctypes.c_size_t),
        ("parameters", ctypes.POINTER(ctypes.c_void_p)),
    ]


_OnLoad = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t)
_OnLaunch = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Launch))


class _Settings(ctypes.Structure):
    """`standin` in driver.c."""

    _fields_ = [
        ("version", ctypes.c_int),
        ("devices", ctypes.c_int),
        ("major", ctypes.c_int * MAX_DEVICES),
        ("minor", ctypes.c_int * MAX_DEVICES),
        ("multiprocessors", ctypes.c_int * MAX_DEVICES),
        ("capturing", ctypes.c_int),
        ("load_error", ctypes.c_int),
        ("launch_error", ctypes.c_int),
        ("on_load", _OnLoad),
        ("on_launch", _OnLaunch),
    ]


class Driver:
    """Controls the loaded stand-in and remembers what it was asked for; make one in a process."""

    launches: list[Launch]  # those that got through, in order
    images: list[bytes]  # the cubins loaded, in order

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        pointer = ctypes.c_void_p
        self._library.cuKernelGetParamInfo.argtypes = [pointer, ctypes.c_size_t, pointer, pointer]
        self._settings = _Settings.in_dll(library, "standin")
        self._callbacks = _OnLoad(self._on_load), _OnLaunch(self._on_launch)
        self._settings.on_load, self._settings.on_launch = self._callbacks
        self.reset()

    def reset(self) -> None:
        """Forget all launches and settings, and the calling thread's context; what is loaded stays loaded."""
        self.launches, self.images = [], []
        self._handler: Callable[[Launch], object] | None = None
        self._error: BaseException | None = None
        self.set_gpus(*GPUS)
        self.set_version(13000)
        self._settings.capturing = self._settings.load_error = self._settings.launch_error = 0
        self._library.cuCtxSetCurrent(None)

    def set_gpus(self, *gpus: Gpu) -> None:
        """Have these devices; cuda.core asks once in a thread, so use a new one to see them."""
        settings = self._settings
        settings.devices = len(gpus)
        for device, ((major, minor), multiprocessors) in enumerate(gpus):
            settings.major[device], settings.minor[device] = major, minor
            settings.multiprocessors[device] = multiprocessors

    def set_version(self, version: int) -> None:
        """Be a driver for this CUDA version: 12040 is 12.4. What it lacks, a process asks once, at its first call."""
        self._settings.version = version

    def fail_next_load(self, error: int) -> None:
        """Make the next cuLibraryLoadData return an error."""
        self._settings.load_error = error

    def fail_next_launch(self, error: int) -> None:
        """Make the next launch return an error."""
        self._settings.launch_error = error

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Say of every stream that it is being captured, and refuse what the driver then refuses."""
        self._settings.capturing = 1
        try:
            yield
        finally:
            self._settings.capturing = 0

    @contextmanager
    def running(self, handler: Callable[[Launch], object]) -> Iterator[None]:
        """Call `handler` at each launch, in the launching thread; raise at the end what it raised first.

        That launch itself fails with CUDA_ERROR_LAUNCH_FAILED.
        """
        self._handler = handler
        try:
            yield
        finally:
            self._handler = None
            self.raise_error()

    @contextmanager
    def ignoring(self) -> Iterator[None]:
        """Let launches through unseen: no Python runs, which would be most of the time that one takes."""
        self._settings.on_launch = _OnLaunch()
        try:
            yield
        finally:
            self._settings.on_launch = self._callbacks[1]

    def raise_error(self) -> None:
        """Raise what went wrong in Python during a launch, if anything did."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _on_load(self, image: int, size: int) -> None:
        self.images.append(ctypes.string_at(image, size))

    def _on_launch(self, pointer: "ctypes._Pointer[_Launch]") -> int:
        try:
            launch = self._launch(pointer.contents)
            self.launches.append(launch)
            if self._handler is not None:
                self._handler(launch)
        except BaseException as error:  # ctypes would print it and go on
            self._error = self._error or error
            return LAUNCH_FAILED
        return 0

    def _launch(self, raw: _Launch) -> Launch:
        return Launch(
            raw.name.decode(),
            tuple(raw.grid),
            tuple(raw.block),
            raw.stream,
            raw.device,
            tuple(self._parameters(raw)),
            ctypes.string_at(raw.image, raw.size),
        )

    def _parameters(self, raw: _Launch) -> Iterator[bytes]:
        offset, size = ctypes.c_size_t(), ctypes.c_size_t()
        for index in itertools.count():
            if self._library.cuKernelGetParamInfo(raw.kernel, index, ctypes.byref(offset), ctypes.byref(size)):
                return
            yield ctypes.string_at(raw.parameters[index], size.value)
