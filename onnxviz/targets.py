"""Targets beyond classes: small helpers that make the float array which ``target=`` takes.

Each names a score S as weights of the output's entries, S = Σ weight·entry, so that every method that explains a class
explains S as well: ``ex.grad_cam(x, ov.targets.segmentation(mask, 15, ex.predict(x).shape), layer="backbone.layer4")``.

Where the output is that of a softmax or sigmoid the entries are the logits before it, unless the method is asked with
``of="probability"``. Of a model with several outputs, name the one that the target is for: ``output="boxes"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.errors import TargetError

Weights = npt.NDArray[np.float32]


def segmentation(mask: npt.ArrayLike, class_index: int, shape: Sequence[int], *, channel_axis: int = 1) -> Weights:
    """A class inside a mask, of a network with logits for every place: why is it *this*, *there*?

    S is the class's logit, summed over the mask's places and weighed by its values. A mean over the places is
    ``segmentation(mask / mask.sum(), …)``. What the network itself takes for the class is a mask as well:
    ``ex.predict(x).argmax(1) == class_index``.

    Args:
        mask: (*spatial) for all samples, or (N, *spatial): True or False, or weights. It has the output's size, not the
            input's.
        class_index: from 0; negative ones are counted from the end.
        shape: of the output, (N, C, *spatial): ``ex.predict(x).shape``.
        channel_axis: which axis counts the classes; −1 for channels last, (N, *spatial, C).

    Returns:
        Weights of that shape, zero outside the mask and for other classes.

    Raises:
        TargetError: the mask does not fit the output or is empty, or there is no such class or axis.
    """
    sizes = _sizes(shape)
    axis = _index(channel_axis, len(sizes), "channel_axis")
    if axis == 0:
        raise TargetError(f"channel_axis={channel_axis!r} counts the samples; it is 1, or -1 for channels last")
    chosen = _index(class_index, sizes[axis], "class_index")
    inside = _floats(mask, "the mask")
    places = [size for i, size in enumerate(sizes) if i not in {0, axis}]
    if list(inside.shape) not in (places, [sizes[0], *places]):
        raise TargetError(
            f"a mask for an output of shape {sizes}, channel_axis={channel_axis}, has shape {places}, or "
            f"{[sizes[0], *places]} for a mask of each "
            f"sample; got {list(inside.shape)}. Resize it to the output's size (nearest)"
        )
    if not inside.any():
        raise TargetError("the mask is empty: no place is left whose score could be explained")
    weights = np.zeros(sizes, np.float32)
    np.moveaxis(weights, axis, 1)[:, chosen] = inside
    return weights


def box(boxes: npt.ArrayLike, entry: int, shape: Sequence[int], *, box_axis: int = 1) -> Weights:
    """The score, or a coordinate, of boxes that a detector gives: why a class there, why this edge of it?

    S is the entry, summed over the boxes. Boxes are counted in the network's own output, before overlapping ones are
    suppressed: that step picks boxes and has no gradient. One class's best box of each sample of (N, boxes, classes) is
    ``ex.predict(x)[:, :, class_index].argmax(1)[:, None]``.

    Args:
        boxes: a box for all samples, or several (K,), or those of each sample (N, K); from 0, negative ones are counted
            from the end. A box named twice counts twice.
        entry: which number of a box: the column of a class's score or of a coordinate.
        shape: of the output, (N, boxes, entries): ``ex.predict(x)["scores"].shape``.
        box_axis: which axis counts the boxes; 2 for (N, entries, boxes).

    Returns:
        Weights of that shape, zero for all other boxes and entries.

    Raises:
        TargetError: there is no such box, entry or axis, or the output has another rank.
    """
    sizes = _sizes(shape)
    if len(sizes) != 3:
        raise TargetError(f"a detector's output is (N, boxes, entries), or (N, entries, boxes); got shape {sizes}")
    axis = _index(box_axis, 3, "box_axis")
    if axis == 0:
        raise TargetError(f"box_axis={box_axis!r} counts the samples; it is 1 or 2")
    column = _index(entry, sizes[3 - axis], "entry")
    numbers = np.atleast_1d(_array(boxes, "boxes"))
    if not np.issubdtype(numbers.dtype, np.integer) or numbers.ndim > 2 or numbers.size == 0:
        raise TargetError(f"boxes={boxes!r}: expected an integer, several (K,), or several of each sample (N, K)")
    samples, count = sizes[0], sizes[axis]
    if numbers.ndim == 2 and len(numbers) != samples:
        raise TargetError(f"boxes of shape {list(numbers.shape)} for {samples} samples: expected ({samples}, K)")
    if numbers.min() < -count or numbers.max() >= count:
        raise TargetError(f"boxes={boxes!r}: this output has {count} boxes, 0 … {count - 1}")
    weights = np.zeros(sizes, np.float32)
    scores = np.moveaxis(weights, axis, 1)[:, :, column]
    np.add.at(scores, (np.arange(samples)[:, None], np.broadcast_to(numbers, (samples, numbers.shape[-1]))), 1)
    return weights


def similarity(reference: npt.ArrayLike, embedding: npt.ArrayLike | None = None) -> Weights:
    """How like a reference the embedding of the input is: what in it makes the two alike?

    Without ``embedding``, S = y·r/‖r‖, the length of the embedding y along the reference r. Where the network makes its
    embeddings of length 1 that is their cosine. (The plain product y·r is ``target=r``.)

    With ``embedding``, the cosine y·r/(‖y‖‖r‖) of embeddings of any length, for methods that look at the gradient at x
    alone (gradient, saliency, guided backprop, the CAMs of gradients): the weights are its derivative there,
    (r/‖r‖ − cos·y/‖y‖)/‖y‖. Since the cosine does not change with y's length, the score that is reported is 0.

    Args:
        reference: (D,) for all samples, or (N, D): for instance ``ex.predict(other)``, or the mean of several.
        embedding: y, (N, D): ``ex.predict(x)``.

    Returns:
        Weights like the reference, or like the embedding if that is given.

    Raises:
        TargetError: the two do not fit, or one has length 0.
    """
    along = _unit(_floats(reference, "the reference"), "the reference")
    if embedding is None:
        return along.astype(np.float32)
    given = _floats(embedding, "the embedding")
    if given.ndim != 2 or along.shape not in (given.shape, given.shape[1:]):
        raise TargetError(
            f"embeddings are (N, D) and the reference (D,) or (N, D); got {list(given.shape)} and {list(along.shape)}"
        )
    own = _unit(given, "the embedding")
    cosine = (own * along).sum(1, keepdims=True)
    slope = (along - cosine * own) / np.linalg.norm(given, axis=1, keepdims=True)
    return np.asarray(slope, np.float32)


def _sizes(shape: Sequence[int]) -> list[int]:
    """A shape of at least two axes, all of known size."""
    sizes: list[Any] = list(shape) if isinstance(shape, Sequence) else []
    if len(sizes) < 2 or not all(isinstance(size, int | np.integer) and size > 0 for size in sizes):
        raise TargetError(f"shape={shape!r}: expected the output's shape in numbers, ex.predict(x).shape")
    return [int(size) for size in sizes]


def _index(number: Any, count: int, name: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or not -count <= number < count:
        raise TargetError(f"{name}={number!r}: expected an integer from 0 to {count - 1}, or from the end")
    return int(number) % count


def _array(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise TargetError(f"{what}: not an array, {error}") from error


def _floats(values: npt.ArrayLike, what: str) -> npt.NDArray[np.float64]:
    """Finite numbers or truths, in double."""
    array = _array(values, what)
    if array.dtype.kind not in "biuf":
        raise TargetError(f"{what} has dtype {array.dtype}; expected numbers, or True and False")
    if not np.isfinite(array).all():
        raise TargetError(f"{what} contains NaN or infinity")
    return array.astype(np.float64)


def _unit(rows: npt.NDArray[np.float64], what: str) -> npt.NDArray[np.float64]:
    """Vectors along the last axis, each of length 1."""
    if rows.ndim not in {1, 2}:
        raise TargetError(f"{what} has shape {list(rows.shape)}; expected (D,) or (N, D)")
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    if not length.all():
        raise TargetError(f"{what} has length 0, and no direction")
    return np.asarray(rows / length)
