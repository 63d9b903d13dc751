"""A plain ONNX model as it was handed over, run on ONNX Runtime as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from onnxviz import limits
from onnxviz.engine.session import share_arena
from onnxviz.errors import ConversionError, FileFormatError, UnsupportedModelError, UnsupportedOperatorError
from onnxviz.graph.onnx_file import OnnxFile
from onnxviz.soundness import subgraphs
from onnxviz.source import Array, Feeds, Request

FLOATS: Mapping[str, np.dtype[np.floating]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
}
"""ONNX Runtime's names of the float types that numpy has."""

ORT_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
"""What ONNX Runtime raises; its exceptions share no base."""

_TOO_NEW = "is under development and support for this is limited"
_NO_OPERATOR = ("is not a registered function/op", "No Op registered for", "Could not find an implementation for")


def value_nodes(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The values that depend on the model's inputs, in the order of the graph → the node that computes each.

    A value that depends on an input's shape alone does not depend on the input.
    """
    stored = {tensor.name for tensor in graph.initializer}
    depending = {each.name for each in graph.input} - stored
    nodes: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        if node.op_type not in ("Shape", "Size") and not depending.isdisjoint(_reads(node)):
            depending.update(node.output)
            nodes.update((name, node) for name in node.output if name)
    return nodes


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads: its inputs, and what its sub-graphs take from outside (or compute themselves)."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in subgraphs(attribute):
            for inner in graph.node:
                yield from _reads(inner)
            yield from (each.name for each in graph.output)


class Original:
    """The model on ONNX Runtime, with further values of its graph exposed as outputs.

    It is the :class:`~onnxviz.source.Reference` of a plain ONNX file. ONNX Runtime differentiates nothing, so
    :meth:`gradients` is empty and gradients are checked by finite differences.

    Args:
        file: the model; unchanged afterwards.
        exposed: names of values, besides the model's outputs, that :meth:`run` is to return.

    Raises:
        UnsupportedOperatorError: ONNX Runtime has no kernel for an operator.
        FileFormatError: ONNX Runtime cannot load the graph for another reason.
        UnsupportedModelError: an output is not a tensor, or the opset is newer than ONNX Runtime reads.
    """

    def __init__(self, file: OnnxFile, exposed: Iterable[str] = ()) -> None:
        proto = file.proto
        outputs = [each.name for each in proto.graph.output]
        further = [name for name in dict.fromkeys(exposed) if name not in outputs]
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in further)
        try:
            self._session = _session(file)
        finally:
            del proto.graph.output[len(outputs) :]
        self.outputs = outputs
        self.types: dict[str, str] = {each.name: each.type for each in self._session.get_outputs()}
        self._wanted = list(self.types)
        for name in outputs:
            if not self.types[name].startswith("tensor("):
                raise UnsupportedModelError(f"the output {name!r} is {self.types[name]}; onnxviz explains tensors")

    def keep(self, names: Iterable[str]) -> None:
        """Return only these, and the model's outputs, from now on."""
        self._wanted = list(dict.fromkeys((*self.outputs, *names)))

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Values of the outputs and the exposed values, by name.

        Raises:
            ConversionError: the model fails on these inputs, or takes too long.
        """
        with limits.patience() as options:
            try:
                values = self._session.run(self._wanted, dict(feeds), options)
            except ORT_ERRORS as error:
                shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
                reason = (
                    f"it takes longer than {limits.MOST_SECONDS:.0f} s" if options.terminate else str(error).strip()
                )
                raise ConversionError(
                    f"the original model does not run on {shapes}: {reason}. Give inputs that it accepts as example="
                ) from error
        return dict(zip(self._wanted, values, strict=True))

    def gradients(self, feeds: Feeds, requests: Sequence[Request]) -> Sequence[dict[str, Array]]:
        """Empty: an ONNX file has no differentiation of its own."""
        del feeds, requests
        return ()


def _session(file: OnnxFile) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what matters is raised; warnings about the user's own graph help nobody here
    options.add_session_config_entry("session.disable_prepacking", "1")  # a second copy of the weights, for a few runs
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # as the converted file will be run
    share_arena()  # its memory is bounded
    options.add_session_config_entry("session.use_env_allocators", "1")
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in file.weights.items()}
    # The first call tells where the external tensors are, the second that the session may use them without a copy.
    options.add_external_initializers(list(values), list(values.values()))
    for name, value in values.items():
        options.add_initializer(name, value)
    try:
        return onnxruntime.InferenceSession(file.proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except ORT_ERRORS as error:
        message = str(error).strip()
        if refusal := missing_kernel(file.proto, message):
            raise refusal from error
        if _TOO_NEW in message:
            raise UnsupportedModelError(
                f"the model's opset is newer than onnxruntime {onnxruntime.__version__} reads: {message}. Update "
                f"onnxruntime, or export the model at an older opset"
            ) from error
        raise FileFormatError(f"onnxruntime {onnxruntime.__version__} cannot load the model: {message}") from error


def missing_kernel(proto: onnx.ModelProto, message: str) -> UnsupportedOperatorError | None:
    """The refusal of a graph for which ONNX Runtime says that it lacks an operator; None if it says something else."""
    if not any(phrase in message for phrase in _NO_OPERATOR):
        return None
    what = "an operator of the model"
    for node in proto.graph.node:
        marks = (f"{node.domain}:{node.op_type}(", f"for {node.op_type} with", f"for {node.op_type}(")
        if any(mark in message for mark in marks):
            called = repr(node.name) if node.name else f"of {node.output[0]!r}"
            what = f"the operator {node.op_type} {called} of the operator set {node.domain or 'ai.onnx'!r}"
            break
    return UnsupportedOperatorError(
        f"onnxruntime's CPU has no kernel for {what}{_in_double(proto)}; onnxviz needs a model that it runs. "
        f"onnxruntime says: {message}"
    )


def _in_double(proto: onnx.ModelProto) -> str:
    kinds = {tensor.data_type for tensor in proto.graph.initializer}
    kinds |= {value.type.tensor_type.elem_type for value in proto.graph.input}
    if onnx.TensorProto.DOUBLE not in kinds:
        return ""
    return " in double precision, for which it has few: convert the model in float32 (PyTorch: model.float())"
