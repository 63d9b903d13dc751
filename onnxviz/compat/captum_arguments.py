"""The arguments of Captum's methods as those of :class:`onnxviz.Explainer`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxviz.compat.shared import explained
from onnxviz.engine.explainer import Explainer
from onnxviz.engine.inputs import array
from onnxviz.errors import InputError, LayerError, OnnxvizWarning, OptionError, TargetError
from onnxviz.source import Array


def layer_name(layer: Any) -> str | int:
    """A layer's name or index; a module of a framework is refused."""
    if isinstance(layer, str | int):
        return layer
    raise LayerError(f"layer is a {type(layer).__name__}; expected its name or index, as ex.layers shows them")


def inputs_of(inputs: Any, further: Any) -> tuple[Any, tuple[Any, ...]]:
    """The input that is explained as it was given, and all inputs as arrays."""
    several = inputs if isinstance(inputs, tuple) else (inputs,)
    if len(several) != 1:
        raise InputError(f"attributions of {len(several)} inputs at once are not offered: give one, the others as "
                         f"additional_forward_args")  # fmt: skip
    rest = () if further is None else further if isinstance(further, tuple) else (further,)
    x = tuple(array(one) for one in (*several, *rest))
    if not x[0].ndim:
        raise InputError(f"inputs is a {type(several[0]).__name__}; expected a batch (N, …)")
    return several[0], x


def check_first(ex: Explainer) -> None:
    """InputError if the model's first input, which Captum would explain, is not the one that has a gradient."""
    first, *others = ex.engine.bundle.manifest.inputs
    if not first.has_gradient and any(other.has_gradient for other in others):
        raise InputError(f"input {first.name!r}, the model's first, has no gradient: explain a layer, ex.gradient")


def target_of(ex: Explainer, target: Any, count: int) -> Any:
    """Captum's target as one of :class:`onnxviz.Explainer`."""
    output = explained(ex)
    rank = len(output.logits_shape)
    single = rank == 1 or (rank == 2 and output.logits_shape[1] == 1)
    if target is None:
        if single:
            return 0
        raise TargetError("target=None: this model has several scores, of which one must be chosen, target=…")
    if rank > 2:
        return _entries(output.logits_shape, target, count)
    if isinstance(target, tuple) and len(target) == 1:
        (target,) = target
    classes = array(target)
    if classes.size == 1:
        classes = classes.reshape(())
    if classes.ndim > 1 or not np.issubdtype(classes.dtype, np.integer):
        raise TargetError(f"target={target!r}: expected a class, or one for each sample")
    return classes if classes.ndim else int(classes)


def _entries(shape: tuple[Any, ...], target: Any, count: int) -> Array:
    """Weights that choose an entry of each sample's output."""
    chosen = target if isinstance(target, list) else [target] * count
    sizes = shape[1:]
    if len(chosen) != count or not all(isinstance(one, tuple) and len(one) == len(sizes) for one in chosen):
        raise TargetError(
            f"target={target!r}: an output of shape {list(shape)} wants {len(sizes)} indices, a tuple for all samples "
            f"or a list of one for each"
        )
    if not all(isinstance(size, int) for size in sizes):
        raise TargetError(
            f"the sizes of output {list(shape)} are open: ask ex.gradient with a weighting of its entries"
        )
    weights = np.zeros((count, *sizes), np.float32)
    for row, index in zip(weights, chosen, strict=True):
        try:
            row[index] = 1
        except IndexError as error:
            raise TargetError(f"target={target!r} is out of range for an output of shape {list(shape)}") from error
    return weights


def baseline_of(given: Any) -> Any:
    """A number, or an array; None is 0."""
    (one,) = given if isinstance(given, tuple) else (given,)
    return 0.0 if one is None else one if isinstance(one, int | float) else array(one)


def sizes_along(name: str, given: Any, count: int) -> list[int]:
    """A whole number for each axis but the batch."""
    inner = given[0] if isinstance(given, tuple) and len(given) == 1 and isinstance(given[0], tuple) else given
    numbers = [inner] * count if isinstance(inner, int) else list(inner)
    if len(numbers) != count or not all(isinstance(n, int) and n > 0 for n in numbers):
        raise OptionError(f"{name}={given!r}: expected {count} positive numbers, one for each axis but the batch")
    return numbers


def check_windows(sizes: Sequence[int], window: Sequence[int], steps: Sequence[int], space: Sequence[int]) -> None:
    """Warn where the last window lies elsewhere than Captum's.

    Args:
        sizes: of the input, the batch first.
        window: its size along each axis but the batch.
        steps: from window to window, likewise.
        space: axes along which windows move; along others they cover everything.

    Raises:
        OptionError: a window that covers a part of the channels.
    """
    for axis in range(1, len(sizes)):
        size, extent, step = sizes[axis], window[axis - 1], steps[axis - 1]
        if axis not in space and extent != size:
            raise OptionError(
                f"sliding_window_shapes={tuple(window)}: a window that covers a part of axis {axis} (of {size}) is not "
                f"offered; windows cover all channels"
            )
        if axis in space and (size - extent) % step:
            warnings.warn(
                f"strides={tuple(steps)} do not lead windows of {extent} to the end of axis {axis} (of {size}): the "
                f"last one is moved to end there, where Captum cuts it off",
                OnnxvizWarning,
                stacklevel=5,  # attribute, _asked and answer lie between
            )
