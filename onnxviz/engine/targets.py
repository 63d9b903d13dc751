"""What is explained: from a user's ``target`` to the seed at which the gradient starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import onnx
from onnx import helper

from onnxviz.engine.cut import Sketch
from onnxviz.errors import OptionError, TargetError, nearest
from onnxviz.manifest import Manifest, Output, is_batch, seed_name
from onnxviz.source import Array

Of = Literal["logits", "probability"]
SCORE, TOP = "head/score", "head/target"


@dataclass(frozen=True)
class Target:
    """A target made definite.

    Attributes:
        classes: (N, T) class indices, or None where the top-1 is meant or a weighting was given.
        seeds: T cotangents of the logits, each of batch N, with size 1 along axes that they are constant over; None
            where the top-1 is meant, which the graph finds.
        several: whether results get an axis of targets.
        given: what the result reports as its target.
    """

    classes: Array | None
    seeds: list[Array] | None
    several: bool
    given: Array | None

    def of_samples(self, index: Array) -> Target:
        """The target of some of the samples, in this order."""
        seeds = None if self.seeds is None else [seed[index] for seed in self.seeds]
        return replace(self, seeds=seeds, classes=None if self.classes is None else self.classes[index])


def choose_output(manifest: Manifest, name: str | None) -> Output:
    """The output that is explained: the only one with a gradient, or the named one."""
    outputs = {o.name: o for o in manifest.outputs}
    explainable = [o for o in manifest.outputs if o.has_gradient]
    if name is not None:
        if name not in outputs:
            raise TargetError(f"there is no output {name!r}; outputs: {', '.join(outputs)}{nearest(name, outputs)}")
        if not outputs[name].has_gradient:
            raise TargetError(
                f"output {name!r} has no gradient (it is not a float that depends on an input through differentiable "
                f"operators, or the file was converted with gradient=False); outputs with gradient: "
                f"{', '.join(o.name for o in explainable) or 'none'}"
            )
        return outputs[name]
    if not explainable:
        raise TargetError("no output of this file has a gradient: convert the model with gradient=True")
    return explainable[0]


def called(name: str, classes: Sequence[str]) -> list[int]:
    """The classes of that name; else those that have it in any case, alone or as one of their names between commas."""
    said = name.casefold()
    return [i for i, one in enumerate(classes) if one == name] or [
        i for i, one in enumerate(classes) if said in {one.casefold(), *map(str.strip, one.casefold().split(","))}
    ]


def class_index(name: str, classes: Sequence[str] | None) -> int:
    """The class of that name; TargetError where there is none, or more than one."""
    found = called(name, classes or ())
    if len(found) == 1:
        return found[0]
    if found:
        raise TargetError(f"the classes {', '.join(map(str, found))} are all called {name!r}: give an index")
    unnamed = "" if classes else ": the file has no class names, so give the index, or convert(…, classes=[…])"
    raise TargetError(f"there is no class {name!r}{nearest(name, classes or ())}{unnamed}")


def by_index(target: Any, classes: Sequence[str] | None) -> Any:
    """A target in which names of classes, wherever they stand in it, are indices; any other as it is."""
    if isinstance(target, np.ndarray) and target.dtype.kind in "UT":
        target = target.tolist()
    if isinstance(target, str):
        return class_index(target, classes)
    return [by_index(one, classes) for one in target] if isinstance(target, list | tuple) else target


def resolve(target: Any, output: Output, batch: int, dtype: np.dtype[Any]) -> Target:
    """Check a target against the output it is meant for.

    Raises:
        TargetError: it is out of range or has the wrong shape.
    """
    if target is None:
        _channel(output, "target=None, the class with the highest score,")
        return Target(None, None, several=False, given=None)
    try:
        array = np.asarray(target)
    except ValueError as error:
        raise TargetError(f"target {target!r} is ragged: give the same number of targets for each sample") from error
    if array.dtype == bool or np.issubdtype(array.dtype, np.floating):
        seed = _weighting(array.astype(dtype), output, batch)
        return Target(None, [seed], several=False, given=array)
    if not np.issubdtype(array.dtype, np.integer):
        raise TargetError(f"target has dtype {array.dtype}; a class is an integer, a weighting a float array")
    if array.ndim > 2 or array.size == 0:
        raise TargetError(
            f"integer targets of shape {array.shape}: give one class, one per sample (N,), or several per sample (N, T)"
        )
    several = array.ndim == 2
    if array.ndim == 1 and len(array) != batch:
        raise TargetError(
            f"{len(array)} targets for {batch} samples: one per sample is expected. For several targets of each "
            f"sample give a nested list, [{array.tolist()}]"
        )
    if several and len(array) not in (1, batch):
        raise TargetError(f"targets of shape {array.shape} for {batch} samples: the first axis must be 1 or {batch}")
    table = np.broadcast_to(
        array.reshape(-1, 1) if array.ndim < 2 else array, (batch, array.shape[1] if several else 1)
    )
    axis, count = _channel(output, f"target={target!r}")
    if table.min() < -count or table.max() >= count:
        raise TargetError(
            f"target {target!r} is out of range: output {output.name!r} has {count} classes, 0 … {count - 1}"
        )
    table = table % count
    seeds = [_one_hot(column, axis, count, output, dtype) for column in table.T]
    return Target(table, seeds, several, table if several else table[:, 0])


def _channel(output: Output, what: str) -> tuple[int | None, int]:
    """The axis of the logits that counts classes, and how many there are; None where there is one unit without axis."""
    axis, shape = output.logits_axes.channel, output.logits_shape
    if len(shape) == 1:
        return None, 1
    if axis is None:
        raise TargetError(
            f"{what} needs to know which axis of output {output.name!r} (logits of shape {list(shape)}) counts the "
            f"classes, and the graph does not tell. Give a float array of that shape that weighs its entries"
        )
    size = shape[axis]
    if not isinstance(size, int):
        raise TargetError(f"{what}: the class axis of output {output.name!r} has no fixed size ({list(shape)})")
    return axis, size


def _one_hot(classes: Array, axis: int | None, count: int, output: Output, dtype: np.dtype[Any]) -> Array:
    if axis is None:
        return np.ones(len(classes), dtype)
    shape = [1] * len(output.logits_shape)
    shape[0], shape[axis] = len(classes), count
    rows: Array = classes[:, None] == np.arange(count)
    return rows.astype(dtype).reshape(shape)


def _weighting(array: Array, output: Output, batch: int) -> Array:
    """A float target as a cotangent: (C,) along the class axis, or like the logits with or without the batch axis."""
    shape = output.logits_shape
    sizes = tuple(  # None where the size is known only when the model runs
        batch if i == output.logits_axes.batch or is_batch(d) else d if isinstance(d, int) else None
        for i, d in enumerate(shape)
    )
    if not np.isfinite(array).all():
        raise TargetError("the target weighting contains NaN or infinity")
    axis = output.logits_axes.channel
    like_output = tuple(batch if i == output.axes.batch else d for i, d in enumerate(output.shape))
    fixed = [s for s in sizes if s is not None]
    if array.shape == like_output and len(fixed) == len(sizes) and array.size == math.prod(fixed):
        array = array.reshape(fixed)
    if array.ndim == 1 and axis is not None and len(array) == shape[axis]:
        array = array.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    elif _fits(array.shape, sizes[1:]):
        array = array[None]
    if not _fits(array.shape, sizes, ones=True):
        raise TargetError(
            f"a float target weighs the logits of output {output.name!r}: expected shape {list(sizes)}"
            + (f" or [{shape[axis]}]" if axis is not None else "")
            + f", got {list(array.shape)}. A class is given as an integer"
        )
    return np.ascontiguousarray(np.broadcast_to(array, (batch, *array.shape[1:])))


def _fits(shape: Sequence[int], sizes: Sequence[int | None], *, ones: bool = False) -> bool:
    """Whether a shape is one of these sizes, of which some may be open; with ``ones`` also one that broadcasts."""
    return len(shape) == len(sizes) and all(
        s in (None, a) or (ones and a == 1) for a, s in zip(shape, sizes, strict=True)
    )


# ----- the same in the graph -----


def add_seed(sketch: Sketch, output: Output, of: Of, *, top: bool, dtype: int) -> None:
    """Compute or declare the seed of ``output`` in a sketch, and the score that it stands for.

    Args:
        sketch: whose forward pass computes the logits.
        output: what is explained.
        of: whether the score is the logit or the probability.
        top: whether the graph chooses the class itself; else the seed is an input.
        dtype: the ONNX element type of the logits.
    """
    if of not in ("logits", "probability"):
        raise OptionError(f"of={of!r}: expected 'logits' or 'probability'")
    name, into = seed_name(output.name), sketch.seeding
    raw = _top_seed(sketch, output, dtype) if top else sketch.input(f"{name}#given", dtype, None)
    values = output.logits
    if of == "probability":
        values = _probability(sketch, output)
        wide = sketch.add("Mul", raw, values, into=into)
        if output.activation == "Sigmoid" or _single(output):
            rest = sketch.add(
                "Sub", sketch.add("CastLike", np.array(1, np.float32), values, into=into), values, into=into
            )
            seed = sketch.add("Mul", wide, rest, into=into)
        else:
            axis = np.array([_softmax_axis(output)], np.int64)
            total = sketch.add("ReduceSum", wide, axis, into=into, keepdims=1)
            seed = sketch.add("Sub", wide, sketch.add("Mul", values, total, into=into), into=into)
    else:
        seed = raw
    into.append(helper.make_node("Identity", [seed], [name], name=name))
    weighted = sketch.add("Mul", raw, values)
    if top and of == "probability" and _single(output):  # of the decision that was made: 1 − p where it is negative
        weighted = sketch.add("Add", weighted, sketch.add("Relu", sketch.add("Neg", raw)))
    rank = len(output.logits_shape)
    if rank > 1:
        weighted = sketch.add("ReduceSum", weighted, np.arange(1, rank), keepdims=0)
    sketch.output(weighted, SCORE)


def _single(output: Output) -> bool:
    axis = output.logits_axes.channel
    return len(output.logits_shape) == 1 or (axis is not None and output.logits_shape[axis] == 1)


def _softmax_axis(output: Output) -> int:
    if output.activation_axis is not None:
        return output.activation_axis % len(output.logits_shape)
    axis, _ = _channel(output, "of='probability'")
    return axis or 0


def _probability(sketch: Sketch, output: Output) -> str:
    """What the model's last activation makes of the logits; without one, softmax, or sigmoid of a single unit."""
    if output.activation == "Sigmoid" or (output.activation is None and _single(output)):
        return sketch.add("Sigmoid", output.logits, into=sketch.seeding)
    return sketch.add("Softmax", output.logits, into=sketch.seeding, axis=_softmax_axis(output))


