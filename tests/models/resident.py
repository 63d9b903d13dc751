"""Measures memory in a fresh process: ``python -m tests.models.resident convert|explain FILE`` prints MiB as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

METHODS = ("gradient", "saliency", "guided_backprop", "deconvnet", "grad_cam")


def status(key: str) -> int:
    """A line of /proc/self/status in bytes: ``VmRSS`` is what is resident, ``VmHWM`` its peak."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:")]
    return int(line.split()[1]) * 1024


def convert(path: str) -> dict[str, int]:
    """Convert VGG16 with random weights."""
    import torch

    import onnxviz as ov
    from benchmarks.networks import build

    model = build("vgg16")
    loaded = status("VmRSS")
    example = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    ov.convert(model, path, example=example, quiet=True)
    return {"loaded": loaded, "peak": status("VmHWM"), "weights": sum(4 * p.numel() for p in model.parameters())}


def explain(path: str) -> dict[str, int]:
    """Predict and explain with five methods, without torch."""
    sys.modules["torch"] = None  # type: ignore[assignment] - `import torch` now fails
    import numpy as np

    import onnxviz as ov

    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    with ov.load(path, providers="cpu") as explainer:
        explainer.predict(x)
        for method in METHODS:
            assert explainer.explain(x, method).values.any()
        return {"methods": len(METHODS), "resident": status("VmRSS"), "weights": explainer.memory()["weights"]}


if __name__ == "__main__":
    print(json.dumps({"convert": convert, "explain": explain}[sys.argv[1]](sys.argv[2])))  # noqa: T201
