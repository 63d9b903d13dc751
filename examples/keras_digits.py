"""A small Keras network on handwritten digits, and what its first layer does: `python examples/keras_digits.py`.

Usage: python examples/keras_digits.py [folder], by default demo/.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.figure as mpl
import numpy as np

import onnxviz as ov
from digits import Digits, digits, rgb

INPUT = ov.ImageInput(28, layout="NHWC", channels="L", scale=1 / 255)
BATCH = 50
SHOWN = 5
"""How many digits are drawn."""


def train(data: Digits, epochs: int) -> object:
    """The network, trained."""
    import onnxviz_keras  # noqa: F401 - imports TensorFlow without its reports

    # isort: split
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Conv2D(16, 3, activation="relu", name="conv1"),
        layers.MaxPooling2D(2),
        layers.Conv2D(32, 3, activation="relu", name="conv2"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dropout(0.3),
        layers.Dense(64, activation="relu", name="dense"),
        layers.Dropout(0.3),
        layers.Dense(10, activation="softmax", name="digit"),
    ])  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(INPUT.encode(rgb(data[0])), data[1], batch_size=BATCH, epochs=epochs, verbose=2)
    return model


def views(path: Path, data: Digits) -> dict[str, mpl.Figure]:
    """What there is to see of the first layer, by name. Nothing here needs Keras."""
    pixels, labels = data
    x = INPUT.encode(rgb(pixels))
    with ov.load(path) as ex:
        stats = ex.unit_stats((x[i : i + BATCH] for i in range(0, len(x), BATCH)), "conv1")
        print(stats)
        first = int(stats.deviation.argmax())
        unlike = int(np.nan_to_num(np.abs(stats.correlation[first]), nan=1).argmin())
        units = [first, unlike]
        some = [int(np.flatnonzero(labels == digit)[0]) for digit in range(SHOWN)]
        maps = ex.features(x[some], layers="conv1")["conv1"]
        predicted = [f"{digit}, read as {top[0][1]}" for digit, top in enumerate(ex.top(x[some], 1))]
        kernels = ex.filters("conv1")[units, 0]
        return {
            "feature-maps": ov.plot.compare(
                {f"conv1, unit {unit}": maps[..., unit] for unit in units}, rgb(pixels[some]), mode="beside",
                titles=predicted,
            ),
            "kernels": ov.plot.sheet(list(kernels), [f"unit {unit}" for unit in units], title="conv1"),
            "units": stats.plot(),
            "top-inputs": stats.plot_top(),
        }  # fmt: skip


def main(folder: Path, *, per_class: int = 500, epochs: int = 8) -> None:
    """Train, convert and draw; the pictures go into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    training, test = digits(per_class)
    model = train(training, epochs)
    path = folder / "keras-digits.onnx"
    ov.convert(model, path, input=INPUT, classes=list("0123456789"))
    for name, figure in views(path, test).items():
        figure.savefig(folder / f"keras-digits-{name}.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
