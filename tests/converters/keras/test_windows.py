"""Convolutions, pooling, padding and resizing of every kind: each variant on a branch of its own."""

from __future__ import annotations

import pytest
from keras import layers as L

from tests.converters.keras.support import assert_converts, branches


def window(layer, *args, **options):
    """Plain, at the window's stride, and larger or smaller than it, with both paddings."""
    variants = {"": {}, "_s2": {"strides": 2}, "_d2": {"dilation_rate": 2}}
    paddings = ("valid", "same") if layer is not L.Conv1D else ("valid", "same", "causal")
    return {
        padding + name: layer(*args, padding=padding, **variant, **options)
        for padding in paddings
        for name, variant in variants.items()
    }


def transposed(layer, *args):
    """Kernels larger and smaller than the stride, with every padding of the output."""
    return {
        "valid": layer(*args, 3),
        "same": layer(*args, 3, padding="same"),
        "valid_s2": layer(*args, 3, strides=2),
        "same_s2": layer(*args, 3, strides=2, padding="same"),
        "even": layer(*args, 4, strides=2, padding="same"),
        "gaps": layer(*args, 2, strides=3),
        "same_gaps": layer(*args, 2, strides=3, padding="same"),
        "padded": layer(*args, 3, strides=2, output_padding=1),
        "same_padded": layer(*args, 3, strides=2, padding="same", output_padding=0),
        "dilated": layer(*args, 2, dilation_rate=2),
    }


def pools(layer):
    return {
        f"{padding}_{size}_{strides}": layer(size, strides=strides, padding=padding)
        for padding in ("valid", "same")
        for size, strides in ((2, None), (3, 2), (3, 1), (2, 3))
    }


def kept(*layers):
    """Global pooling, with and without the axes that it pools."""
    return {f"{layer.__name__}_{keep}": layer(keepdims=keep) for layer in layers for keep in (False, True)}


