"""Computes gradients with ONNX Runtime's own builder: ``training_worker.py MODEL THREADS``, with the training build.

It says ``done`` when it is ready. Each line on its standard input is a question: a JSON object with the paths ``given``
(an .npz with ``x`` and ``seed``) and ``found`` (where the result is to be written), or an empty one, the same again;
it answers ``done``, or what went wrong. It uses numpy and onnxruntime alone.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort
from onnxruntime.capi._pybind_state import GradientGraphBuilder

ERRORS = (
    RuntimeError, ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.NotImplemented, ort.RuntimeException,
)  # fmt: skip


def session_for(path: str, threads: int) -> onnxruntime.InferenceSession:
    """A session with the gradient graph of the model with respect to its first input."""
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    model = Path(path).read_bytes()
    (source, *_) = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).get_inputs()
    builder = GradientGraphBuilder(model, {"loss"}, {source.name}, "loss")
    builder.build()
    return onnxruntime.InferenceSession(builder.get_model(), options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Serve until nobody asks any more."""
    session = session_for(sys.argv[1], int(sys.argv[2]))
    source = next(tensor.name for tensor in session.get_inputs() if tensor.name != "seed")
    feeds: dict[str, np.ndarray] = {}
    result = None
    print("done", flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        if question:
            with np.load(question["given"]) as given:
                feeds = {source: given["x"], "seed": given["seed"]}
        (gradient,) = session.run([f"{source}_grad"], feeds)
        found = np.abs(gradient).max(axis=1)
        if question:
            result = np.lib.format.open_memmap(question["found"], "w+", np.float32, found.shape)
        result[:] = found
        print("done", flush=True)


try:
    main()
except ERRORS as error:
    print(str(error).partition("\n")[0], flush=True)
