"""Runs an explainable file in the Python that starts it: ``native_kernels.py MODEL FEEDS.npz OUTPUTS.npz OPTIMISED``.

It uses numpy and onnxruntime alone. The outputs asked for stand in the feeds, under ``outputs``.
"""

import sys

import numpy as np
import onnxruntime

model, feeds_file, outputs_file, optimised = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
options.optimized_model_filepath = optimised
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
with np.load(feeds_file) as stored:
    feeds = {name: stored[name] for name in stored.files}
names = feeds.pop("outputs").tolist()
np.savez(outputs_file, **dict(zip(names, session.run(names, feeds), strict=True)), version=onnxruntime.__version__)