CASES = {
    "Conv1D": lambda: (
        (11, 3),
        window(L.Conv1D, 4, 3)
        | {"groups": L.Conv1D(6, 3, strides=2, padding="same", groups=3), "linear": L.Conv1D(4, 2, use_bias=False)},
    ),
    "Conv2D": lambda: (
        (9, 11, 4),
        window(L.Conv2D, 4, 3)
        | {
            "even": L.Conv2D(4, (4, 2), strides=(2, 3), padding="same"),
            "uneven": L.Conv2D(4, (4, 3), strides=(2, 3)),
            "point": L.Conv2D(4, 1, strides=2),
            "groups": L.Conv2D(6, 3, groups=2),
            "groups_s2": L.Conv2D(6, 3, groups=2, strides=2, padding="same", activation="relu"),
            "depthwise": L.Conv2D(8, 3, groups=4, dilation_rate=2, padding="same"),
        },
    ),
    "Conv3D": lambda: (
        (5, 6, 7, 3),
        window(L.Conv3D, 4, 3)
        | {"uneven": L.Conv3D(2, (1, 2, 3), strides=(3, 1, 2)), "groups": L.Conv3D(6, 2, groups=3)},
    ),
    "SeparableConv1D": lambda: ((11, 3), window(L.SeparableConv1D, 4, 3, depth_multiplier=2)),
    "SeparableConv2D": lambda: ((9, 11, 3), window(L.SeparableConv2D, 4, 3, depth_multiplier=2)),
    "DepthwiseConv1D": lambda: (
        (11, 3),
        window(L.DepthwiseConv1D, 3) | {"many": L.DepthwiseConv1D(4, strides=2, padding="same", depth_multiplier=3)},
    ),
    "DepthwiseConv2D": lambda: (
        (9, 11, 3),
        window(L.DepthwiseConv2D, 3)
        | {"many": L.DepthwiseConv2D((4, 3), strides=2, padding="same", depth_multiplier=3)},
    ),
    "Conv1DTranspose": lambda: ((5, 3), transposed(L.Conv1DTranspose, 4)),
    "Conv2DTranspose": lambda: (
        (4, 5, 3),
        transposed(L.Conv2DTranspose, 4)
        | {"uneven": L.Conv2DTranspose(2, (4, 3), strides=(4, 2), output_padding=(3, 0), padding="same")},
    ),
    "Conv3DTranspose": lambda: ((3, 4, 3, 2), transposed(L.Conv3DTranspose, 2)),
    "MaxPooling1D": lambda: ((11, 3), pools(L.MaxPooling1D)),
    "MaxPooling2D": lambda: ((9, 11, 3), pools(L.MaxPooling2D) | {"row": L.MaxPooling2D((1, 3), padding="same")}),
    "MaxPooling3D": lambda: ((5, 6, 7, 2), pools(L.MaxPooling3D)),
    "AveragePooling1D": lambda: ((11, 3), pools(L.AveragePooling1D)),
    "AveragePooling2D": lambda: (
        (9, 11, 3),
        pools(L.AveragePooling2D) | {"row": L.AveragePooling2D((1, 3), padding="same")},
    ),
    "AveragePooling3D": lambda: ((5, 6, 7, 2), pools(L.AveragePooling3D)),
    "global pooling of series": lambda: ((11, 3), kept(L.GlobalAveragePooling1D, L.GlobalMaxPooling1D)),
    "global pooling of images": lambda: ((4, 5, 3), kept(L.GlobalAveragePooling2D, L.GlobalMaxPooling2D)),
    "global pooling of volumes": lambda: ((3, 4, 2, 3), kept(L.GlobalAveragePooling3D, L.GlobalMaxPooling3D)),
    "adaptive pooling": lambda: (
        (7, 9, 3),
        {"average": L.AdaptiveAveragePooling2D((3, 4)), "max": L.AdaptiveMaxPooling2D((3, 4))},
    ),
    "channels first": lambda: (
        (3, 6, 5),
        {
            "conv": L.Conv2D(4, 3, strides=2, padding="same", data_format="channels_first"),
            "depthwise": L.DepthwiseConv2D(3, data_format="channels_first"),
            "transposed": L.Conv2DTranspose(4, 3, strides=2, data_format="channels_first"),
            "pool": L.MaxPooling2D(2, data_format="channels_first"),
            "average": L.GlobalAveragePooling2D(data_format="channels_first"),
            "max": L.GlobalMaxPooling2D(data_format="channels_first", keepdims=True),
            "pad": L.ZeroPadding2D(((1, 0), (2, 1)), data_format="channels_first"),
            "crop": L.Cropping2D(1, data_format="channels_first"),
            "up": L.UpSampling2D(2, data_format="channels_first"),
        },
    ),
    "series larger and smaller": lambda: (
        (9, 3),
        {
            "up": L.UpSampling1D(3),
            "pad": L.ZeroPadding1D((1, 3)),
            "crop": L.Cropping1D((0, 3)),
        },
    ),
    "images larger and smaller": lambda: (
        (4, 5, 3),
        {
            f"{how}_{'_'.join(map(str, size))}": L.UpSampling2D(size, interpolation=how)
            for how in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
            for size in ((2, 2), (3, 2))
        }
        | {"pad": L.ZeroPadding2D(((1, 3), (0, 2))), "crop": L.Cropping2D(((0, 3), (1, 2)))},
    ),
    "volumes larger and smaller": lambda: (
        (4, 4, 5, 2),
        {
            "up": L.UpSampling3D((1, 2, 3)),
            "pad": L.ZeroPadding3D(((1, 3), (0, 2), (1, 1))),
            "crop": L.Cropping3D(((0, 3), (1, 2), (2, 0))),
        },
    ),
    "Resizing": lambda: (
        (6, 7, 3),
        {
            "linear": L.Resizing(9, 5),
            "nearest": L.Resizing(4, 9, interpolation="nearest"),
            "cubic": L.Resizing(4, 9, interpolation="bicubic"),
            "smooth": L.Resizing(3, 5, antialias=True),
            "cut": L.Resizing(4, 6, crop_to_aspect_ratio=True),
            "center": L.CenterCrop(4, 3),
            "enlarged": L.CenterCrop(8, 9),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_and_gradients_are_kerass(case, tmp_path):
    assert_converts(branches(*case()), tmp_path)
