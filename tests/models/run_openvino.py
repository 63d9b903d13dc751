"""Runs a file with the OpenVINO of a folder: ``run_openvino.py FOLDER MODEL FEEDS.npz OUTPUTS.npz``."""

import sys

import numpy as np

folder, model, feeds_file, outputs_file = sys.argv[1:]
sys.path.insert(0, folder)

import openvino  # noqa: E402 - from the folder

exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}
compiled = openvino.Core().compile_model(model, "CPU", exact)
with np.load(feeds_file) as stored:
    feeds = {name: stored[name] for name in stored.files}
results = compiled(feeds)
np.savez(outputs_file, **{name: results[name] for name in ("prediction", "map")})
