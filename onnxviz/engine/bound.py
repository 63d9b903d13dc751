"""A method with its buffers on the device: what a service or a training loop calls again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxviz.arguments import as_array
from onnxviz.engine.asked import RESULT, Asked, Attribution, Head
from onnxviz.engine.core import Engine
from onnxviz.engine.inputs import named
from onnxviz.engine.session import CUDA, runtime, runtime_errors
from onnxviz.engine.targets import SCORE, TOP, Of, resolve
from onnxviz.errors import InputError, OptionError, ProviderError, TargetError
from onnxviz.explanation import Explanation
from onnxviz.manifest import Output, seed_name
from onnxviz.source import Array, Feeds

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True)
class OnDevice:
    """Results where they were computed: they last until the next call of the same :class:`Bound`.

    Each is an onnxruntime ``OrtValue``, which ``torch.from_dlpack`` and its like take without a copy; ``.numpy()``
    brings it to the host.

    Attributes:
        values: the map, as the method gives it.
        score: (N,) of the target.
        target: (N,) the classes on top, where no target was given; else None.
    """

    values: onnxruntime.OrtValue
    score: onnxruntime.OrtValue
    target: onnxruntime.OrtValue | None


class Recorder(Engine):
    """An engine that computes with another's sessions, and keeps what a method asks of it."""

    def __init__(self, engine: Engine) -> None:
        vars(self).update(vars(engine))
        self.record: list[tuple[Asked, Feeds, Attribution]] = []

    def attribute(
        self,
        feeds: Feeds,
        batch: int,
        target: Any,
        head: Head,
        *,
        output: Output,
        of: Of = "logits",
        overlay: str | None = None,
        batch_axis: int = 0,
        weights: Array | None = None,
    ) -> Attribution:
        """See :meth:`onnxviz.engine.core.Engine.attribute`."""
        answer = super().attribute(
            feeds, batch, target, head, output=output, of=of, overlay=overlay, batch_axis=batch_axis, weights=weights
        )
        self.record.append((Asked.of_user(target, batch, head, output, of, overlay), feeds, answer))
        return answer

    def bound(self, explanation: Explanation, *, cuda_graph: bool) -> Bound:
        """What was asked, bound.

        Raises:
            OptionError: the explanation is not what one run of one graph gave.
        """
        asked, feeds, answer = self.record[-1] if self.record else (None, {}, None)
        single = len(self.record) == 1 and asked is not None and not asked.target.several
        if asked is None or not single or answer is None or explanation.values is not answer.values:
            raise OptionError(
                f"{explanation.method} is more than one run of one graph, with these options and targets: it cannot be "
                f"bound. Ask for it by explain"
            )
        return Bound(self, asked, feeds, cuda_graph=cuda_graph)


class Bound:
    """A method on inputs of one shape, for one thread at a time. Made by :meth:`onnxviz.Explainer.bind`.

    Args:
        engine: that computes.
        asked: what.
        feeds: the inputs to begin with.
        cuda_graph: on CUDA, record the run once and play it from then on: nothing is launched kernel by kernel.
    """

    def __init__(self, engine: Engine, asked: Asked, feeds: Feeds, *, cuda_graph: bool) -> None:
        self._manifest, self._asked = engine.bundle.manifest, asked
        self._feeds = {name: (x.shape, x.dtype) for name, x in feeds.items()}
        self._batch = engine.chunks.samples(feeds)
        self._seed = f"{seed_name(asked.output.name)}#given"
        plain = engine.fused(asked)
        device, ort = engine.chunks.device, runtime()
        recorded = cuda_graph and device.provider == CUDA
        self._prepared = engine.fused(asked, cuda_graph=True) if recorded else plain
        fed = {**feeds, **({} if asked.target.seeds is None else {self._seed: self._whole(asked.target.seeds[0])})}
        place = device.kind, device.index
        self._buffers = {n: ort.OrtValue.ortvalue_from_numpy(np.array(fed[n]), *place) for n in plain.inputs}
        binding = plain.session.io_binding()
        for name in plain.inputs:
            binding.bind_ortvalue_input(name, self._buffers[name])
        for name in plain.outputs:
            binding.bind_output(name, *place)
        plain.session.run_with_iobinding(binding)  # makes buffers of the results' sizes
        self._buffers |= dict(zip(plain.outputs, binding.get_outputs(), strict=True))
        self._binding = self._prepared.session.io_binding()
        for name in plain.inputs:
            self._binding.bind_ortvalue_input(name, self._buffers[name])
        for name in plain.outputs:
            self._binding.bind_ortvalue_output(name, self._buffers[name])

    def __call__(self, x: Any, target: Any = None) -> OnDevice:
        """The method's answer for other numbers.

        Args:
            x: as at binding, of the same shapes and types. Arrays in host memory are copied to the device; what DLPack
                reads on the device is copied there, not through the host. Not looked at for NaN.
            target: another target of one class or weighting per sample; None is the one before.

        Raises:
            InputError: another shape or type.
            TargetError: several targets per sample; or the class on top was bound, which is found in the graph.
            ProviderError: onnxruntime failed.
        """
        given = named(x, self._manifest)
        for name, (shape, dtype) in self._feeds.items():
            if name in self._buffers:
                self._buffers[name].update_inplace(_tensor(name, given[name], shape, dtype))
        if target is not None:
            self._aim(target)
        try:
            self._prepared.session.run_with_iobinding(self._binding)
        except runtime_errors() as error:
            raise ProviderError(f"{self._prepared.provider} failed while computing: {error}") from error
        return OnDevice(self._buffers[RESULT], self._buffers[SCORE], self._buffers.get(TOP))

    def _aim(self, target: Any) -> None:
        output = self._asked.output
        resolved = resolve(target, output, self._batch, np.dtype(output.dtype))
        if self._seed not in self._buffers or resolved.several or resolved.seeds is None:
            raise TargetError(
                f"target={target!r}: what was bound takes "
                + ("one target per sample" if self._seed in self._buffers else "none, it finds the class on top itself")
            )
        seed = self._whole(resolved.seeds[0])
        if list(seed.shape) != list(self._buffers[self._seed].shape()):
            raise TargetError(
                f"a weighting of shape {list(seed.shape)} cannot take the place of another kind of target"
            )
        self._buffers[self._seed].update_inplace(seed)

    def _whole(self, seed: Array) -> Array:
        return np.ascontiguousarray(np.broadcast_to(seed, (self._batch, *seed.shape[1:])))


def _tensor(name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """An array, or an OrtValue that shares the memory of what is on a device."""
    if hasattr(value, "detach"):
        value = value.detach()
    if not isinstance(value, np.ndarray) and hasattr(value, "__dlpack__"):
        value = runtime().OrtValue.from_dlpack(value)
        found, kind = tuple(value.shape()), value.data_type()
        same = kind == f"tensor({_KINDS.get(dtype.name, dtype.name)})"
    else:
        value = np.ascontiguousarray(as_array(value, f"input {name!r}"))
        found, kind, same = value.shape, value.dtype, value.dtype == dtype
    if found != shape or not same:
        raise InputError(f"input {name!r} has shape {list(found)} and type {kind}; {list(shape)}, {dtype} was bound")
    return value


_KINDS = {"float32": "float", "float64": "double"}
"""onnxruntime's names of types where they differ from numpy's."""
