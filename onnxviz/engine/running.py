"""Running sessions: numpy in, numpy out, and between them the buffers that a device wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from onnxviz import limits
from onnxviz.engine.cache import Prepared
from onnxviz.engine.cuda import TO_DEVICE, TO_HOST, Cuda
from onnxviz.engine.device import Device
from onnxviz.engine.session import out_of_memory, runtime, runtime_errors
from onnxviz.errors import OutOfMemoryError, ProviderError
from onnxviz.source import Array

if TYPE_CHECKING:
    import onnxruntime


class Runner:
    """Runs sessions on a device. Safe to use from many threads at once."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._idle: list[Buffers] = []
        self._lock = threading.Lock()

    def run(self, prepared: Prepared, feeds: Mapping[str, Any], *, keep: bool = False) -> list[Any]:
        """The outputs of a session, in order.

        Args:
            prepared: the session.
            feeds: its inputs by name, and others, which are not looked at: arrays, or OrtValues of earlier runs.
            keep: leave the results where they were computed, as OrtValues.

        Raises:
            OutOfMemoryError: the device's memory does not suffice.
            ProviderError: onnxruntime failed, or a loop took too long.
        """
        given = {name: value for name, value in feeds.items() if name in prepared.inputs}
        with limits.patience() if prepared.loops else nullcontext() as options:
            try:
                return self._ran(prepared, given, options, keep=keep)
            except runtime_errors() as error:
                if options is not None and options.terminate:
                    raise ProviderError(f"a run took longer than {limits.MOST_SECONDS:.0f} s and was ended") from error
                kind = OutOfMemoryError if out_of_memory(error) else ProviderError
                raise kind(f"{prepared.provider} failed while computing: {error}") from error

    def _ran(self, prepared: Prepared, given: Mapping[str, Any], options: Any, *, keep: bool) -> list[Any]:
        ort, session = runtime(), prepared.session
        if not (keep or self.device.is_gpu or any(isinstance(v, ort.OrtValue) for v in given.values())):
            return list(session.run(list(prepared.outputs), dict(given), options))
        binding = session.io_binding()
        with self._buffers() as buffers:
            for name, value in given.items():
                if isinstance(value, ort.OrtValue):
                    binding.bind_ortvalue_input(name, value)
                elif buffers is None:
                    binding.bind_cpu_input(name, value)
                else:
                    binding.bind_ortvalue_input(name, buffers.sent(name, value))
            there = keep or buffers is not None
            for name in prepared.outputs:
                binding.bind_output(name, *((self.device.kind, self.device.index) if there else ("cpu", 0)))
            session.run_with_iobinding(binding, options)
            binding.synchronize_outputs()
            results = list(binding.get_outputs())
            if keep:
                return results
            return [r.numpy() if buffers is None else buffers.fetched(r) for r in results]

    @contextmanager
    def _buffers(self) -> Iterator[Buffers | None]:
        """A set that nobody else uses meanwhile: there are as many as runs at once. None where CUDA is not at hand."""
        if self.device.cuda is None:
            yield None
            return
        with self._lock:
            buffers = self._idle.pop() if self._idle else None
        buffers = buffers or Buffers(self.device, self.device.cuda)
        yield buffers
        with self._lock:  # after a failure the set goes, and what it holds with it
            self._idle.append(buffers)

    def close(self) -> None:
        """Release the buffers."""
        with self._lock:
            self._idle.clear()


class Buffers:
    """Of one run at a time: its inputs on the device, and page-locked memory through which arrays go there and back."""

    def __init__(self, device: Device, cuda: Cuda) -> None:
        self._device, self._cuda = device, cuda
        self._stream = cuda.stream()
        self._inputs: dict[str, onnxruntime.OrtValue] = {}
        self._host = np.empty(0, np.uint8)

    def sent(self, name: str, array: Array) -> onnxruntime.OrtValue:
        """An input on the device, in the memory of the last one of that name if it was of the same shape and type."""
        held = self._inputs.get(name)
        if held is None or _kind_of(held) != (array.shape, array.dtype):
            held = self._inputs[name] = runtime().OrtValue.ortvalue_from_shape_and_type(
                list(array.shape), array.dtype, self._device.kind, self._device.index
            )
        host = self._room(array.nbytes)
        np.copyto(host.view(array.dtype).reshape(array.shape), array)
        self._copy(held.data_ptr(), host.ctypes.data, array.nbytes, TO_DEVICE)
        return held

    def fetched(self, value: onnxruntime.OrtValue) -> Array:
        """A result as an array of its own."""
        shape, dtype = _kind_of(value)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        host = self._room(size)
        self._copy(host.ctypes.data, value.data_ptr(), size, TO_HOST)
        return host.view(dtype).reshape(shape).copy()

    def _room(self, size: int) -> Array:
        if self._host.size < size:
            self._host = np.empty(0, np.uint8)  # the old goes before the new comes
            self._host = self._cuda.page_locked(size)
        return self._host[:size]

    def _copy(self, to: int, source: int, size: int, kind: int) -> None:
        if size:
            self._stream.copy(to, source, size, kind)


def _kind_of(value: onnxruntime.OrtValue) -> tuple[tuple[int, ...], np.dtype[Any]]:
    return tuple(value.shape()), np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.element_type()))
