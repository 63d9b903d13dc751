"""Keras Applications with random weights, at the smallest picture that each takes."""

from __future__ import annotations

from functools import partial

from benchmarks.sweep.entry import Entry, Subject

SMALL = {"MobileNetV3Small", "ResNet50V2"}
SIZES = {
    "VGG16": 32, "VGG19": 32, "ResNet50": 32, "ResNet101": 32, "ResNet152": 32, "ResNet50V2": 32, "ResNet101V2": 32,
    "ResNet152V2": 32, "InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71, "MobileNet": 32, "MobileNetV2": 32,
    "MobileNetV3Small": 32, "MobileNetV3Large": 32, "DenseNet121": 32, "DenseNet169": 32, "DenseNet201": 32,
    "NASNetMobile": 32, "EfficientNetB0": 32, "EfficientNetB1": 32, "EfficientNetB4": 32, "EfficientNetV2B0": 32,
    "EfficientNetV2S": 32, "ConvNeXtTiny": 32, "ConvNeXtSmall": 32,
}  # fmt: skip
"""Height and width of the input."""


def build(name: str, size: int) -> Subject:
    """The network without its classifier's 1000 classes, with statistics and biases as training leaves them."""
    import numpy as np

    import onnxviz_keras  # noqa: F401 - imports TensorFlow without its reports

    import keras  # isort: skip

    keras.utils.set_random_seed(0)
    shape = (size, size, 3)
    model = getattr(keras.applications, name)(weights=None, include_top=False, pooling="avg", input_shape=shape)
    logits = keras.layers.Dense(10, activation="softmax", name="top")(model.output)
    model = keras.Model(model.input, logits)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        kind = variable.path.rpartition("/")[2]
        if kind in ("gamma", "moving_variance"):
            variable.assign(1 + np.abs(0.1 * rng.standard_normal(variable.shape)))
        elif kind in ("beta", "bias", "moving_mean"):
            variable.assign(0.1 * rng.standard_normal(variable.shape))
    return Subject(model)


ENTRIES = [
    Entry("Keras Applications", name, partial(build, name, size), small=name in SMALL) for name, size in SIZES.items()
]
