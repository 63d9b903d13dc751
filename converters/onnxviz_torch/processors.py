"""Examples of a network's inputs as its processor of ``transformers`` makes them, and the names of its classes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from onnxviz.errors import OptionError
from onnxviz.image import ImageInput
from onnxviz.image.processors import is_for_pictures, parts
from onnxviz.source import seeded
from onnxviz_torch.state import unwrapped
from onnxviz_torch.subject import Example

TEXT = "the quick brown fox jumps over the lazy dog"
PIXELS = "pixel_values"
"""How ``transformers`` calls pictures as networks take them."""


def example(processor: Any, model: nn.Module) -> Example:
    """What the processor makes of one picture of noise, a sentence, or a second of noise, as far as the model takes it.

    Args:
        processor: what :func:`onnxviz.image.processors.parts` takes.
        model: a network. One whose ``forward`` has no parameter ``pixel_values`` takes its pictures as it calls them.

    Returns:
        Arrays by the names of ``forward``'s parameters, pictures first; or of another library's network the array.

    Raises:
        OptionError: what it makes is nothing that the model takes.
    """
    taken = inspect.signature(unwrapped(model).forward).parameters
    made = {name: array for part in parts(processor) for name, array in _made(part).items()}
    if list(made) == [PIXELS] and PIXELS not in taken:
        return np.asarray(made[PIXELS])
    kept = {name: np.asarray(array) for name, array in made.items() if name in taken}
    if not kept:
        raise OptionError(
            f"processor= ({type(processor).__name__}) makes {', '.join(made)}, and {type(model).__name__} takes "
            f"{', '.join(taken)}: is it this model's? Else give example= and, for pictures, input="
        )
    return kept


def class_names(model: nn.Module) -> tuple[str, ...] | None:
    """``config.id2label``, which networks of ``transformers`` have; None where it holds LABEL_0, LABEL_1, … alone."""
    labels = getattr(getattr(model, "config", None), "id2label", None)
    if not isinstance(labels, Mapping) or set(labels) != set(range(len(labels))):
        return None
    names = tuple(str(labels[index]) for index in range(len(labels)))
    return None if names == tuple(f"LABEL_{index}" for index in range(len(names))) else names


def _made(part: Any) -> Mapping[str, Any]:
    if is_for_pictures(part):
        image = ImageInput.from_processor(part)
        pixels = np.random.default_rng(0).integers(0, 256, (*np.atleast_1d(image.size), 3)).astype(np.uint8)
        return {PIXELS: image.encode(pixels)}
    if hasattr(part, "sampling_rate"):
        sound = seeded([int(part.sampling_rate)])
        made: Mapping[str, Any] = part(sound, sampling_rate=part.sampling_rate, return_tensors="np")
        return made
    text: Mapping[str, Any] = part(TEXT, return_tensors="np")
    return text
