"""One module per family of operators; importing this package registers them all."""

from onnxviz.gradient.rules import (
    activation,
    elementwise,
    index,
    linear,
    norm,
    pool,
    quantise,
    recurrent,
    reduce,
    resize,
    sample,
    shape,
    signal,
    trigonometry,
)

__all__ = [
    "activation",
    "elementwise",
    "index",
    "linear",
    "norm",
    "pool",
    "quantise",
    "recurrent",
    "reduce",
    "resize",
    "sample",
    "shape",
    "signal",
    "trigonometry",
]
