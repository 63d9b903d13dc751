"""Resizing of pictures (N, H, W, C)."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from tf2onnx import utils

from onnxviz.source import Array

MODES = {"ResizeBilinear": "linear", "ResizeNearestNeighbor": "nearest"}
"""Of what TensorFlow and ONNX do alike. Lanczos's and antialiased weights ONNX has not, those of the bicubic TensorFlow
reads from a coarse table."""


def resize(graph: Any, node: Any, _name: str, _args: Any) -> None:
    """As ``Resize``, or else as what it is: a matrix along the height and one along the width.

    ``Resize`` takes scales, which float32 must hold for the sizes to come out right (sizes would have to name the
    batch, or axes, of which onnxruntime loses track where it moves a Transpose).
    """
    (output,), shape, dtype = node.output, graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    old, new = np.array(graph.get_shape(node.input[0])[1:3]), np.array(shape[1:3])
    scales = (new / old).astype(np.float32)
    pixels = graph.make_node("Cast", [node.input[0]], {"to": dtype})  # TensorFlow makes floats of integers
    if node.type in MODES and np.array_equal(scales.astype(np.float64) * old, new):
        resized, last = _by_operator(graph, node, pixels.output[0], scales)
    else:
        resized, last = _by_matrices(graph, node, pixels.output[0], old, new, shape[3])
    graph.remove_node(node.name)
    graph.make_node(last.pop("type"), resized, last, name=node.name, outputs=[output], shapes=[shape], dtypes=[dtype])


def _by_operator(graph: Any, node: Any, pixels: str, scales: Array) -> tuple[list[str], dict[str, Any]]:
    corners, centers = (node.get_attr_value(key, 0) for key in ("align_corners", "half_pixel_centers"))
    attributes = {
        "mode": MODES[node.type],
        "coordinate_transformation_mode": "align_corners" if corners else "half_pixel" if centers else "asymmetric",
        # TensorFlow's pixel is ⌊(x + ½) / scale⌋: x is rounded after the half has gone
        "nearest_mode": "round_prefer_ceil" if corners or centers else "floor",
    }
    first = graph.make_node("Transpose", [pixels], {"perm": [0, 3, 1, 2]})
    factors = _constant(graph, node, "scales", np.array([1, 1, *scales], np.float32))
    resized = graph.make_node("Resize", [first.output[0], "", factors], attributes)
    return resized.output, {"type": "Transpose", "perm": [0, 2, 3, 1]}


def _by_matrices(
    graph: Any, node: Any, pixels: str, old: Array, new: Array, channels: int
) -> tuple[list[str], dict[str, Any]]:
    height, width = (_constant(graph, node, "weights", _weights(node, *sizes)) for sizes in zip(old, new, strict=True))
    wide = graph.make_node("MatMul", [width, pixels])
    flat = _constant(graph, node, "rows", np.array([0, 0, new[1] * channels]))
    rows = graph.make_node("Reshape", [wide.output[0], flat])
    tall = graph.make_node("MatMul", [height, rows.output[0]])
    return [tall.output[0], _constant(graph, node, "shape", np.array([0, *new, channels]))], {"type": "Reshape"}


def _constant(graph: Any, node: Any, kind: str, value: Array) -> str:
    name: str = graph.make_const(utils.make_name(f"{node.name}/{kind}"), value).output[0]
    return name


def _weights(node: Any, old: int, new: int) -> Array:
    """The matrix (new, old) by which the operator resizes one axis: what it makes of columns with a single one."""
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        image, size = np.eye(old, dtype=np.float32)[None, :, None], [new, 1]
        if node.type == "ScaleAndTranslate":
            resized = tf.raw_ops.ScaleAndTranslate(
                images=image, size=size, scale=[new / old, 1.0], translation=[0.0, 0.0],
                kernel_type=node.get_attr_str("kernel_type"), antialias=bool(node.get_attr_int("antialias")),
            )  # fmt: skip
        else:
            flags = {key: bool(node.get_attr_value(key, 0)) for key in ("align_corners", "half_pixel_centers")}
            resized = getattr(tf.raw_ops, node.type)(images=image, size=size, **flags)
        weights: Array = session.run(resized)[0, :, 0]
    return weights


OPERATORS = (*MODES, "ResizeBicubic", "ScaleAndTranslate")
