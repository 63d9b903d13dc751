"""One layer's gradient against the source framework's own, by code that shares nothing with the conversion's check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

import onnxviz as ov
from benchmarks.sweep.originals import Array, Difference, Feeds, Original, original_of
from benchmarks.sweep.outcome import Agreement
from onnxviz.engine.layers import LayerTable
from onnxviz.engine.targets import Of
from onnxviz.errors import CheckFailedError

DRAWS = 8
"""Inputs that are tried: at a kink of ReLU two correct programs differ by a whole term."""


COSINE = 0.999
"""Of the gradients' directions, on all inputs."""


def compare(model: object, explainer: ov.Explainer) -> Agreement:
    """The agreement at the layer nearest to the middle whose gradient the original can tell and is not all zero.

    Raises:
        CheckFailedError: the gradients differ, or there is no such layer.
    """
    original = original_of(model)
    if not _flows(explainer):
        raise CheckFailedError("the gradient of the inputs is zero everywhere, so that nothing was compared")
    for layer in _from_the_middle(explainer.layers, original):
        found: list[Difference] = []
        for difference in _differences(original, explainer, layer):
            found.append(difference)
            agreement = _taken_together(found, original.by, layer)
            if _holds(agreement, original):
                return agreement
        if found:
            raise CheckFailedError(
                f"the gradient of layer {layer!r} is not that of {original.by}: on the best of {len(found)} inputs it "
                f"differs by {agreement.largest:.1e}, the median by {agreement.median:.1e}, the least cosine is "
                f"{agreement.cosine:.6f}"
            )
    raise CheckFailedError(f"there is no layer whose gradient could be compared with {original.by}")


def _taken_together(found: Sequence[Difference], by: str, layer: str) -> Agreement:
    """The best input's largest difference, the usual median and the least cosine: a kink late in a network moves every
    entry of the one input that lies at it, a wrong rule errs on all.
    """
    return Agreement(
        by,
        min(each.largest for each in found),
        float(np.median([each.median for each in found])),
        min(each.cosine for each in found),
        layer,
    )


def _holds(agreement: Agreement, original: Original) -> bool:
    return (
        agreement.largest <= original.everywhere and agreement.median <= original.usually and agreement.cosine >= COSINE
    )


def _flows(explainer: ov.Explainer) -> bool:
    """Whether anything of the outputs' gradient reaches the inputs, where these have one."""
    feeds = drawn(explainer, 0)
    outputs = [output.name for output in explainer.outputs if output.has_gradient]
    return not any(tensor.has_gradient for tensor in explainer.inputs) or any(
        np.any(explainer.gradient(feeds, weights_like(explainer, feeds, name, 0), output=name).values)
        for name in outputs
    )


def _from_the_middle(layers: LayerTable, original: Original) -> list[str]:
    """Some twenty layers with a gradient that the original knows by the same name, from the middle outwards."""
    able = [layer.name for layer in layers if layer.has_gradient and layer.axes.batch is not None]
    known = [name for name in able if original.knows(name)]
    outwards = sorted(range(len(known)), key=lambda index: abs(index - len(known) // 2))
    return [known[index] for index in outwards[:: 1 + len(known) // 20]]


def _differences(original: Original, explainer: ov.Explainer, layer: str) -> Iterator[Difference]:
    """Of one input after the other; none where the layer's gradient is zero or hidden by rounding."""
    output = next(output for output in explainer.outputs if output.has_gradient)
    logits = original.logits(output.name) if output.activation else None
    of: Of = "probability" if output.activation in ("Softmax", "Sigmoid") and logits is None else "logits"
    for seed in range(DRAWS):
        feeds = drawn(explainer, seed)
        weights = weights_like(explainer, feeds, output.name, seed)
        ours = explainer.gradient(feeds, weights, layer=layer, output=output.name, of=of).values
        if not ours.any():
            return
        difference = original.difference(feeds, layer, logits or output.name, weights, ours)
        if difference is None:
            return
        yield difference


def weights_like(explainer: ov.Explainer, feeds: Feeds, output: str, seed: int) -> Array:
    """N(0, 1) of the shape of an output."""
    values = explainer.predict(feeds)
    shape = (values[output] if isinstance(values, dict) else values).shape
    return np.random.default_rng([seed, 7]).standard_normal(shape).astype(np.float32)


def drawn(explainer: ov.Explainer, seed: int) -> dict[str, Array]:
    """Two samples (or the one batch that the file takes) like the example: normal, or integers of its range.

    Not one: PyTorch 2.13's own gradient of CvT is another for a sample alone than for the same sample beside a second.
    """
    feeds = {}
    for index, tensor in enumerate(explainer.inputs):
        rng, like = np.random.default_rng([seed, index, 11]), explainer.residuals["recipe"][tensor.name]
        batch = tensor.shape[0] if tensor.shape else None
        shape = [] if batch is None else [batch if isinstance(batch, int) else 2, *like["shape"]]
        if "std" in like:
            feeds[tensor.name] = np.asarray(rng.standard_normal(shape) * like["std"] + like["mean"], tensor.dtype)
        else:
            feeds[tensor.name] = np.asarray(rng.integers(like["min"], like["max"], shape, endpoint=True), tensor.dtype)
    return feeds
