"""What the modules of this package share."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from onnxviz.engine.explainer import Explainer
from onnxviz.engine.targets import Of, choose_output
from onnxviz.errors import OptionError, TargetError
from onnxviz.manifest import Output
from onnxviz.source import Array


def explainer(name: str, given: object) -> Explainer:
    """What was given in the place of a model, if it is an explainer; else OptionError."""
    if isinstance(given, Explainer):
        return given
    raise OptionError(
        f"{name} is a {type(given).__name__}; expected an onnxviz.Explainer: convert the model once, "
        f"ov.convert(model, 'net.onnx', example=…), and give ov.load('net.onnx')"
    )


def explained(ex: Explainer) -> Output:
    """The output that is explained."""
    return choose_output(ex.engine.bundle.manifest, None)


def own_score(ex: Explainer) -> Of:
    """The score that a library sees which knows no logits but the model's own output.

    Raises:
        TargetError: the model ends in a log-softmax, which is neither a logit nor a probability.
    """
    output = explained(ex)
    if output.activation == "LogSoftmax":
        raise TargetError(
            f"output {output.name!r} is a log-softmax, whose own gradient the file does not hold; the methods of "
            f"onnxviz.Explainer explain its logits or probabilities"
        )
    return "probability" if output.activation else "logits"


def refuse(where: str, **arguments: object) -> None:
    """OptionError for an argument that is set to anything but None or False."""
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise OptionError(f"{where}: {name}={value!r} is not offered here; leave it out")


def like(array: Array, given: Any) -> Any:
    """An array as what was given is one: a tensor of its library and device, where that reads DLPack; else of numpy."""
    library = sys.modules.get(type(given).__module__.partition(".")[0])
    from_dlpack = getattr(library, "from_dlpack", None)
    if from_dlpack is None or isinstance(given, np.ndarray):
        return array
    tensor = from_dlpack(np.array(array))  # of its own memory, which may be written
    return tensor.to(given.device) if hasattr(tensor, "to") else tensor
