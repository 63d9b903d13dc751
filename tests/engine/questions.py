"""Questions whose answers must not depend on how the engine computes them, and the runs that it takes."""

from __future__ import annotations

import numpy as np

from onnxviz.engine import core
from tests.support import normal

METHODS = {
    "gradient": lambda ex, x: ex.gradient(x, 2).values,
    "gradient of top-1": lambda ex, x: ex.gradient(x).values,
    "gradient of each": lambda ex, x: ex.gradient(x, np.arange(len(x)) % 5).values,
    "gradient of several": lambda ex, x: ex.gradient(x, [[0, 3]]).values,
    "gradient of several of each": lambda ex, x: ex.gradient(x, np.arange(2 * len(x)).reshape(-1, 2) % 5).values,
    "gradient of a mask": lambda ex, x: ex.gradient(x, normal(len(x), 5, seed=3)).values,
    "gradient at a layer": lambda ex, x: ex.gradient(x, 2, layer="features.0").values,
    "saliency": lambda ex, x: ex.saliency(x, 2).values,
    "guided backprop": lambda ex, x: ex.guided_backprop(x, 2).values,
    "deconvnet": lambda ex, x: ex.deconvnet(x, 2).values,
    "Grad-CAM": lambda ex, x: ex.grad_cam(x, 2).values,
    "Grad-CAM of several": lambda ex, x: ex.grad_cam(x, [[1, 2]]).values,
    "predict": lambda ex, x: ex.predict(x),
    "features": lambda ex, x: ex.features(x, "features.2")["features.2"],
    "score": lambda ex, x: ex.gradient(x).score,
    "target": lambda ex, x: ex.gradient(x).target + 1,
}
"""Name → what an explainer of the network ``cnn`` answers for an input, an array."""


def sizes_of_runs(monkeypatch, engine=core.Engine) -> list[int]:
    """The samples of each run from now on."""
    seen, run = [], engine._run

    def counted(engine, prepared, feeds, **options):
        seen.append(len(feeds["image"]))
        return run(engine, prepared, feeds, **options)

    monkeypatch.setattr(engine, "_run", counted)
    return seen
