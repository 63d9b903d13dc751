"""SqueezeNet 1.1 (Iandola et al. 2016, arXiv:1602.07360) in Keras: the twin of ``squeezenet.py``, layer by layer."""

from __future__ import annotations

from keras import Input, KerasTensor, Model, layers


def fire(x: KerasTensor, name: str, squeezed: int, expanded: int) -> KerasTensor:
    """Squeeze to few channels, expand by 1×1 and 3×3 kernels, concatenate: (N, H, W, C) to (N, H, W, 2 · expanded)."""
    x = layers.Conv2D(squeezed, 1, name=f"{name}_squeeze1x1")(x)
    x = layers.ReLU(name=f"{name}_squeeze_relu")(x)
    branches = []
    for size in (1, 3):
        branch = layers.Conv2D(expanded, size, padding="same", name=f"{name}_expand{size}x{size}")(x)
        branches.append(layers.ReLU(name=f"{name}_expand{size}x{size}_relu")(branch))
    return layers.Concatenate(name=f"{name}_concat")(branches)


def squeezenet() -> Model:
    """Version 1.1; (N, 227, 227, 3) to logits (N, 1000)."""
    image = Input((227, 227, 3), name="image")
    x = layers.Conv2D(64, 3, strides=2, name="conv1")(image)
    x = layers.ReLU(name="relu1")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    x = fire(x, "fire2", 16, 64)
    x = fire(x, "fire3", 16, 64)
    x = layers.MaxPooling2D(3, strides=2, name="pool3")(x)
    x = fire(x, "fire4", 32, 128)
    x = fire(x, "fire5", 32, 128)
    x = layers.MaxPooling2D(3, strides=2, name="pool5")(x)
    x = fire(x, "fire6", 48, 192)
    x = fire(x, "fire7", 48, 192)
    x = fire(x, "fire8", 64, 256)
    x = fire(x, "fire9", 64, 256)
    x = layers.Conv2D(1000, 1, name="conv10")(x)
    logits = layers.GlobalAveragePooling2D(name="pool10")(x)
    return Model(image, logits, name="squeezenet")
