"""The CUDA runtime that onnxruntime has loaded, for what onnxruntime's Python does not give: free memory, fast copies.

onnxruntime hands out page-locked memory only where its CUDA provider is a plugin, and does not say where a result of
unknown size shall go in it; its copies from and to numpy hold Python's lock. A few functions of the runtime, called by
ctypes, do with any onnxruntime. A copy from or to page-locked memory, on a stream of its own, runs beside what another
thread has computed meanwhile.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from onnxviz.errors import OutOfMemoryError, ProviderError
from onnxviz.source import Array

TO_DEVICE, TO_HOST = 1, 2
"""``cudaMemcpyHostToDevice``, ``cudaMemcpyDeviceToHost``."""

_OUT_OF_MEMORY = 2
_PORTABLE = 1
"""``cudaHostAllocPortable``: page-locked for all devices."""
_NON_BLOCKING = 1
"""``cudaStreamNonBlocking``: not held up by what others do on the default stream."""


class Cuda:
    """One device.

    Args:
        library: the loaded runtime.
        index: of the device.
    """

    def __init__(self, library: Any, index: int) -> None:
        self._library, self.index = library, index

    def free_bytes(self) -> int:
        """How much of the device's memory nobody holds."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        with self._current():
            self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def page_locked(self, size: int) -> Array:
        """So many bytes of host memory that the device reads and writes itself; they go with the array.

        Raises:
            OutOfMemoryError: the system does not lock as many.
        """
        pointer = ctypes.c_void_p()
        self._call("cudaHostAlloc", ctypes.byref(pointer), ctypes.c_size_t(size), ctypes.c_uint(_PORTABLE))
        owner = (ctypes.c_ubyte * size).from_address(pointer.value or 0)
        weakref.finalize(owner, self._library.cudaFreeHost, pointer)
        return np.ctypeslib.as_array(owner)

    def stream(self) -> Stream:
        """A queue of copies of its own."""
        pointer = ctypes.c_void_p()
        with self._current():
            self._call("cudaStreamCreateWithFlags", ctypes.byref(pointer), ctypes.c_uint(_NON_BLOCKING))
        return Stream(self._call, pointer)

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Each thread has a current device, which is left as it was: others in this process count on theirs."""
        before = ctypes.c_int()
        self._call("cudaGetDevice", ctypes.byref(before))
        self._call("cudaSetDevice", ctypes.c_int(self.index))
        try:
            yield
        finally:
            self._call("cudaSetDevice", before)

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code == _OUT_OF_MEMORY:
            raise OutOfMemoryError(f"{function}: out of memory on CUDA device {self.index} or on its host")
        if code:
            raise ProviderError(f"{function} failed on CUDA device {self.index} with CUDA's error {code}")


class Stream:
    """Copies that run beside what is computed. Made by :meth:`Cuda.stream`."""

    def __init__(self, call: Any, pointer: ctypes.c_void_p) -> None:
        self._call, self._pointer = call, pointer
        weakref.finalize(self, call, "cudaStreamDestroy", pointer)

    def copy(self, to: int, source: int, size: int, kind: int) -> None:
        """Copy bytes from address to address and wait for them, while Python's other threads go on."""
        addresses = ctypes.c_void_p(to), ctypes.c_void_p(source)
        self._call("cudaMemcpyAsync", *addresses, ctypes.c_size_t(size), ctypes.c_int(kind), self._pointer)
        self._call("cudaStreamSynchronize", self._pointer)


@cache
def cuda(version: str, index: int) -> Cuda | None:
    """A device, for an onnxruntime built for this version of CUDA; None where it keeps the runtime to itself."""
    major = version.partition(".")[0]
    try:
        return Cuda(ctypes.CDLL(f"cudart64_{major}.dll" if sys.platform == "win32" else f"libcudart.so.{major}"), index)
    except OSError:
        return None
