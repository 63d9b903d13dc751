"""Maps of the real networks as they were on 2026-11-22, in 16 × 16 blocks: ``golden.npz``.

``python -m tests.models.golden`` computes them anew: only for a change that is meant to change maps, which says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import onnxviz as ov
import zoo
from onnxviz.source import Array

FILE = Path(__file__).with_name("golden.npz")
SIDE = 16
TARGET = 281
"""The tabby cat."""
METHODS: dict[str, Callable[[ov.Explainer, Array], Array]] = {
    "gradient": lambda ex, x: ex.gradient(x, TARGET).values,
    "saliency": lambda ex, x: ex.saliency(x, TARGET).values,
    "guided_backprop": lambda ex, x: ex.guided_backprop(x, TARGET).values,
    "deconvnet": lambda ex, x: ex.deconvnet(x, TARGET).values,
    "integrated_gradients": lambda ex, x: ex.integrated_gradients(x, TARGET, n_steps=4).values,
    "grad_cam": lambda ex, x: ex.grad_cam(x, TARGET).values,
    "hires_cam": lambda ex, x: ex.hires_cam(x, TARGET).values,
    "of_the_probability": lambda ex, x: ex.gradient(x, TARGET, of="probability").values,
}


def blocks(values: Array) -> Array:
    """The mean size of what stands in each of 16 × 16 blocks, of a map (1, H, W) or (1, 3, H, W)."""
    flat = np.abs(values.astype(np.float64)).reshape(-1, *values.shape[-2:]).sum(0)
    rows, columns = (np.arange(SIDE) * n // SIDE for n in flat.shape)
    sums = np.add.reduceat(np.add.reduceat(flat, rows, 0), columns, 1)
    return sums * SIDE**2 / flat.size


def difference(found: Array, expected: Array) -> float:
    """The largest, relative to the largest expected."""
    return float(np.abs(found - expected).max() / expected.max())


def maps(ex: ov.Explainer) -> dict[str, Array]:
    """The blocks of each method, of one photo."""
    x = ex.read_image(zoo.photos()["chelsea"])
    return {name: blocks(method(ex, x)) for name, method in METHODS.items()}


def main() -> None:
    """Write the maps."""
    from tests.models.conftest import _real
    from tests.models.models import build

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("squeezenet", "efficientnet_lite0"):
            path = ov.convert(build(name), Path(folder) / f"{name}.onnx", quiet=True, **_real(name))
            with ov.load(path, providers="cpu", optimize=False, threads=1) as ex:
                found |= {f"{name}/{method}": values.astype(np.float32) for method, values in maps(ex).items()}
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    main()
