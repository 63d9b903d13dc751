"""SwiftF0, an audio network that comes as a plain ONNX file, against finite differences of that file."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

import onnxviz as ov
import zoo


@pytest.fixture(scope="module")
def explainer(tmp_path_factory):
    path = tmp_path_factory.mktemp("swift") / "swift_f0.onnx"
    ov.convert(zoo.swift_f0_file(), path, example=zoo.melody(), quiet=True)
    with ov.load(path, providers="cpu") as explainer:
        yield explainer


@pytest.fixture(scope="module")
def original():
    session = onnxruntime.InferenceSession(zoo.swift_f0_file(), providers=["CPUExecutionProvider"])

    def run(feeds):
        return dict(zip(("pitch", "confidence"), session.run(["pitch", "confidence"], feeds), strict=True))

    return run


def test_the_file_computes_the_same(explainer, original):
    for name, value in original(zoo.melody()).items():
        np.testing.assert_allclose(explainer.predict(zoo.melody())[name], value, rtol=1e-4)


@pytest.mark.parametrize("output", ["confidence", "pitch"])
@pytest.mark.parametrize("tone", zoo.tone_masks())
def test_the_gradient_predicts_finite_differences(explainer, original, output, tone):
    """Along a line the file rises by the mean slope, wherever kinks lie; the slope is taken in 32 places."""
    feeds, mask = zoo.melody(), zoo.tone_masks()[tone]

    def moved(step):
        return feeds | {"audio": (feeds["audio"] + step).astype(np.float32)}

    def score(step):
        return (original(moved(step))[output].astype(np.float64) * mask).sum()

    def gradient(step):
        return explainer.gradient(moved(step), mask, output=output).values.astype(np.float64)

    start, rng = gradient(0), np.random.default_rng(0)
    for direction in (start, start * rng.integers(0, 2, start.shape)):
        step = 1e-3 * direction / np.linalg.norm(direction)
        slope = np.mean([(gradient(t * step) * step).sum() for t in (np.arange(32) + 0.5) / 16 - 1])
        assert (score(step) - score(-step)) / 2 == pytest.approx(slope, rel=2e-3)
