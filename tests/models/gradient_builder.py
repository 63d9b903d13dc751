"""Differentiates models with ONNX Runtime's own builder: ``gradient_builder.py FOLDER``, with the training build.

Beside each ``NAME.onnx``, whose scalar output is called ``loss``, stands ``NAME.npz`` with its inputs. What the builder
makes of it goes to ``NAME.found.npz``: the gradients of all inputs but ``seed``; or to ``NAME.error``: what went wrong.
It uses numpy and onnxruntime alone.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort
from onnxruntime.capi._pybind_state import GradientGraphBuilder

options = onnxruntime.SessionOptions()
options.log_severity_level = 4
onnxruntime.set_default_logger_severity(4)
for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    with np.load(path.with_suffix(".npz")) as stored:
        feeds = {name: stored[name] for name in stored.files}
    wanted = [name for name in feeds if name != "seed"]
    try:
        builder = GradientGraphBuilder(path.read_bytes(), {"loss"}, set(wanted), "loss")
        builder.build()
        session = onnxruntime.InferenceSession(builder.get_model(), options, providers=["CPUExecutionProvider"])
        names = [f"{name}_grad" for name in wanted]
        found = session.run(names, feeds)
    except (
        RuntimeError,
        ort.Fail,
        ort.InvalidArgument,
        ort.InvalidGraph,
        ort.NotImplemented,
        ort.RuntimeException,
    ) as error:
        path.with_suffix(".error").write_text(str(error))
    else:
        np.savez(path.with_suffix(".found.npz"), **dict(zip(wanted, found, strict=True)))