def _top_seed(sketch: Sketch, output: Output, dtype: int) -> str:
    """One at the class with the highest score; with one unit, the sign of the decision."""
    axis, count = _channel(output, "target=None")
    rank, into, logits = len(output.logits_shape), sketch.seeding, output.logits
    others = [i for i in range(1, rank) if i != axis]
    if others:
        logits = sketch.add("ReduceSum", logits, np.array(others), into=into, keepdims=1)
    if axis is None or count == 1:
        sign = sketch.add("Sign", logits, into=into)
        decision = sketch.add(
            "Greater", logits, sketch.add("CastLike", np.array(0, np.float32), logits, into=into), into=into
        )
        whole = sketch.add("Cast", decision, to=onnx.TensorProto.INT64)
        sketch.output(sketch.add("Reshape", whole, np.array([-1], np.int64)), TOP)
        return sign
    chosen = sketch.add("ArgMax", logits, into=into, axis=axis, keepdims=1)
    sketch.output(sketch.add("Reshape", chosen, np.array([-1], np.int64)), TOP)
    squeezed = sketch.add("Squeeze", chosen, np.array([axis]), into=into)
    values = np.array([0, 1], np.float32)  # ONNX Runtime has no OneHot of doubles, nor of half floats
    marked = sketch.add("OneHot", squeezed, np.array(count, np.int64), values, into=into, axis=axis)
    return marked if dtype == onnx.TensorProto.FLOAT else sketch.add("Cast", marked, into=into, to=dtype)
